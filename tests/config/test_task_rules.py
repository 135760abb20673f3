from typing import Any

import a_recipe
import pytest

from trainer.config.recipe import Recipe
from trainer.config.task_rules import TASK_RULES
from trainer.errors import RecipeError

CLASSIFY: dict[str, Any] = {"kind": "classify"}
WORDS: dict[str, Any] = {"train": [{"path": "a", "format": "words"}]}
SEVERAL: dict[str, Any] = {
    "kind": "multi_task",
    "tasks": {"topic": CLASSIFY, "names": {"kind": "token_labels"}},
}
BOTH: dict[str, Any] = {
    "train": [
        {"path": "a", "format": "text", "task": "topic"},
        {"path": "b", "format": "words", "task": "names"},
    ]
}
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    (
        "keys_fit_the_problem",
        {"task": {**CLASSIFY, "problem": "regression", "class_weights": "balanced"}},
        "task.class_weights: means nothing with task.problem: regression; leave it out",
    ),
    (
        "labels_are_two_and_more",
        {"task": {**CLASSIFY, "labels": ["a", "a"]}},
        "task.labels: a, a: name two labels or more, each once",
    ),
    (
        "weights_are_of_labels",
        {"task": {**CLASSIFY, "labels": ["good", "bad"], "class_weights": {"bat": 2.0}}},
        "task.class_weights: bat is no label of task.labels; did you mean bad?",
    ),
    (
        "tags_are_bio",
        {"task": {"kind": "token_labels", "labels": ["O", "I-x"]}, "data": WORDS},
        "task.labels: I-x goes on where nothing begins; add B-x",
    ),
    (
        "tags_are_bio",
        {"task": {"kind": "token_labels", "labels": ["NN", "VB"]}, "data": WORDS},
        "task.labels: NN is neither O nor B-x or I-x; set task.scheme: none for others",
    ),
    (
        "sources_name_their_task",
        {"task": SEVERAL, "data": {"train": [*BOTH["train"], {"path": "a", "format": "text", "task": "tone"}]}},
        "data.train.2.task: tone is none of task.tasks; known: names, topic",
    ),
    (
        "sources_name_their_task",
        {"task": SEVERAL, "data": {"train": [*BOTH["train"], {"path": "a", "format": "words", "task": "topic"}]}},
        "data.train.2.format: topic learns nothing from words rows; it takes text, pair",
    ),
    (
        "sources_name_their_task",
        {"task": CLASSIFY, "data": {"train": [{"path": "a", "format": "text", "task": "topic"}]}},
        "data.train.0.task: topic: the recipe has one task; leave it out",
    ),
    (
        "tasks_are_several",
        {"task": SEVERAL, "data": {"train": BOTH["train"][:1]}},
        "data.train: has no source with task: names; add one, or take it out of task.tasks",
    ),
    (
        "tasks_are_several",
        {"task": {**SEVERAL, "weights": {"topics": 2.0}}, "data": BOTH},
        "task.weights: topics is none of task.tasks; did you mean topic?",
    ),
    (
        "tasks_are_several",
        {"task": {**SEVERAL, "sampling": {"topic": 1.0}}, "data": BOTH},
        "task.sampling: has no share above 0 for names; name all tasks",
    ),
    (
        "labels_are_two_and_more",
        {"task": {**SEVERAL, "tasks": {**SEVERAL["tasks"], "topic": {**CLASSIFY, "labels": ["a"]}}}, "data": BOTH},
        "task.tasks.topic.labels: a: name two labels or more, each once",
    ),
    (
        "pairs_tell_the_next_sentence",
        {"task": {"kind": "masked_lm", "next_sentence": True}},
        "task.next_sentence: needs rows of the format pair, a text and the one after it; data.train holds text",
    ),
    (
        "the_metric_is_measured",
        {"task": CLASSIFY, "evaluate": {"metric": "acuracy", "mode": "max"}},
        "evaluate.metric: acuracy is not measured; did you mean accuracy?",
    ),
    ("the_metric_is_measured", {"evaluate": {"metric": "accuracy"}}, "evaluate.metric: accuracy is not measured"),
    (
        "the_mode_fits_the_metric",
        {"evaluate": {"mode": "max"}},
        "evaluate.mode: max would choose the model with the highest loss; set it to min",
    ),
    (
        "the_mode_fits_the_metric",
        {"task": CLASSIFY, "evaluate": {"metric": "accuracy"}},
        "evaluate.mode: min would choose the model with the lowest accuracy; set it to max",
    ),
    (
        "the_task_does_it",
        {"task": CLASSIFY, "data": {"packing": True}},
        "data.packing: task.kind: classify pads its rows; leave it out",
    ),
    (
        "only_writers_answer",
        {"task": CLASSIFY, "evaluate": {"samples": 2}},
        "evaluate.samples: task.kind: classify writes no answers; leave it out",
    ),
    (
        "formats_fit_the_task",
        {"task": CLASSIFY, "data": {"train": [{"path": "a", "format": "chat"}]}},
        "data.train.0.format: task.kind: classify learns nothing from chat rows; it takes text, pair, image",
    ),
    (
        "images_stand_alone",
        {"task": CLASSIFY, "data": {"train": [{"path": "a", "format": "image"}, {"path": "b", "format": "text"}]}},
        "data.train: holds images and text; train on one of the two, or ask about images in rows of image_text",
    ),
    (
        "texts_have_means",
        {"task": {**CLASSIFY, "pooling": "mean"}, "data": {"train": [{"path": "a", "format": "image"}]}},
        "task.pooling: mean means nothing with rows of image; leave it out",
    ),
    *(
        (
            "formats_fit_the_task",
            {"data": {"train": [{"path": "a", "format": "text"}, {"path": "b", "format": format}]}},
            f"data.train.1.format: task.kind: causal_lm learns nothing from {format} rows; it takes completion, ",
        )
        for format in ("words", "image_text")
    ),
]
TEXT: dict[str, Any] = {"train": [{"path": "a", "format": "text"}]}


