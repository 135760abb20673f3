from typing import Any

import a_recipe
import pytest

from trainer.config.optimizer_rules import OPTIMIZER_RULES
from trainer.config.recipe import Recipe
from trainer.errors import RecipeError

EARLY: dict[str, Any] = {"in_backward": True}
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    (
        "compensated_weights_are_bfloat16",
        {"model": {"dtype": "float32"}, "optimizer": {"master": "kahan"}},
        "optimizer.master: kahan is for weights stored in bfloat16, not float32; set model.dtype: bfloat16, or float32",
    ),
    (
        "what_is_torchs_has_torch",
        {"optimizer": EARLY, "train": {"clip": None}, "engine": {"kind": "deepspeed"}},
        "optimizer.in_backward: is for plain torch; set engine.kind: torch",
    ),
    (
        "what_is_torchs_has_torch",
        {"optimizer": EARLY, "train": {"clip": None}, "engine": {"zero": 2}},
        "optimizer.in_backward: is for plain torch; set engine.kind: torch",
    ),
    (
        "what_is_torchs_has_torch",
        {"optimizer": {"kind": "muon"}, "engine": {"kind": "deepspeed"}},
        "optimizer.kind: muon looks at whole matrices, which DeepSpeed cuts; set engine.kind: torch without zero, ",
    ),
    (
        "what_is_torchs_has_torch",
        {"optimizer": {"paged": True}, "engine": {"offload": "cpu"}},
        "optimizer.paged: is for plain torch; set engine.kind: torch without zero, offload and deepspeed, or leave it",
    ),
    (
        "what_is_torchs_has_torch",
        {"train": {"clip": None, "clip_value": 1.0}, "engine": {"zero": 1}},
        "train.clip_value: is for plain torch; set engine.kind: torch without zero, offload and deepspeed, or leave it",
    ),
    (
        "keys_fit_the_optimizer",
        {"optimizer": {"kind": "adamw", "momentum": 0.9}},
        "optimizer.momentum: means nothing with optimizer.kind: adamw; leave it out, or set that to sgd",
    ),
    (
        "keys_fit_the_optimizer",
        {"optimizer": {"kind": "lion", "paged": True}},
        "optimizer.paged: means nothing with optimizer.kind: lion; leave it out, or set that to adamw",
    ),
    (
        "clips_one_way",
        {"train": {"clip_value": 1.0}},
        "train.clip_value: train.clip cuts by the norm already; set that to null, or leave this out",
    ),
    (
        "keys_fit_the_schedule",
        {"schedule": {"kind": "cosine", "cycles": 3}},
        "schedule.cycles: means nothing with schedule.kind: cosine; leave it out, or set that to cosine_restarts",
    ),
    (
        "keys_fit_the_schedule",
        {"schedule": {"kind": "constant", "floor": 0.1}},
        "schedule.floor: means nothing with schedule.kind: constant; leave it out",
    ),
]


@pytest.mark.parametrize(("name", "sections", "message"), BROKEN, ids=str)
def test_a_broken_rule_is_told_alone(name: str, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(**sections)

    (problem,) = caught.value.problems
    assert str(problem).startswith(message)
    broken = Recipe.model_validate(a_recipe.content(**sections))
    assert [rule.__name__ for rule in OPTIMIZER_RULES if rule(broken)] == [name]


@pytest.mark.parametrize(
    "sections",
    [
        {"optimizer": {"master": "kahan"}},
        {"optimizer": {"master": "stochastic", "kind": "adamw_8bit"}, "engine": {"zero": 2}},
        {"optimizer": EARLY, "train": {"clip": None}, "engine": {"kind": "torch"}},
        {"optimizer": EARLY, "train": {"clip": None}},
    ],
    ids=str,
)
def test_what_goes_together_is_accepted(sections: dict[str, Any]) -> None:
    a_recipe.recipe(**sections)


def test_every_rule_is_broken_once() -> None:
    assert {name for name, *_ in BROKEN} == {rule.__name__ for rule in OPTIMIZER_RULES}
