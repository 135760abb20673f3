"""Between phases what goes on keeps its state, what rests loses it, what begins counts from its own first step.

AdamW of torch over the same rows, each weight with a state of its own, is the reference.
"""

from functools import cache
from typing import Any

import pytest
import torch
from distributed import phased
from distributed.alone import as_only_rank
from distributed.pair import Pair

ENGINES = [("torch", 0), ("deepspeed", 0), ("deepspeed", 1), ("deepspeed", 2), ("deepspeed", 3)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"master": "kahan"},
    {"kind": "adamw_8bit"},
    {"in_backward": True},
    *({"kind": kind} for kind in ("adafactor", "lion", "sgd", "muon", "galore")),
]


@cache
def reference() -> list[phased.Weights]:
    return phased.reference()


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_shares_step_as_a_plain_loop_does(pair: Pair, kind: str, zero: int) -> None:
    found = pair.run(phased.run, kind, zero, {})

    for number, wanted in enumerate(reference()):
        ours = found[0][number]
        worst = max(float((ours["weights"][name] - wanted[name]).abs().max()) for name in wanted)
        assert worst < 2e-5, (number, worst)
        assert all(each[number]["kept"] for each in found)
        held = sum(each[number]["moments"] for each in found) / (1 if zero else 2)
        # What is shared out is padded to whole shares.
        assert ours["trained"] <= held <= 1.05 * ours["trained"]


@pytest.mark.parametrize(
    ("kind", "zero", "master"),
    [*((*engine, "float32") for engine in ENGINES), ("deepspeed", 2, "stochastic"), ("deepspeed", 3, "stochastic")],
)
def test_shares_of_bfloat16_keep_their_masters(pair: Pair, kind: str, zero: int, master: str) -> None:
    found = pair.run(phased.run, kind, zero, {"master": master}, "bfloat16")

    assert all(phase["kept"] for each in found for phase in each)


@pytest.mark.parametrize("optimizer", ["lion", "sgd"])
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_moments_that_are_not_adams_are_carried_too(pair: Pair, kind: str, zero: int, optimizer: str) -> None:
    found = pair.run(phased.run, kind, zero, {"kind": optimizer})

    assert all(phase["kept"] for each in found for phase in each)


@pytest.mark.parametrize("options", OPTIONS)
def test_one_process_carries_whatever_its_optimizer_keeps(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    as_only_rank(monkeypatch)

    found = phased.run("torch", 0, options, "bfloat16" if options.get("master") else "float32")

    assert all(phase["kept"] for phase in found)
    if not options or options.get("in_backward"):
        worst = max(
            float((phase["weights"][name] - wanted[name]).abs().max())
            for phase, wanted in zip(found, reference(), strict=True)
            for name in wanted
        )
        assert worst < 2e-5
    assert not torch.equal(
        found[0]["weights"]["model.layers.1.mlp.up_proj.weight"],
        found[1]["weights"]["model.layers.1.mlp.up_proj.weight"],
    )