def sections_of(sections: dict[str, Any]) -> dict[str, Any]:
    return {**sections, "data": {**TEXT, **sections.get("data", {})}}


@pytest.mark.parametrize(("name", "sections", "message"), BROKEN, ids=str)
def test_a_broken_rule_is_told_alone(name: str, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(**sections_of(sections))

    (problem,) = caught.value.problems
    assert str(problem).startswith(message)
    broken = Recipe.model_validate(a_recipe.content(**sections_of(sections)))
    assert [rule.__name__ for rule in TASK_RULES if rule(broken)] == [name]


@pytest.mark.parametrize(
    "sections",
    [
        {"task": {**CLASSIFY, "focal": 2.0, "class_weights": "balanced", "label_smoothing": 0.1}},
        {"task": {**CLASSIFY, "problem": "regression"}, "evaluate": {"metric": "rmse"}},
        {"task": {**CLASSIFY, "problem": "multiple"}, "evaluate": {"metric": "micro_f1", "mode": "max", "patience": 2}},
        {"task": {**CLASSIFY, "labels": ["a", "b"], "class_weights": {"a": 2.0}}},
    ],
    ids=str,
)
def test_what_goes_together_is_accepted(sections: dict[str, Any]) -> None:
    assert not a_recipe.recipe(**sections_of(sections)).data.packing


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"focal": 2.0}, "task.focal: means nothing with task.kind: causal_lm; leave it out"),
        ({**CLASSIFY, "focl": 2.0}, "task.focl: no such key; did you mean task.focal?"),
        ({"kind": "clasify"}, "task.kind: 'clasify' is not one of causal_lm, "),
        ({**CLASSIFY, "problem": "odd"}, "task.problem: 'odd' is not one of single, multiple, ordinal, regression"),
        ({**CLASSIFY, "class_weights": 3}, "task.class_weights: 3 does not fit; it takes none, balanced or a mapping"),
    ],
    ids=str,
)
def test_a_key_is_that_of_its_kind(task: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(data=TEXT, task=task)
    (problem,) = caught.value.problems
    assert str(problem).startswith(message)


def test_every_rule_is_broken_once() -> None:
    assert {name for name, _, _ in BROKEN} == {rule.__name__ for rule in TASK_RULES}


def test_rows_are_packed_where_the_task_packs() -> None:
    assert a_recipe.recipe(data=TEXT).data.packing
    assert a_recipe.recipe(data=TEXT, task={"kind": "causal_lm"}).data.packing
    assert not a_recipe.recipe(data={**TEXT, "packing": False}).data.packing
