"""The result of a suite as one JSON: the suite, what it was measured on, and what came out of each row."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trainer
from trainer.bench import growth, machine, peak
from trainer.bench.measured import COMPLETED
from trainer.bench.peak import Peak
from trainer.bench.row import Row, reference_of
from trainer.bench.statistics import interval
from trainer.bench.suite import Suite

FORMAT = 1
"""Raised when what is written changes its meaning."""
METHOD = {
    "rate": "the median over the measured steps of a round; a processor second: sum over sum of these steps",
    "interval": "95 %, Student's t over the rounds; null where there is one round",
    "ratio": "to the reference row of the same round, then as above",
    "loss": "of the last step of the first round; = where each step lies within loss_tolerance of the reference row's, "
    "else the largest distance as a share of it",
    "memory": "peak: the device's allocator where there is one, else the process; above_imports: the process at most, "
    "less what it took before there were rows and weights; of the largest rank",
    "model_flops": "what the model needs: no gradients of frozen weights, the head where something is learned, causal "
    "attention; padding and what is computed again left out",
}
"""How the numbers came to be, beside them."""
Run = Mapping[str, Any]


def begun(suite: Suite, recipe: Mapping[str, Any], command: str) -> dict[str, Any]:
    """What is known before the first run, and must not change until the last."""
    return {
        "format": FORMAT,
        "shardtune": trainer.__version__,
        "sources": machine.sources(),
        "command": command,
        "suite": {**suite.model_dump(mode="json", by_alias=True), "recipe": recipe},
        "hardware": machine.hardware(),
    }


def of_suite(
    start: Mapping[str, Any], suite: Suite, rows: Sequence[Row], runs: Sequence[Sequence[Run]], peaks: "Peaks"
) -> dict[str, Any]:
    """The result; `runs` are those of each row so far, by round."""
    told = []
    for row, own in zip(rows, runs, strict=True):
        number = reference_of(suite, rows, row)
        told.append(_row(suite, row, own, [] if number is None else runs[number], peaks))
    environment: Mapping[str, Any] = next(
        (
            run["environment"]
            for row, own in zip(rows, runs, strict=True)
            for run in own
            if run["status"] == COMPLETED and row.peer is None
        ),
        {},
    )
    return {
        **start,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": environment.get("packages", {}),
        "device": environment.get("device"),
        "method": METHOD,
        "complete": all(len(own) == suite.rounds or _failure(own) for own in runs),
        "rows": told,
        "growth": growth.of(suite, told),
    }


class Peaks:
    """The peaks of the devices of rows; a measurement is made once."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._measured: dict[str, Peak | None] = {}

    def of(self, run: Run) -> Peak | None:
        """The peak that one process of a run had."""
        precision = str(run["plan"]["engine"]["precision"])
        found = peak.known(str(run["environment"]["device"]), precision)
        # Products of a CUDA device would be held against its host's.
        if found or not self.suite.measure_peak or run["memory_bytes"]["allocated"] is not None:
            return found
        if precision not in self._measured:
            self._measured[precision] = peak.measured(precision, self.suite.threads)
        return self._measured[precision]


def _failure(runs: Sequence[Run]) -> Run | None:
    return next((run for run in runs if run["status"] != COMPLETED), None)


def _row(suite: Suite, row: Row, runs: Sequence[Run], reference: Sequence[Run], peaks: Peaks) -> dict[str, Any]:
    failure = _failure(runs)
    content: dict[str, Any] = {
        "name": row.name,
        "sweep": row.sweep,
        "size": row.size,
        "peer": row.peer,
        "status": failure["status"] if failure else COMPLETED if runs else "not_run",
        "error": failure["error"] if failure else None,
        "recipe": runs[0]["recipe"] if runs else None,
    }
    if failure or not runs:
        return content
    steps = [_Measured(run, suite.steps.warm_up) for run in runs]
    return {
        **content,
        "tokens_per_second": _over(one.rate("tokens") for one in steps),
        "learned_tokens_per_second": None if row.peer else _over(one.rate("targets") for one in steps),
        "tokens_per_processor_second": _over(one.processor_rate() for one in steps),
        "seconds_per_step": _over(one.middle("seconds") for one in steps),
        "startup_seconds": _over(run["startup_seconds"] for run in runs),
        "padding": _shared(steps, "tokens", "positions"),
        "learned": None if row.peer else 1 - _shared(steps, "targets", "tokens"),
        "memory": _memory(runs),
        "model_flops": _model_flops(runs, steps, peaks),
        "ratio": _ratio(steps, reference, suite.steps.warm_up, lambda one: one.rate("tokens")),
        "processor_ratio": _ratio(steps, reference, suite.steps.warm_up, _Measured.processor_rate),
        "parity": _parity(runs, reference, suite.loss_tolerance),
        "plan": runs[0]["plan"],
        "result": runs[0].get("result"),
        "packages": runs[0]["environment"]["packages"] if row.peer else None,
        "rounds": [
            {key: run[key] for key in ("wall_seconds", "startup_seconds", "memory_bytes", "series")} for run in runs
        ],
    }


