"""What trains in each phase of real models, and when a phase ends."""

from itertools import pairwise
from typing import Any

import a_recipe
import pytest
from strategy.test_strategies import layers, model, recipe

from trainer.config.strategy import Ends
from trainer.errors import RecipeError
from trainer.parameter import parameter
from trainer.strategy.course import Course
from trainer.strategy.phase import Phase
from trainer.strategy.strategies import largest


def course(family: str, strategy: dict[str, Any], task: str = "causal_lm") -> Course:
    return Course(recipe(task, strategy), model(family))


def called(made: Course) -> list[str]:
    names = []
    while made.has(len(names)):
        names.append(made.at(len(names)).called)
    return names


def test_layers_begin_from_the_top_and_all_train_in_the_end() -> None:
    made = course("bert", {"kind": "layerwise"}, "classify")

    assert called(made) == ["head", "layer 2", "layer 1", "layer 0", "embeddings"]
    names = [set(made.at(number).names) for number in range(5)]
    assert all(one < other for one, other in pairwise(names))
    assert {name.split(".")[0] for name in names[0]} == {"classifier", "bert"}
    assert layers(names[0]) == {None}
    assert layers(names[2]) == {None, 1, 2}
    assert names[4] == {name for name, _ in model("bert").named_parameters()}


def test_several_layers_begin_at_a_time() -> None:
    assert called(course("gpt2", {"kind": "layerwise", "each": 2})) == [
        "head",
        "layers 1 to 2",
        "layer 0",
        "embeddings",
    ]


def test_the_decoder_begins_before_its_encoder() -> None:
    made = course("t5", {"kind": "layerwise"}, "seq2seq")

    assert layers({name for name in made.at(1).names if "decoder" in name and "final" not in name}) == {1}
    assert not any("encoder.block" in name for name in made.at(2).names)
    assert any("encoder.block.1" in name for name in made.at(3).names)


def test_what_began_earlier_rests_again() -> None:
    made = course("bert", {"kind": "layerwise", "refreeze": True}, "classify")

    assert called(made)[-2:] == ["embeddings", "all"]
    assert layers(set(made.at(1).names)) == {2}
    assert layers(set(made.at(2).names)) == {1}
    assert made.at(5).names == {name for name, _ in model("bert").named_parameters()}


def test_the_plan_looks_at_all_phases_of_a_deep_model() -> None:
    listed = [parameter(f"model.layers.{number}.mlp.up_proj.weight", (2, 2)) for number in range(80)]
    names = {one.name for one in listed}

    assert largest(recipe("causal_lm", {"kind": "layerwise"}), listed, names) == names
    assert largest(recipe("causal_lm", {"kind": "layerwise"}), listed, set()) == set()


def test_what_an_adapter_froze_never_begins() -> None:
    taken = model("llama")
    for name, weight in taken.named_parameters():
        weight.requires_grad_("self_attn" in name)
    made = Course(recipe("causal_lm", {"kind": "layerwise"}), taken)

    assert called(made) == ["layer 2", "layer 1", "layer 0"]
    assert all("self_attn" in name for name in made.at(2).names)


def test_layers_are_drawn_by_seed_and_stretch() -> None:
    made, again = (course("llama", {"kind": "lisa", "layers": 1, "every": 5}) for _ in range(2))

    drawn = [layers(set(made.at(number).names)) - {None} for number in range(30)]
    assert drawn == [layers(set(again.at(number).names)) - {None} for number in range(30)]
    assert all(len(each) == 1 for each in drawn)
    assert set().union(*drawn) == {0, 1, 2}
    always = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert all(always <= made.at(number).names for number in range(30))


def test_more_layers_than_there_are_are_not_drawn() -> None:
    with pytest.raises(
        RecipeError, match=r"strategy.layers: 4 layers are more than the model has to train, which is 3"
    ):
        course("llama", {"kind": "lisa", "layers": 4})


