"""What stands on the card of an adapter."""

import a_recipe
import yaml

from trainer.adapter.card import card
from trainer.adapter.certificate import Certificate


def told(difference: float | None = 3e-7, tokens: bool = False, **model: str) -> str:
    settings = {"name": "somebody/base", "dtype": "bfloat16", "quantization": "nf4", **model}
    recipe = a_recipe.recipe(model=settings, adapter={"kind": "lora", "r": 8})
    return card(recipe, Certificate(14, 4096, 0, difference), "AutoModelForCausalLM", tokens)


def test_it_says_what_it_is_and_what_was_found() -> None:
    text = told()
    _, head, body = text.split("---\n", 2)

    assert yaml.safe_load(head) == {
        "base_model": "somebody/base",
        "library_name": "peft",
        "tags": ["lora", "shardtune"],
    }
    assert "An adapter (lora of rank 8) for causal_lm, trained in bfloat16 on a base that lies in nf4." in body
    assert 'model = AutoModelForCausalLM.from_pretrained("somebody/base")' in body
    assert "| as a part of their norm | 3.0e-07 (0.02 is allowed) |" in body.replace(
        "outputs of another process that loads it, less the run's, ", ""
    )
    assert "resize_token_embeddings" not in body


def test_what_was_not_asked_or_lies_on_a_disk_is_not_told(tmp_path: object) -> None:
    text = told(None, tokens=True, name=str(tmp_path), revision="main")

    assert "base_model" not in text and "is allowed" not in text
    assert ', revision="main")' in text and "model.resize_token_embeddings(len(tokenizer))" in text
