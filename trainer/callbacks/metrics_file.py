"""`metrics.jsonl`: what the run measured, one JSON object a line; the truth that every other view is made from.

A line holds all keys of `KEYS`; what an event does not have is null. JSON has no number for NaN and the infinities:
such a value is null too, and `not_finite` then names it, as in `"loss": null, "not_finite": {"loss": "nan"}`.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from trainer.errors import RunError
from trainer.loop.callback import Callback, EvaluationMetrics, StepMetrics
from trainer.loop.state import State

NAME = "metrics.jsonl"
KEYS = (
    "step",
    "epoch",
    "split",
    "loss",
    "lr",
    "grad_norm",
    "tokens",
    "targets",
    "positions",
    "squares",
    "tokens_per_second",
    "peak_memory_bytes",
    "seconds",
    "processor_seconds",
    "metrics",
)


class MetricsFile(Callback):
    """Appends each report and validation to `folder/metrics.jsonl`, and holds each step of a split once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: FileIO | None = None
        self._written: set[tuple[int, str]] = set()

    def start(self, state: State) -> None:
        """Leaves the lines up to the step resumed from, none in a run from the beginning, and opens the file."""
        kept = [] if state.resumed_from is None else list(_lines_up_to(self.path, state.resumed_from))
        self._written = {key for key, _ in kept}
        try:
            _replace(self.path, b"".join(line for _, line in kept))
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._cannot_write(error.strerror) from error

    def report(self, state: State, metrics: StepMetrics) -> None:
        """Writes the training metrics since the last report."""
        self._write({"split": "train", **vars(metrics)})

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """Writes the metrics of the validation rows."""
        self._write({"split": "validation", **_numbers(metrics)})

    def tested(self, state: State, metrics: EvaluationMetrics) -> None:
        """Writes the metrics of the test rows."""
        self._write({"split": "test", **_numbers(metrics)})

    def end(self, state: State) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, event: dict[str, Any]) -> None:
        assert self._file is not None, "start comes first"
        key = (event["step"], event["split"])
        # a resumed run may validate the step that it starts from once more: the file holds that already
        if key in self._written:
            return
        line = encode(event)
        try:
            written = self._file.write(line)
        except OSError as error:
            raise self._cannot_write(error.strerror) from error
        if written != len(line):
            raise self._cannot_write("No space left on device")
        self._written.add(key)

    def _cannot_write(self, why: str | None) -> RunError:
        return RunError(
            f"{self.path}: cannot be written ({why}); make room or mend it, then start the same command again"
        )


def _numbers(metrics: EvaluationMetrics) -> dict[str, Any]:
    return {key: value for key, value in vars(metrics).items() if key in KEYS}


def encode(event: dict[str, Any]) -> bytes:
    """One line of the file: all of `KEYS` in their order, strict JSON, a newline at its end."""
    assert set(event) <= set(KEYS), sorted(set(event) - set(KEYS))
    values = {key: event.get(key) for key in KEYS}
    odd = _not_finite(values)
    values.update(dict.fromkeys(odd))
    if values["metrics"]:
        inner = _not_finite(values["metrics"])
        values["metrics"] = {**values["metrics"], **dict.fromkeys(inner)}
        odd |= inner
    if odd:
        values["not_finite"] = odd
    return (json.dumps(values, allow_nan=False) + "\n").encode()


def _not_finite(values: Mapping[str, Any]) -> dict[str, str]:
    """What JSON has no number for, as text."""
    return {key: str(value) for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)}


def _lines_up_to(path: Path, step: int) -> Iterator[tuple[tuple[int, str], bytes]]:
    """The whole lines of steps up to `step`, each split's step once; a torn line is left out."""
    if not path.exists():
        return
    seen = set()
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            event = json.loads(line)
            key = (int(event["step"]), str(event["split"]))
        except (ValueError, TypeError, KeyError):
            continue
        # a line without its newline was cut at the last byte: it is whole, but the next one would stick to it
        if key[0] <= step and key not in seen:
            seen.add(key)
            yield key, line.rstrip(b"\n") + b"\n"


def _replace(path: Path, content: bytes) -> None:
    """Writes a file in one go: a kill at any moment leaves the old one or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
