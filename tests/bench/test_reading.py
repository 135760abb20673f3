import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench.made import MODEL

from trainer.bench import reading
from trainer.errors import SuiteError

RECIPE: dict[str, Any] = {
    "model": {**MODEL, "dtype": "float32"},
    "data": {"train": [{"path": "rows.jsonl", "format": "text"}]},
}
GOOD: dict[str, Any] = {"name": "mine", "recipe": RECIPE, "variants": {"a": None, "b": {"data": {"packing": False}}}}


def _read(folder: Path, *overrides: str, **settings: Any) -> reading.Read:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **settings}))
    return reading.read(path, overrides)


def _refused(folder: Path, *overrides: str, **settings: Any) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        _read(folder, *overrides, **settings)
    assert (caught.value.status, caught.value.title) == (2, "The suite is wrong")
    # Which line it is depends on the order of the keys.
    told = [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]
    return [re.sub(r"\(mine\.yaml, line \d+\)", "(mine.yaml)", text) for text in told]


@pytest.mark.parametrize("name", list(reading.packaged()))
def test_every_suite_starts_with_its_command_and_its_rows_are_recipes(name: str) -> None:
    path = reading.find(name)

    assert path.read_text(encoding="utf-8").startswith(f"# shardtune bench {name}\n")
    assert reading.read(path).suite.name == name


def test_the_suites_of_the_benchmarks_ship() -> None:
    assert {"smoke", "throughput", "memory", "zero", "adapters", "data", "ablation", "growth"} <= {*reading.packaged()}


def test_a_file_stands_above_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").write_text("")

    assert reading.find("smoke") == Path("smoke")


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(SuiteError, match=r"smoek: no such suite; did you mean smoke\?"):
        reading.find("smoek")


def test_settings_stand_above_those_of_the_file(tmp_path: Path) -> None:
    read = _read(tmp_path, "rounds=7", "recipe.data.max_length=32", "variants.c={}")

    assert read.suite.rounds == 7
    assert [row.name for row in read.rows] == ["a", "b", "c"]
    assert read.recipe["data"]["max_length"] == 32


def test_a_recipe_may_be_one_of_the_gallery(tmp_path: Path) -> None:
    assert _read(tmp_path, recipe="demo").recipe["model"]["config"]["hidden_size"] == 128


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"round": 3}, "round (mine.yaml): no such key; did you mean rounds?"),
        ({"rounds": 0}, "rounds (mine.yaml): 0 is less than 1"),
        ({"rounds": True}, "rounds (mine.yaml): true and false are not numbers"),
        ({"steps": {"measure": 3}}, "steps.measure (mine.yaml): no such key; did you mean steps.measured?"),
        ({"rows": {"cuont": 3}}, "rows.cuont (mine.yaml): no such key; did you mean rows.count?"),
        (
            {"sweeps": {"length": {"values": [1, 2], "keys": ["x"], "key": 1}}},
            "sweeps.length.key (mine.yaml): no such key; did you mean sweeps.length.keys?",
        ),
        (
            {"sweeps": {"length": {"values": [1], "keys": ["x"]}}},
            "sweeps.length.values (mine.yaml): holds 1 item; it takes at least 2",
        ),
        ({"reference": "c"}, "reference (mine.yaml): 'c' is no row of it; known: a, b"),
        ({"recipe": "deno"}, "recipe (mine.yaml): 'deno' is neither a file beside the suite nor a recipe that ships"),
        (
            {"variants": {"a": None, "x 1": None}, "matrix": {"x": {"1": None}}},
            "variants (mine.yaml): x 1: another row has this name too; call it otherwise",
        ),
        ({"recipe": {**RECIPE, "optimiser": {}}}, "recipe.optimiser: no such key; did you mean optimizer?"),
        (
            {"variants": {"a": None, "b": {"optimizer": {"kind": "adam8"}}}},
            "optimizer.kind (row b): 'adam8' is not one of adamw, adam, adamw_8bit",
        ),
        (
            {"variants": {"a": {"adapter": {"kind": "lora"}}}},
            "recipe.adapter.kind: lora needs the pretrained weights of model.name; train a new model in full",
        ),
    ],
)
def test_a_mistake_is_one_message_with_its_key(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    (problem,) = _refused(tmp_path, **settings)

    assert problem.startswith(message)


def test_an_empty_file_says_what_a_suite_needs(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")

    with pytest.raises(SuiteError, match="is empty; a suite needs at least `name:` and `recipe:`"):
        reading.read(tmp_path / "mine.yaml")
