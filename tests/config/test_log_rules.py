from typing import Any

import a_recipe
import pytest

from trainer.config.log_rules import LOG_RULES, beyond_the_run
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError

BROKEN: list[tuple[str, dict[str, Any], str]] = [
    (
        "profiled_steps_are_in_their_order",
        {"log": {"profile": {"steps": [12, 10]}}},
        "log.profile.steps: [12, 10] ends before it begins; name the first step, then the last",
    ),
    (
        "profiled_steps_are_in_the_run",
        {"log": {"profile": {"steps": [10, 12]}}, "train": {"max_steps": 11}},
        "log.profile.steps: [10, 12] ends after the run, which has 11 steps; name steps from 1 to 11, or train longer",
    ),
    (
        "steps are counted from 1",
        {"log": {"profile": {"steps": [0, 12]}}},
        "log.profile.steps.0: 0 is less than 1",
    ),
    (
        "steps are two",
        {"log": {"profile": {"steps": [12]}}},
        "log.profile.steps: holds 1 item; it takes 2",
    ),
]


@pytest.mark.parametrize(("name", "sections", "message"), BROKEN, ids=str)
def test_a_broken_rule_is_told_alone(name: str, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(**sections)

    assert [str(problem) for problem in caught.value.problems] == [message]


def test_every_rule_has_an_example() -> None:
    assert {rule.__name__ for rule in LOG_RULES} <= {name for name, _, _ in BROKEN}


def test_steps_inside_the_run_are_fine() -> None:
    recipe: Recipe = a_recipe.recipe(log={"profile": {"steps": [10, 12]}}, train={"max_steps": 12})

    assert beyond_the_run(recipe, None) is None
    assert beyond_the_run(recipe, 12) is None
    assert isinstance(beyond_the_run(recipe, 11), Problem)
