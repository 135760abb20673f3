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
        "steps_in_the_backward_pass_are_torchs",
        {"optimizer": EARLY, "train": {"clip": None}, "engine": {"kind": "deepspeed"}},
        "optimizer.in_backward: is for plain torch; set engine.kind: torch",
    ),
    (
        "steps_in_the_backward_pass_are_torchs",
        {"optimizer": EARLY, "train": {"clip": None}, "engine": {"zero": 2}},
        "optimizer.in_backward: is for plain torch; set engine.kind: torch",
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
