import random
from pathlib import Path

import a_model
import a_recipe
import pytest
from data import rows

from trainer.config.recipe import Recipe
from trainer.data import templates, tokenizer
from trainer.errors import DataError, RecipeError


def named(**model: str) -> Recipe:
    return Recipe.model_validate({"model": model, "data": {"train": [{"path": "a.jsonl", "format": "chat"}]}})


def test_a_new_tokenizer_has_chatml_and_the_asked_size_and_is_the_same_twice(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(300)]
    file = rows.write(tmp_path / "a.jsonl", [{"text": " ".join(words)}])
    recipe = rows.recipe(file, format="text")
    one, other = tokenizer.load(recipe, tmp_path / "one"), tokenizer.load(recipe, tmp_path / "other")
    assert len(one) == 400
    assert (one.eos_token, one.pad_token, one.chat_template) == ("<|im_end|>", "<|endoftext|>", templates.CHATML)
    assert one.encode("<|im_start|>user") == other.encode("<|im_start|>user")
    files = [(tmp_path / name / "tokenizer" / "tokenizer.json").read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]


def test_a_trained_tokenizer_is_kept_also_when_rows_change(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", rows.completions(100))
    tokenizer.load(rows.recipe(file), tmp_path)
    written = (tmp_path / "tokenizer" / "tokenizer.json").stat().st_mtime_ns
    rows.write(file, rows.completions(200))
    tokenizer.load(rows.recipe(file), tmp_path)
    assert (tmp_path / "tokenizer" / "tokenizer.json").stat().st_mtime_ns == written


def test_a_tokenizer_of_a_folder_takes_the_template_that_rows_are_written_with(tmp_path: Path) -> None:
    recipe = rows.recipe(rows.write(tmp_path / "a.jsonl", rows.completions(50)))
    trained = tokenizer.load(recipe, tmp_path)
    trained.chat_template = None
    trained.save_pretrained(tmp_path / "bare")
    loaded = tokenizer.load(named(name=str(tmp_path / "bare")), tmp_path / "run")
    assert loaded.chat_template == templates.PLAIN
    assert loaded.encode("7 plus") == trained.encode("7 plus")


@pytest.mark.parametrize("key", ["name", "tokenizer"])
def test_a_folder_that_holds_no_tokenizer_is_named_with_its_key(tmp_path: Path, key: str) -> None:
    model = {"name": "-", key: str(tmp_path)}
    with pytest.raises(RecipeError, match=rf"model\.{key}: the folder .* holds no tokenizer"):
        tokenizer.load(named(**model), tmp_path)
    with pytest.raises(RecipeError, match=rf"model\.{key}: .*nowhere: no such folder"):
        tokenizer.load(named(**{**model, key: str(tmp_path / "nowhere")}), tmp_path)


def test_a_damaged_tokenizer_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(RecipeError, match=r"model\.name: .*no tokenizer could be loaded"):
        tokenizer.load(named(name=str(tmp_path)), tmp_path)


def test_rows_that_are_wrong_train_no_tokenizer(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", [*rows.completions(3), {"prompt": "x"}])
    with pytest.raises(DataError, match=r"a\.jsonl:4: has no completion"):
        tokenizer.load(rows.recipe(file), tmp_path)
    assert not (tmp_path / "tokenizer").exists()


def test_new_tokens_follow_the_old_ones_and_are_whole(tmp_path: Path) -> None:
    recipe = a_recipe.recipe(model={"name": str(a_model.save(tmp_path / "base")), "add_tokens": ["<a>", "<b>"]})

    made = tokenizer.load(recipe, tmp_path)

    assert tokenizer.new_tokens(recipe, made) == range(a_model.TOKENS, a_model.TOKENS + 2)
    assert made("x<b>y")["input_ids"][1] == a_model.TOKENS + 1


def test_a_token_that_is_there_is_refused(tmp_path: Path) -> None:
    recipe = a_recipe.recipe(model={"name": str(a_model.save(tmp_path / "base")), "add_tokens": ["<a>", a_model.END]})

    with pytest.raises(RecipeError, match=r"model\.add_tokens\.1: .* is a token of this tokenizer already"):
        tokenizer.load(recipe, tmp_path)
