import io

from bench.made import failed, of, run, suite
from rich.console import Console

from trainer.bench import table

A, B = [run(1000.0), run(1010.0), run(1020.0)], [run(500.0), run(505.0), run(510.0)]


def test_the_markdown_says_machine_versions_date_and_method() -> None:
    made = of(suite(about="two rows"), [A, [failed(error="ran | out")]])

    told = table.markdown(made)

    assert told.startswith("# made\n\n    shardtune bench made\n\nTwo rows.\n")
    assert "2 cores of A Processor (avx2), 16.0 GiB, 1 thread a process." in told
    assert "shardtune 0.1.0, commit 0123456789ab; torch 2.13.0; Python 3.11.7." in told
    assert "3 rounds, interleaved, of 4 steps after 1 to warm up." in told
    assert "| a | 1,010 ±2% | 2,020 ±2% | 505 | 20.0% | 600 MiB | 200 MiB | 2.0000 |" in told
    assert "| b | out of memory: ran \\| out |  |  |  |  |  |  |" in told
    assert "- interval: 95 %, Student's t over the rounds" in told


def test_what_a_run_left_has_columns_of_its_own() -> None:
    left = {"validation_loss": 0.86414, "trainable": 4884480, "nbytes": 19 * 2**20, "difference": 0.0}
    told = table.markdown(of(suite(), [[{**one, "result": left} for one in A], B]))

    assert "| loss | validation | train | saved | run |" in told
    assert "| 2.0000 | 0.8641 | 4,884,480 | 19.0 MiB | " in told
    assert "validation" not in table.markdown(of(suite(), [A, B]))


def test_what_mfu_is_held_against_is_told() -> None:
    told = table.markdown(of(suite(), [[run(1000.0, device="NVIDIA L4")] * 3, B]))

    assert "- MFU: data sheet of NVIDIA L4, dense bfloat16: 121 TFLOP/s a process" in told


def test_rows_that_share_cores_are_named() -> None:
    assert "More threads than cores: a; b." in table.markdown(of(suite(threads=2), [A, B]))
    assert "More threads" not in table.markdown(of(suite(), [A, B]))


def test_a_suite_that_was_stopped_says_so() -> None:
    assert "The suite was stopped: rows are missing." in table.markdown(of(suite(), [A, []]))


def test_the_terminal_shows_rows_errors_and_growth() -> None:
    sweep = {"values": [1, 2], "keys": ["batch.micro"], "fits": {"seconds_per_token": 1.0}}
    own = suite(variants={"a": None, "b": None}, sweeps={"size": sweep})
    out = io.StringIO()

    table.show(of(own, [A, [failed()], A, B]), Console(file=out, width=120))

    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "a 1,010 ±2% 2,020 ±2% 20.0% 600 MiB 2.0000" in lines
    assert "b: out of memory: memory ran out" in lines
    assert any(line.startswith("size seconds a token 1 ±") and line.endswith("1 holds") for line in lines)


def test_an_exponent_above_the_theory_may_be_noise() -> None:
    sweep = {"values": [1, 2, 4], "keys": ["batch.micro"], "fits": {"seconds_per_token": 1.0, "startup_seconds": -1.0}}
    own = suite(variants={}, reference=None, sweeps={"size": sweep})
    made = of(own, [[run(1000.0), run(1100.0)], [run(500.0), run(400.0)], [run(240.0), run(220.0)]])

    assert [line[-1] for line in table.grown(made)] == ["holds within the noise", "faster than that"]


def test_a_loss_says_whether_it_is_the_references() -> None:
    columns, (_, same, other) = table.lines(
        of(suite(variants={"a": None, "b": None, "c": None}), [A, B, [run(500.0, loss=2.2)] * 3])
    )

    assert (columns[-1], same[-1], other[-1]) == ("loss", "2.0000 =", "2.2000 ≠ 1e-01")
