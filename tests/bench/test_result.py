import json

import pytest
from bench.made import failed, of, run, suite

from trainer.bench.statistics import interval

A, B = [run(1000.0), run(1010.0), run(1020.0)], [run(500.0), run(505.0), run(510.0)]


def test_rates_leave_the_warm_up_out_and_padding_aside() -> None:
    row = of(suite(), [A, B])["rows"][0]

    assert row["tokens_per_second"]["rounds"] == pytest.approx([1000.0, 1010.0, 1020.0])
    assert row["learned_tokens_per_second"]["mean"] == pytest.approx(505.0)
    assert row["tokens_per_processor_second"]["mean"] == pytest.approx(2020.0)
    assert (row["padding"], row["learned"]) == (pytest.approx(0.2), pytest.approx(0.5))
    expected = interval([1000.0, 1010.0, 1020.0])
    assert row["tokens_per_second"]["low"] == pytest.approx(expected.low)
    assert len(row["rounds"][0]["series"]["loss"]) == 5


def test_a_ratio_is_that_of_the_same_round() -> None:
    first, second = of(suite(), [A, B])["rows"]

    assert first["ratio"] is first["parity"] is None
    assert second["ratio"]["rounds"] == pytest.approx([0.5, 0.5, 0.5])
    assert second["processor_ratio"]["mean"] == pytest.approx(0.5)


@pytest.mark.parametrize(("loss", "equal"), [(2.001, True), (2.1, False)])
def test_losses_are_held_against_the_reference_row(loss: float, equal: bool) -> None:
    row = of(suite(), [A, [run(500.0, loss=loss)] * 3])["rows"][1]

    assert row["parity"]["equal"] is equal
    assert row["parity"]["largest"] == pytest.approx(loss / 2 - 1)


def test_memory_is_told_by_kind_and_above_the_imports() -> None:
    memory = of(suite(), [A, B])["rows"][0]["memory"]

    assert memory["peak"]["mean"] == 600 * 2**20
    assert memory["above_imports"]["mean"] == 200 * 2**20
    assert memory["by_kind"] == {"allocated": None, "reserved": None, "resident": 600 * 2**20, "imports": 400 * 2**20}


def test_mfu_is_held_against_the_peak_of_all_processes() -> None:
    runs = [run(1000.0, device="NVIDIA H100 80GB HBM3")] * 3

    flops = of(suite(), [runs, B])["rows"][0]["model_flops"]

    assert flops["per_step"] == 1e9
    assert flops["per_second"]["mean"] == pytest.approx(1e10)
    assert flops["mfu"] == pytest.approx(1e10 / (2 * 989.4e12))
    assert flops["peak_source"] == "data sheet of NVIDIA H100 80GB HBM3, dense bfloat16"


def test_what_is_kept_and_not_computed_tells_no_mfu() -> None:
    kept = {**run(1000.0, device="NVIDIA H100 80GB HBM3"), "recipe": {"strategy": {"cache": "disk"}}}

    flops = of(suite(), [[kept] * 3, B])["rows"][0]["model_flops"]

    assert flops["mfu"] is None
    assert flops["peak_source"] is None


def test_what_is_unknown_is_null() -> None:
    known, unknown = of(suite(), [A, [run(500.0, flops=False)] * 3])["rows"]

    assert known["model_flops"]["mfu"] is None
    assert unknown["model_flops"] is None


def test_a_row_that_failed_holds_its_message_and_the_others_go_on() -> None:
    made = of(suite(), [A, [failed()]])

    assert made["complete"] is True
    assert (made["rows"][1]["status"], made["rows"][1]["error"]) == ("out_of_memory", "memory ran out")
    assert "tokens_per_second" not in made["rows"][1]


def test_a_reference_that_failed_leaves_the_others_without_ratios() -> None:
    row = of(suite(), [[failed()], B])["rows"][1]

    assert row["ratio"] is row["parity"] is None


def test_a_suite_that_was_stopped_is_not_complete() -> None:
    made = of(suite(), [A, []])

    assert made["complete"] is False
    assert made["rows"][1]["status"] == "not_run"


def test_a_result_is_strict_json() -> None:
    made = of(suite(), [A, [failed()]])

    assert json.loads(json.dumps(made, allow_nan=False))["versions"] == {"torch": "2.13.0", "scipy": None}


def test_labels_of_an_axis_name_the_reference_of_each_row() -> None:
    own = suite(
        variants={},
        matrix={"work": {"one": None, "two": None}, "by": {"us": None, "them": {"peer": "transformers"}}},
        reference={"by": "us"},
    )
    theirs = run(500.0) | {"plan": None, "model_flops": None, "environment": {"packages": {"trl": "1.0"}}}
    theirs["series"] = theirs["series"] | {"targets": None, "squares": None}

    rows = of(own, [[run(1000.0)], [theirs], [run(250.0)], [theirs]])["rows"]

    assert [row["peer"] for row in rows] == [None, "transformers", None, "transformers"]
    assert [row["ratio"] and row["ratio"]["mean"] for row in rows] == [None, 0.5, None, 2.0]
    assert rows[1]["learned_tokens_per_second"] is rows[1]["learned"] is None
    assert rows[1]["packages"] == {"trl": "1.0"}
