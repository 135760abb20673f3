"""`shardtune export RUN --to merged` after a real run with new tokens."""

from pathlib import Path

import a_model
import pytest
import torch
from runs.command import shardtune, write_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.mark.slow
def test_the_merged_model_loads_by_itself_and_says_the_same(tmp_path: Path) -> None:
    from peft import PeftModel

    base = a_model.save(tmp_path / "base")
    model = {"config": None, "tokenizer": None, "name": str(base), "dtype": "float32", "add_tokens": ["plus"]}
    recipe = write_recipe(tmp_path, model=model, adapter={"kind": "lora", "r": 4}, optimizer={"lr": 2e-2})
    assert shardtune("train", str(recipe)).returncode == 0

    done = shardtune("export", str(tmp_path / "run"), "--to", "merged")

    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "merged"
    assert f"Model: {folder}, in float32" in done.stdout
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("What is 3 plus 4?", return_tensors="pt").input_ids
    assert len(tokenizer) == 258 and 257 in ids
    plain = AutoModelForCausalLM.from_pretrained(base)
    plain.resize_token_embeddings(258, mean_resizing=False)
    beside = PeftModel.from_pretrained(plain, tmp_path / "run" / "adapter")
    with torch.no_grad():
        said, theirs = AutoModelForCausalLM.from_pretrained(folder)(ids).logits, beside(ids).logits
    assert float((said - theirs).norm() / theirs.norm()) < 1e-5


def test_what_cannot_be_merged_is_told(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, train={"max_steps": 1})
    assert shardtune("train", str(recipe)).returncode == 0

    whole = shardtune("export", str(tmp_path / "run"), "--to", "merged")
    nothing = shardtune("export", str(tmp_path / "nothing"), "--to", "merged")

    assert (whole.returncode, nothing.returncode) == (2, 2)
    assert "has no adapter: " in whole.stderr and "is a whole model already" in whole.stderr
    assert "is no run folder" in nothing.stderr
