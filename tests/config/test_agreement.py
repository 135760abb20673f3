from typing import Any

import a_recipe
import pytest

from trainer.config.agreement import differences


@pytest.mark.parametrize(
    ("changed", "key", "was", "now"),
    [
        ({"model": {"name": "other"}}, "model.name", "'-'", "'other'"),
        ({"model": {"dtype": "float32"}}, "model.dtype", "'bfloat16'", "'float32'"),
        ({"data": {"max_length": 512}}, "data.max_length", "2048", "512"),
        ({"data": {"packing": False}}, "data.packing", "True", "False"),
        ({"data": {"train": [{"path": "b", "format": "text"}]}}, "data.train.0.path", "'-'", "'b'"),
        ({"data": {"validation": None}}, "data.validation", "{'fraction': 0.05}", "None"),
        ({"data": {"validation": {"fraction": 0.1}}}, "data.validation.fraction", "0.05", "0.1"),
        ({"optimizer": {"lr": 1e-3}}, "optimizer.lr", "0.0002", "0.001"),
        ({"batch": {"global": 32}}, "batch.global", "64", "32"),
        ({"train": {"seed": 1}}, "train.seed", "0", "1"),
        ({"data": {"shuffle_buffer": 9}}, "data.shuffle_buffer", "10000", "9"),
    ],
)
def test_what_decides_a_step_forbids_a_resume(changed: dict[str, Any], key: str, was: str, now: str) -> None:
    problems, allowed = differences(a_recipe.recipe(), a_recipe.recipe(**changed))

    assert [str(problem) for problem in problems] == [
        f"{key}: was {was} when runs/quickstart was begun, now is {now}; set it back, or name another output"
    ]
    assert allowed == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"batch": {"micro": 8}}, "batch.micro: 4 -> 8"),
        ({"data": {"workers": 3}}, "data.workers: None -> 3"),
        ({"data": {"cache": False}}, "data.cache: True -> False"),
        ({"batch": {"micro_tokens": 4096}}, "batch.micro_tokens: None -> 4096"),
        ({"train": {"max_steps": 9}}, "train.max_steps: None -> 9"),
        ({"engine": {"kind": "deepspeed"}}, "engine.kind: auto -> deepspeed"),
        ({"launch": {"processes": 2}}, "launch.processes: auto -> 2"),
        ({"log": {"every": 1}}, "log.every: 10 -> 1"),
        ({"checkpoint": {"keep": 5}}, "checkpoint.keep: 2 -> 5"),
    ],
)
def test_what_leaves_a_step_as_it_is_may_change_and_is_told(changed: dict[str, Any], sentence: str) -> None:
    problems, allowed = differences(a_recipe.recipe(), a_recipe.recipe(**changed))

    assert (problems, allowed) == ([], [sentence])


NAMED = [{"path": "a.jsonl", "format": "text"}]
OTHER = [{"path": "b.jsonl", "format": "text"}]
DROP = {"leakage": "drop"}


@pytest.mark.parametrize(
    ("before", "now", "key"),
    [
        ({"test": None}, {"test": NAMED}, "data.test"),
        ({"test": NAMED}, {"test": None}, "data.test"),
        ({"test": NAMED}, {"test": OTHER}, "data.test.0.path"),
    ],
)
def test_test_rows_of_their_own_may_change(before: dict[str, Any], now: dict[str, Any], key: str) -> None:
    problems, [allowed] = differences(a_recipe.recipe(data=before), a_recipe.recipe(data=now))

    assert problems == [] and allowed.startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("before", "now", "key"),
    [
        ({"test": None}, {"test": {}}, "data.test"),
        ({"test": {}}, {"test": NAMED}, "data.test"),
        ({"test": {}}, {"test": {"fraction": 0.2}}, "data.test.fraction"),
        ({"test": NAMED, "clean": DROP}, {"test": OTHER, "clean": DROP}, "data.test.0.path"),
    ],
)
def test_test_rows_that_would_train_otherwise_must_agree(before: dict[str, Any], now: dict[str, Any], key: str) -> None:
    problems, _ = differences(a_recipe.recipe(data=before), a_recipe.recipe(data=now))

    assert [problem.where for problem in problems] == [key]


def test_a_moved_run_folder_is_no_change() -> None:
    assert differences(a_recipe.recipe(), a_recipe.recipe(output="elsewhere")) == ([], [])


def test_another_number_of_sources_is_one_difference() -> None:
    two = [{"path": "-", "format": "text"}, {"path": "b", "format": "text"}]

    problems, _ = differences(a_recipe.recipe(), a_recipe.recipe(data={"train": two}))

    assert [problem.where for problem in problems] == ["data.train"]


def test_all_differences_are_told_at_once() -> None:
    now = a_recipe.recipe(optimizer={"lr": 1.0}, train={"seed": 3, "epochs": 1}, log={"every": 5})

    problems, allowed = differences(a_recipe.recipe(), now)

    assert [problem.where for problem in problems] == ["optimizer.lr", "train.seed"]
    assert allowed == ["log.every: 10 -> 5", "train.epochs: 3.0 -> 1.0"]


def test_a_step_of_tokens_cannot_become_another_one_or_one_of_examples() -> None:
    before = a_recipe.recipe(batch={"global_tokens": 4096})

    larger, _ = differences(before, a_recipe.recipe(batch={"global_tokens": 8192}))
    counted, _ = differences(before, a_recipe.recipe(batch={"global": 8}))

    assert [problem.where for problem in larger] == ["batch.global_tokens"]
    assert [problem.where for problem in counted] == ["batch.global", "batch.global_tokens"]
