from collections.abc import Iterator
from typing import Any

import a_recipe
import jsonschema
import pytest

from trainer import assets
from trainer.config.data import Data
from trainer.config.schema import descriptions, schema
from trainer.config.yaml_file import read

SCHEMA = schema()

CONTRACT = {
    "model": ["name", "dtype", "attention", "trust_remote_code"],
    "task": ["kind"],
    "data": ["train", "validation", "max_length", "too_long", "packing", "shuffle"],
    "adapter": ["kind"],
    "strategy": ["kind"],
    "optimizer": ["kind", "lr", "weight_decay", "master"],
    "schedule": ["kind", "warmup"],
    "batch": ["micro", "global", "micro_tokens"],
    "train": ["epochs", "max_steps", "seed", "clip", "precision", "checkpointing"],
    "engine": ["kind", "zero", "offload", "nvme", "hpz", "deepspeed"],
    "launch": ["kind", "nodes", "processes", "secrets", "container", "slurm", "kubernetes"],
    "checkpoint": ["every", "keep", "resume"],
    "evaluate": ["every", "metric", "mode"],
    "log": ["every", "tensorboard"],
}
"""The public keys of each section."""


FIRST = {"adapter": "none", "task": "causal_lm", "strategy": "full"}


def _section(name: str) -> dict[str, Any]:
    section = SCHEMA["properties"][name]
    reference = section["$ref"] if "$ref" in section else section["discriminator"]["mapping"][FIRST[name]]
    return dict(SCHEMA["$defs"][reference.removeprefix("#/$defs/")])


def _errors(recipe: Any) -> list[str]:
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(recipe)
    return sorted(f"{'.'.join(map(str, error.absolute_path))}: {error.validator}" for error in found)


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_section_of_the_contract_is_there_in_its_order() -> None:
    assert list(SCHEMA["properties"]) == [*CONTRACT, "output"]


@pytest.mark.parametrize("section", CONTRACT)
def test_every_public_key_is_there(section: str) -> None:
    assert set(CONTRACT[section]) <= set(_section(section)["properties"])


def _objects() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "Recipe", SCHEMA
    yield from SCHEMA["$defs"].items()


@pytest.mark.parametrize(("name", "described"), list(_objects()), ids=[name for name, _ in _objects()])
def test_every_key_is_described_and_no_other_is_allowed(name: str, described: dict[str, Any]) -> None:
    without = [key for key, value in described["properties"].items() if not value.get("description")]

    assert without == []
    assert described["additionalProperties"] is False


def test_a_description_is_the_text_below_its_field() -> None:
    texts = descriptions(Data)

    assert texts["train"] == "The training rows: all rows of all sources."
    assert texts["template"].endswith("auto: the tokenizer's where it has one, else plain.")


def test_the_demo_recipe_fits_the_schema() -> None:
    content = read(assets.recipes()["demo"]).content

    assert _errors(content) == []


def test_the_schema_finds_what_the_loader_refuses() -> None:
    wrong = a_recipe.content(optimizer={"lr": "fast"}, batch={"micr": 1}, engine={"zero": 4}, modell={})

    assert _errors(wrong) == [
        ": additionalProperties",
        "batch: additionalProperties",
        "engine.zero: enum",
        "optimizer.lr: type",
    ]
