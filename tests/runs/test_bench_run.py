"""`shardtune bench` from a terminal: a suite that is stopped, goes on, and is compared."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs.command import command, read_json, shardtune

# A row that no processor can run, told before anything is imported.
REFUSED = "variants.refused={model: {attention: flash}, train: {precision: bfloat16}}"
FLASH = "flash needs a CUDA device, and there is none; set it to segments or auto"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """The folder of a smoke suite that Ctrl-C met in its second run; its exit status and what it said."""
    folder = tmp_path_factory.mktemp("bench") / "out"
    process = subprocess.Popen(_smoke(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 120
    while not (folder / "runs" / "002-padded.round-1.log").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    return folder, process.returncode, said


@pytest.fixture(scope="module")
def finished(stopped: tuple[Path, int, str]) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The same command once more."""
    ended = subprocess.run(_smoke(stopped[0]), capture_output=True, text=True, timeout=200)
    return stopped[0], ended


def _smoke(folder: Path) -> list[str]:
    return command("bench", "smoke", "rounds=1", "measure_peak=true", "results=true", REFUSED, "--out", str(folder))


def test_a_stopped_suite_says_so_and_goes_on_with_the_next_row(
    stopped: tuple[Path, int, str], finished: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    _, status, said = stopped
    _, ended = finished

    assert status == 75, said
    assert "Stopped: stopped after 1 of 3 runs; the same command goes on with the next" in said
    assert ended.returncode == 0, ended.stderr
    runs = [line.split()[0] for line in ended.stdout.splitlines() if " of 3  round 1 " in line]
    assert runs == ["2", "3"]


def test_the_result_tells_everything_of_each_row(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = finished
    made = read_json(folder / "result.json")
    packed, padded, refused = made["rows"]

    assert made["complete"] is True
    assert made["versions"]["torch"]
    assert packed["recipe"]["train"]["max_steps"] == len(packed["rounds"][0]["series"]["loss"]) == 8
    assert packed["tokens_per_second"]["mean"] > packed["learned_tokens_per_second"]["mean"] > 0
    assert packed["tokens_per_second"]["low"] is None
    assert packed["padding"] == 0.0 < padded["padding"] < 0.5
    assert 0 < padded["model_flops"]["mfu"] < 1
    assert padded["model_flops"]["peak_source"].startswith("measured: float32 products")
    assert padded["memory"]["peak"]["mean"] > padded["memory"]["above_imports"]["mean"] > 2**20
    assert packed["result"]["nbytes"] > 4 * packed["result"]["trainable"] > 0
    # Padding changes no loss.
    assert padded["parity"]["equal"] is True
    assert (refused["status"], FLASH in refused["error"]) == ("recipe_refused", True)
    assert FLASH in " ".join(ended.stdout.split())
    assert {"RESULTS.md", "page.html"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob("runs/*/model"))


def test_a_result_is_compared_with_itself_and_with_a_worse_one(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    made: dict[str, Any] = read_json(finished[0] / "result.json")
    same = shardtune("bench", "compare", str(finished[0]), str(finished[0]))
    made["rows"][1].update(status="failed", error="broken")
    (tmp_path / "worse.json").write_text(json.dumps(made))
    worse = shardtune("bench", "compare", str(finished[0]), str(tmp_path / "worse.json"), "--json")

    assert same.returncode == 0, same.stderr
    assert "one round tells nothing of the noise" in same.stdout
    assert worse.returncode == 1
    assert [one["row"] for one in json.loads(worse.stdout)["differences"] if one["verdict"] == "broken"] == ["padded"]


def test_a_run_that_takes_too_long_is_ended_and_the_suite_goes_on(tmp_path: Path) -> None:
    ended = shardtune("bench", "smoke", "rounds=2", "limit_seconds=0.3", "--out", str(tmp_path / "out"), "--json")

    rows = json.loads(ended.stdout)["rows"]
    assert ended.returncode == 5
    assert ended.stderr.endswith("Failed: no row of smoke completed; what each said stands above\n")
    assert [row["status"] for row in rows] == ["timed_out", "timed_out"]
    assert rows[0]["error"] == "it took longer than limit_seconds: 0.3; raise that, or make the row smaller"


def test_a_wrong_suite_is_told_at_once(tmp_path: Path) -> None:
    ended = shardtune("bench", "smoke", "round=3", "--out", str(tmp_path / "out"))

    assert ended.returncode == 2
    assert ended.stderr == "The suite is wrong:\n  round: no such key; did you mean rounds?\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "example"), [(["--help"], "smoke"), (["smoke", "--help"], "smoke"), ([], "smoke")])
def test_help_has_an_example(words: list[str], example: str) -> None:
    shown = shardtune("bench", *words)

    assert shown.returncode == 0
    assert f"Example: shardtune bench {example}" in shown.stdout


@pytest.mark.slow
def test_adapters_begin_with_a_made_model(tmp_path: Path) -> None:
    content = yaml.safe_load((Path(__file__).parents[2] / "benchmarks" / "suites" / "smoke.yaml").read_text())
    content |= {
        "made_model": True,
        "variants": {"full": None, "lora": {"adapter": {"kind": "lora"}}},
        "reference": "full",
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))

    ended = shardtune("bench", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out"))

    assert ended.returncode == 0, ended.stderr
    full, lora = read_json(tmp_path / "out" / "result.json")["rows"]
    assert lora["plan"]["parameters"]["trainable"] < full["plan"]["parameters"]["trainable"]
    assert lora["model_flops"]["per_step"] < 0.8 * full["model_flops"]["per_step"]
    # The first loss is that of the same weights.
    assert lora["parity"]["first"] < 1e-5
    assert full["tokens_per_second"]["low"] < full["tokens_per_second"]["mean"]
