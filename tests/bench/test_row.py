from typing import Any

from bench.made import MODEL, suite

from trainer.bench.row import Material, of_model, rows_of
from trainer.bench.suite import MadeRows

BASE: dict[str, Any] = {
    "model": {**MODEL, "dtype": "float32"},
    "data": {"train": [{"path": "own.jsonl", "format": "text"}], "validation": None},
}


def test_a_matrix_is_the_product_of_its_axes() -> None:
    own = suite(
        variants={},
        reference=None,
        matrix={"zero": {"1": {"engine": {"zero": 1}}, "2": {"engine": {"zero": 2}}}, "rows": {"p": None, "q": None}},
    )

    rows = rows_of(own, BASE)

    assert [row.name for row in rows] == ["zero 1, rows p", "zero 1, rows q", "zero 2, rows p", "zero 2, rows q"]
    assert [row.content["engine"]["zero"] for row in rows] == [1, 1, 2, 2]


def test_a_sweep_gives_its_size_to_each_of_its_keys() -> None:
    sweep = {"values": [64, 128], "keys": ["data.max_length", "rows.words"], "with": {"rows": {"count": 9}}}

    rows = rows_of(suite(variants={}, reference=None, sweeps={"length": sweep}), BASE)

    assert [(row.name, row.sweep, row.size) for row in rows] == [
        ("length 64", "length", 64),
        ("length 128", "length", 128),
    ]
    assert [row.content["data"]["max_length"] for row in rows] == [64, 128]
    assert [row.made for row in rows] == [MadeRows(count=9, words=64), MadeRows(count=9, words=128)]


def test_the_suite_decides_how_long_and_from_which_seed_a_row_runs() -> None:
    own = suite(threads=3, seed=5)
    first, second = rows_of(own, BASE)

    recipe = second.recipe(own, Material(), "there")

    assert (recipe.train.max_steps, recipe.train.threads, recipe.train.seed) == (5, 3, 5)
    assert (recipe.log.every, recipe.log.tensorboard, recipe.checkpoint.save, recipe.output) == (
        1,
        False,
        "none",
        "there",
    )
    assert (recipe.data.packing, first.recipe(own, Material(), "-").data.packing) == (False, True)
    assert recipe.data.train[0].path == "own.jsonl"


def test_made_rows_and_a_made_model_stand_in_the_recipe() -> None:
    own = suite(rows={"count": 8}, made_model=True)

    recipe = rows_of(own, BASE)[0].recipe(own, Material("made.jsonl", "made/model"), "-")

    assert (recipe.data.train[0].path, recipe.data.train[0].format) == ("made.jsonl", "text")
    assert (recipe.model.name, recipe.model.config, recipe.model.tokenizer) == ("made/model", None, None)


def test_the_model_is_made_by_one_step_of_the_base_recipe() -> None:
    alone, row = of_model(suite(made_model=True), BASE)

    recipe = row.recipe(alone, Material(), "-")

    assert recipe.train.max_steps == 1
    assert recipe.checkpoint.save == "all"
    assert recipe.model.config == MODEL["config"]