def test_written_phases() -> None:
    phases = [{"last": 1, "steps": 4}, {"train": ["mlp"], "epochs": 1, "rate": 0.5}, {"layers": [0, 1]}]
    made = course("llama", {"kind": "phases", "phases": phases})

    assert called(made) == ["last 1 layers", "mlp", "layers 0 to 1"]
    assert [made.at(number).rate for number in range(3)] == [1.0, 0.5, 1.0]
    assert all("mlp" in name for name in made.at(1).names)


def test_what_is_wrong_with_a_phase_is_told_by_its_key() -> None:
    phases = [{"last": 9, "steps": 4}, {"train": ["mpl"], "steps": 4}, {"train": ["vision"], "steps": 1}, {"last": 1}]
    with pytest.raises(RecipeError) as caught:
        course("llama", {"kind": "phases", "phases": phases})
    first, second, third = caught.value.problems
    assert str(first) == "strategy.phases.0.last: 9 layers are more than the model has, which is 3"
    assert str(second).startswith("strategy.phases.1.train.0: 'mpl' is no part of a model; did you mean mlp?")
    assert str(third).startswith("strategy.phases.2.train.0: 'vision' fits no parameter")


def test_a_phase_with_nothing_to_train_is_told() -> None:
    taken = model("llama")
    for name, weight in taken.named_parameters():
        weight.requires_grad_("layers.0" in name)
    phases = [{"last": 1, "steps": 4}, {"layers": [0, 0]}]
    wanted = a_recipe.recipe(strategy={"kind": "phases", "phases": phases}, adapter={"kind": "lora"})
    with pytest.raises(RecipeError, match=r"strategy\.phases\.0: leaves nothing to train of what the adapter trains"):
        Course(wanted, taken)


def test_since_when_a_weight_trains_without_a_break() -> None:
    phases = [{"last": 1, "steps": 1}, {"layers": [0, 2], "steps": 1}, {"last": 2, "steps": 1}, {"layers": [0, 2]}]
    taken = model("llama")
    made = Course(recipe("causal_lm", {"kind": "phases", "phases": phases}), taken)
    since = made.enter(3)

    weights = dict(taken.named_parameters())
    assert since[weights["model.layers.0.mlp.up_proj.weight"]] == 3
    assert since[weights["model.layers.1.mlp.up_proj.weight"]] == 1
    assert since[weights["model.layers.2.mlp.up_proj.weight"]] == 0
    assert weights["lm_head.weight"] not in since
    assert not weights["lm_head.weight"].requires_grad


@pytest.mark.parametrize(
    ("phase", "steps", "epochs", "stalled", "run", "over"),
    [
        (Phase("", frozenset()), 99, 9.0, 9, (99, 100), False),
        (Phase("", frozenset(), ends=Ends(steps=5)), 4, 9.0, 9, (99, 100), False),
        (Phase("", frozenset(), ends=Ends(steps=5)), 5, 0.0, 0, (5, 100), True),
        (Phase("", frozenset(), ends=Ends(epochs=0.5)), 99, 0.49, 9, (99, 100), False),
        (Phase("", frozenset(), ends=Ends(epochs=0.5)), 1, 0.5, 0, (1, 100), True),
        (Phase("", frozenset(), ends=Ends(plateau=2)), 99, 9.0, 1, (99, 100), False),
        (Phase("", frozenset(), ends=Ends(plateau=2)), 1, 0.0, 2, (1, 100), True),
        (Phase("", frozenset(), until=1 / 3), 33, 0.0, 0, (33, 100), False),
        (Phase("", frozenset(), until=1 / 3), 34, 0.0, 0, (34, 100), True),
    ],
)
def test_when_a_phase_ends(
    phase: Phase, steps: int, epochs: float, stalled: int, run: tuple[int, int], over: bool
) -> None:
    assert phase.is_over(steps, epochs, stalled, run) is over


def test_how_long_a_phase_is() -> None:
    assert Phase("", frozenset(), ends=Ends(steps=5)).length(10, 100, None) == 5
    assert Phase("", frozenset(), ends=Ends(epochs=0.5)).length(10, 100, 25) == 13
    assert Phase("", frozenset(), until=0.5).length(10, 100, None) == 40
    assert Phase("", frozenset(), ends=Ends(plateau=2)).length(10, 100, None) == 90
