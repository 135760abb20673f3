from contextlib import nullcontext
from pathlib import Path
from typing import Any

import a_model
import a_recipe
import families
import pytest
from transformers import AutoConfig, AutoTokenizer

from trainer.errors import RecipeError
from trainer.model.attention import SEGMENTS
from trainer.model.load import load


def _load(folder: Path, kind: str, settings: dict[str, Any], packing: bool, **model: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(a_model.save(folder))
    section = {"name": None, "config": {**settings, "model_type": kind, "vocab_size": 300}, "tokenizer": "-", **model}
    return load(a_recipe.recipe(model=section, data={"packing": packing}), tokenizer, nullcontext())


@pytest.mark.parametrize(
    ("packing", "wanted", "taken"),
    [(True, "auto", SEGMENTS), (True, "segments", SEGMENTS)]
    + [(False, wanted, taken) for wanted, taken in [("auto", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")]],
)
def test_the_layout_and_the_recipe_choose_the_attention(tmp_path: Path, packing: bool, wanted: str, taken: str) -> None:
    model = _load(tmp_path, "llama", families.PACKED["llama"], packing, attention=wanted)

    assert model.config._attn_implementation == taken


def test_padded_rows_of_a_model_with_a_soft_cap_take_the_attention_that_has_it(tmp_path: Path) -> None:
    model = _load(tmp_path, "gemma2", families.PACKED["gemma2"], packing=False)

    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("kind", ["falcon", "gpt_neo"])
def test_a_model_that_knows_its_own_attentions_alone_is_refused_packed(tmp_path: Path, kind: str) -> None:
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "gpt_neo":
        settings = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]}

    with pytest.raises(RecipeError, match=r"data.packing: this model does not attend through .*; set it to false"):
        _load(tmp_path, kind, settings, packing=True)

    assert _load(tmp_path, kind, settings, packing=False).config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize(
    ("task", "outputs", "kept"),
    [
        ({"problem": "ordinal", "labels": ["low", "middle", "high"]}, 2, {"ordinal_labels": ["low", "middle", "high"]}),
        ({"problem": "multiple", "threshold": 0.3}, 3, {"label_threshold": 0.3}),
    ],
)
def test_a_pretrained_model_takes_what_its_head_needs_to_know(
    tmp_path: Path, task: dict[str, Any], outputs: int, kept: dict[str, Any]
) -> None:
    folder = a_model.save(tmp_path / "base")
    recipe = a_recipe.recipe(model={"name": str(folder), "dtype": "float32"}, task={"kind": "classify", **task})

    model = load(recipe, AutoTokenizer.from_pretrained(folder), nullcontext(), ["low", "middle", "high"])
    model.save_pretrained(tmp_path / "saved")

    config = AutoConfig.from_pretrained(tmp_path / "saved")
    assert config.num_labels == outputs
    assert {name: getattr(config, name) for name in kept} == kept