class _Measured:
    """The measured steps of one run."""

    def __init__(self, run: Run, warm_up: int) -> None:
        self.series = {name: values[warm_up:] for name, values in run["series"].items() if values is not None}
        self.flops = None if run["model_flops"] is None else run["model_flops"][warm_up:]

    def rate(self, name: str) -> float:
        """What is counted by `name` a second: the median over steps."""
        pairs = zip(self.series[name], self.series["seconds"], strict=True)
        return float(statistics.median(count / seconds for count, seconds in pairs))

    def processor_rate(self) -> float:
        """Tokens a processor second; a clock tick at least, which short steps may not reach."""
        return float(sum(self.series["tokens"]) / max(0.01, sum(self.series["processor_seconds"])))

    def middle(self, name: str) -> float:
        """The median over steps."""
        return float(statistics.median(self.series[name]))


def _over(values: Any) -> dict[str, Any]:
    """An interval over rounds, and the rounds themselves."""
    listed = [float(value) for value in values]
    return {**interval(listed).to_json(), "rounds": listed}


def _shared(steps: Sequence[_Measured], part: str, whole: str) -> float:
    """The share of what is not `part`."""
    counted, all_of_it = (sum(sum(one.series[name]) for one in steps) for name in (part, whole))
    return float(1 - counted / all_of_it)


def _memory(runs: Sequence[Run]) -> dict[str, Any]:
    kinds = [run["memory_bytes"] for run in runs]
    device = [kind["allocated"] if kind["allocated"] is not None else kind["resident"] for kind in kinds]
    return {
        "peak": _over(device),
        "above_imports": _over(kind["resident"] - kind["imports"] for kind in kinds),
        "by_kind": {
            name: max((kind[name] for kind in kinds if kind[name] is not None), default=None) for name in kinds[0]
        },
    }


def _model_flops(runs: Sequence[Run], steps: Sequence[_Measured], peaks: Peaks) -> dict[str, Any] | None:
    if any(one.flops is None for one in steps):
        return None
    rates = [
        statistics.median(
            flops / seconds for flops, seconds in zip(one.flops or (), one.series["seconds"], strict=True)
        )
        for one in steps
    ]
    # What is kept is needed by the model and not computed, so that it says nothing of how well the device is used.
    kept = runs[0]["recipe"].get("strategy", {}).get("cache", "none") != "none"
    most = None if kept else peaks.of(runs[0])
    ranks = int(runs[0]["plan"]["batch"]["ranks"])
    return {
        "per_step": statistics.fmean(sum(one.flops or ()) / len(one.flops or ()) for one in steps),
        "per_second": _over(rates),
        "mfu": None if most is None else statistics.fmean(rates) / (most.flops_per_second * ranks),
        "peak_flops_per_second": None if most is None else most.flops_per_second,
        "peak_source": None if most is None else most.source,
    }


def _ratio(
    steps: Sequence[_Measured], reference: Sequence[Run], warm_up: int, rate: Callable[[_Measured], float]
) -> dict[str, Any] | None:
    """How the rate of each round stands to the reference row's of that round."""
    if not reference or _failure(reference):
        return None
    pairs = zip(steps, (_Measured(run, warm_up) for run in reference), strict=False)
    return _over(rate(one) / rate(other) for one, other in pairs)


def _parity(runs: Sequence[Run], reference: Sequence[Run], tolerance: float) -> dict[str, Any] | None:
    """How far the losses of the first round lie from the reference row's, as a share of them."""
    if not reference or _failure(reference):
        return None
    pairs = list(zip(runs[0]["series"]["loss"], reference[0]["series"]["loss"], strict=False))
    apart = [abs(one - other) / abs(other) for one, other in pairs if other]
    if not apart:
        return None
    return {"first": apart[0], "largest": max(apart), "tolerance": tolerance, "equal": max(apart) <= tolerance}
