from typing import Any

import pytest
from bench.made import suite

from trainer.bench import suite_rules


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variants": {}}, "variants: there is nothing to measure; name variants, a matrix or sweeps"),
        ({"matrix": {"engine": {}}}, "matrix.engine: has no labels; give it at least one, such as {full: {}}"),
        (
            {"variants": {"a": {"train": {"max_steps": 3}}}},
            "variants.a.train.max_steps: is decided by the suite's steps; leave it out",
        ),
        (
            {"matrix": {"x": {"1": {"output": "here"}}}},
            "matrix.x.1.output: is decided by the suite's --out; leave it out",
        ),
        (
            {"variants": {"a": {"checkpoint": {"save": "all"}}}},
            "variants.a.checkpoint.save: is decided by the suite's results; leave it out",
        ),
        ({"rows": {"words": 8, "asked": 8}}, "rows.asked: 8 of 8 words leave no answer; set it lower"),
        (
            {"made_model": True, "variants": {"a": {"model": {"name": "other"}}}},
            "variants.a.model.name: is decided by the suite's made_model; leave it out",
        ),
        (
            {"variants": {"a": {"peer": "transformer"}}},
            "variants.a.peer: 'transformer' is no trainer of benchmarks/peers; did you mean transformers?",
        ),
        (
            {"variants": {"a": {"rows": {"words": 0}}}},
            "variants.a.rows.words: 0 is less than 1",
        ),
        (
            {"variants": {"a": {"rows": 5}}},
            "variants.a.rows: 5 is not a mapping; known: count, words, vocabulary, asked",
        ),
        (
            {"sweeps": {"s": {"values": [2, 1], "keys": ["batch.micro"]}}},
            "sweeps.s.values: must grow from 1 or more, each value once",
        ),
        (
            {"sweeps": {"s": {"values": [1, 2], "keys": ["train.seed"]}}},
            "sweeps.s.keys.0: train.seed is decided by the suite's seed; name another",
        ),
        (
            {"sweeps": {"s": {"values": [1, 2], "keys": ["rows.word"]}}},
            "sweeps.s.keys.0: rows.word: made rows have no such key; did you mean words?",
        ),
        (
            {"made_model": True, "sweeps": {"s": {"values": [1, 2], "keys": ["model.config.num_hidden_layers"]}}},
            "sweeps.s.keys.0: model.config.num_hidden_layers is decided by the suite's made_model; name another",
        ),
    ],
)
def test_a_broken_rule_is_told_alone(settings: dict[str, Any], message: str) -> None:
    assert [str(problem) for problem in suite_rules.problems(suite(**settings))] == [message]


def test_a_suite_without_mistakes_has_no_problem() -> None:
    assert suite_rules.problems(suite()) == []
