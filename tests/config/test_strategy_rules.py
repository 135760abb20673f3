"""What does not go together with `strategy:`, and what is said then."""

from typing import Any

import a_recipe
import pytest

from trainer.config.rules import problems_between_keys
from trainer.errors import RecipeError

TWO = [{"last": 1, "steps": 3}, {"train": ["re:.*"]}]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"strategy": {"kind": "layerwise", "steps": 3, "epochs": 1}},
            "strategy.epochs: the phase ends by steps already; keep one of them",
        ),
        (
            {"strategy": {"kind": "phases", "phases": [{"last": 1}, {"last": 2}]}},
            "strategy.phases.0: does not say when it ends",
        ),
        (
            {"strategy": {"kind": "phases", "phases": [*TWO, {"last": 1, "epochs": 0.5}]}},
            "strategy.phases.1: does not say when it ends",
        ),
        (
            {"strategy": {"kind": "phases", "phases": TWO[:1]}},
            "strategy.phases.0.steps: the last phase goes on to the end of the run",
        ),
        (
            {"strategy": {"kind": "layerwise", "plateau": 2}, "data": {"validation": None}},
            "strategy.plateau: counts validations, and there are none",
        ),
        *(
            ({"strategy": {"kind": "partial", "last": 1, "cache": "disk"}, **sections}, f"strategy.cache: {message}")
            for sections, message in (
                ({"task": {"kind": "masked_lm"}}, "is not for task.kind: masked_lm"),
                ({"train": {"compile": True}}, "leaves layers out, which train.compile does not"),
                (
                    {"data": {"streaming": True, "validation": None}, "train": {"max_steps": 9}},
                    "keeps rows by their number, and data.streaming has none",
                ),
            )
        ),
    ],
)
def test_what_does_not_go_together_is_told(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(**sections)
    (problem,) = caught.value.problems
    assert str(problem).startswith(message)


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "layerwise"},
        {"kind": "layerwise", "each": 2, "refreeze": True, "epochs": 0.5},
        {"kind": "lisa", "layers": 1, "every": 5},
        {"kind": "phases", "phases": TWO, "restart": True},
    ],
)
def test_phases_that_go_together(strategy: dict[str, Any]) -> None:
    assert list(problems_between_keys(a_recipe.recipe(strategy=strategy))) == []
