import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trainer.callbacks.metrics_file import KEYS, MetricsFile
from trainer.errors import RunError
from trainer.loop.callback import EvaluationMetrics, StepMetrics
from trainer.loop.state import State


def training(step: int, loss: float = 2.5, grad_norm: float | None = 1.5) -> StepMetrics:
    return StepMetrics(
        step=step,
        epoch=step / 100,
        loss=loss,
        lr=2e-4,
        grad_norm=grad_norm,
        tokens=640,
        targets=320,
        positions=800,
        squares=102_400,
        tokens_per_second=5210.5,
        peak_memory_bytes=1 << 30,
        seconds=step * 0.5,
        processor_seconds=1.5,
    )


def validation(step: int, loss: float = 2.0) -> EvaluationMetrics:
    return EvaluationMetrics(step=step, epoch=step / 100, loss=loss, tokens=64, targets=32, seconds=0.25)


def strict(line: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    event = json.loads(line, parse_constant=refuse)
    assert isinstance(event, dict)
    return event


def events(folder: Path) -> list[dict[str, Any]]:
    return [strict(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def names(folder: Path) -> list[tuple[int, str]]:
    return [(event["step"], event["split"]) for event in events(folder)]


def run(folder: Path, *steps: int, loss: float = 2.5, resumed_from: int | None = None) -> None:
    """A run that reports and validates at `steps`, and is then killed: `end` is never called."""
    state = State(resumed_from=resumed_from)
    metrics = MetricsFile(folder)
    metrics.start(state)
    for step in steps:
        metrics.report(state, training(step, loss))
        metrics.evaluated(state, validation(step))
    metrics._file.close()  # type: ignore[union-attr]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_training_line_holds_every_key(tmp_path: Path) -> None:
    run(tmp_path, 10)

    line = events(tmp_path)[0]
    assert tuple(line) == KEYS
    assert line == {"split": "train", "metrics": None, **vars(training(10))}


def test_what_a_validation_does_not_measure_is_null(tmp_path: Path) -> None:
    run(tmp_path, 10)

    line = events(tmp_path)[1]
    of_training = ["lr", "grad_norm", "positions", "squares", "tokens_per_second", "peak_memory_bytes"]
    absent = dict.fromkeys([*of_training, "processor_seconds"])
    assert tuple(line) == KEYS
    held = {key: value for key, value in vars(validation(10)).items() if key != "classes"}
    assert line == {"split": "validation", **held, **absent}


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path)
    metrics.start(State())
    metrics.report(State(), training(10))
    before_the_end = events(tmp_path)
    metrics.end(State())

    assert len(before_the_end) == 1


@pytest.mark.parametrize("value, name", [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_a_value_that_json_lacks_is_null_and_named(tmp_path: Path, value: float, name: str) -> None:
    metrics = MetricsFile(tmp_path)
    metrics.start(State())
    metrics.report(State(), training(10, loss=value, grad_norm=value))
    metrics.end(State())

    line = events(tmp_path)[0]
    assert (line["loss"], line["grad_norm"]) == (None, None)
    assert line["not_finite"] == {"loss": name, "grad_norm": name}


def test_a_resume_cuts_off_the_steps_that_a_killed_process_left(tmp_path: Path) -> None:
    run(tmp_path, 10, 20, 30, loss=1.0)
    kept = (tmp_path / "metrics.jsonl").read_bytes().splitlines()[:4]
    run(tmp_path, 30, 40, loss=2.0, resumed_from=20)

    losses = [(event["step"], event["loss"]) for event in events(tmp_path) if event["split"] == "train"]
    assert losses == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]
    assert (tmp_path / "metrics.jsonl").read_bytes().splitlines()[:4] == kept


def test_a_step_between_two_reports_can_be_resumed_from(tmp_path: Path) -> None:
    run(tmp_path, 10, 20, 30)
    run(tmp_path, 30, resumed_from=25)

    assert [step for step, split in names(tmp_path) if split == "train"] == [10, 20, 30]


def test_validating_again_where_the_resume_starts_adds_no_second_line(tmp_path: Path) -> None:
    run(tmp_path, 10, 20)
    run(tmp_path, 20, 30, resumed_from=20)

    assert len(names(tmp_path)) == len(set(names(tmp_path))) == 6


def test_a_run_from_the_beginning_drops_what_a_killed_one_left(tmp_path: Path) -> None:
    run(tmp_path, 10, 20)
    run(tmp_path, 10)

    assert names(tmp_path) == [(10, "train"), (10, "validation")]


@pytest.mark.parametrize("torn", [b'{"step": 20, "epo', b"\x00\x00\xff", b"7", b"{}"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    run(tmp_path, 10)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    run(tmp_path, 20, resumed_from=15)

    assert [step for step, split in names(tmp_path) if split == "train"] == [10, 20]


def test_a_line_that_lost_only_its_newline_is_kept(tmp_path: Path) -> None:
    run(tmp_path, 10)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    run(tmp_path, 20, resumed_from=10)

    assert names(tmp_path) == [(10, "train"), (10, "validation"), (20, "train"), (20, "validation")]


def test_a_resume_without_a_file_starts_one(tmp_path: Path) -> None:
    run(tmp_path, 30, resumed_from=20)

    assert names(tmp_path) == [(30, "train"), (30, "validation")]


def test_a_resume_that_cannot_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    run(tmp_path, 10, 20, 30)
    before = (tmp_path / "metrics.jsonl").read_bytes()

    with no_file_larger_than(100), pytest.raises(RunError, match=r"metrics\.jsonl"):
        MetricsFile(tmp_path).start(State(resumed_from=20))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_full_device_ends_the_run_with_a_message_and_loses_no_line(tmp_path: Path) -> None:
    run(tmp_path, 10)
    room = (tmp_path / "metrics.jsonl").stat().st_size + 20
    metrics = MetricsFile(tmp_path)
    metrics.start(State(resumed_from=10))

    with no_file_larger_than(room), pytest.raises(RunError, match="cannot be written"):
        metrics.report(State(), training(20))
    metrics.end(State())
    run(tmp_path, 20, resumed_from=10)
    assert names(tmp_path) == [(10, "train"), (10, "validation"), (20, "train"), (20, "validation")]


def test_end_without_a_start_does_nothing(tmp_path: Path) -> None:
    MetricsFile(tmp_path).end(State())

    assert list(tmp_path.iterdir()) == []
