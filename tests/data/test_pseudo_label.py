import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest
import torch
from data.rows import write
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from trainer.adapter import lora
from trainer.config.causal_lm import CausalLM
from trainer.config.load import dump
from trainer.config.recipe import Recipe
from trainer.data import pseudo_label
from trainer.data import tokenizer as tokenizers
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.pseudo_label import Labelled
from trainer.data.reading import read_all
from trainer.data.sources import train_sources
from trainer.engine.torch import TorchEngine
from trainer.errors import DataError, RecipeError
from trainer.model.load import load

KNOWN = {"the sky": "blue", "the grass": "green", "a crow": "black", "the snow": "white"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that knows four answers, in conversations."""
    folder = tmp_path_factory.mktemp("taught")
    file = write(folder / "rows.jsonl", [{"question": ask(thing), "answer": said} for thing, said in KNOWN.items()])
    fields = {"instruction": "question", "output": "answer"}
    recipe = a_recipe.recipe(
        model={"name": str(a_model.save(folder / "base")), "dtype": "float32"},
        data={
            "train": [{"path": str(file), "format": "instruction", "fields": fields}],
            "clean": {"white_space": True},
        },
    )
    tokenizer = tokenizers.load(recipe, folder)
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    return finish(folder / "run", recipe, tokenizer, teach(model, recipe, tokenizer))


@pytest.fixture(scope="module")
def completing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that goes on after a space, which its tokenizer makes a part of the next word."""
    folder = tmp_path_factory.mktemp("completing")
    said = [{"prompt": f"see, {thing} is ", "completion": colour} for thing, colour in KNOWN.items()]
    texts = write(folder / "texts.jsonl", [{"text": row["prompt"] + row["completion"]} for row in said])
    file = write(folder / "rows.jsonl", said)
    new = {"name": None, "config": {"model_type": "llama"}, "dtype": "float32"}
    of_texts = {"train": [{"path": str(texts), "format": "text"}]}
    tokenizer = tokenizers.load(a_recipe.recipe(model={**new, "tokenizer": {"vocab_size": 400}}, data=of_texts), folder)
    assert [len(tokenizer.encode(word)) for word in (" a", *(f" {said}" for said in KNOWN.values()))] == [1] * 5
    recipe = a_recipe.recipe(
        model={**new, "tokenizer": str(folder / "tokenizer")},
        data={"train": [{"path": str(file), "format": "completion"}]},
    )
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1)
    return finish(folder / "run", recipe, tokenizer, teach(LlamaForCausalLM(config), recipe, tokenizer))


def ask(thing: str) -> str:
    return f"what colour is {thing}?"


def teach(model: Any, recipe: Recipe, tokenizer: Any) -> Any:
    """The model after a hundred passes over the rows of the recipe, as they are tokenised for training."""
    said = [one for key, source in train_sources(recipe.data) for one in read_all(CausalLM(), key, source)]
    made = Encoder(recipe, tokenizer).encode([one for one in said if isinstance(one, Example)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        for one in made:
            assert isinstance(one, Encoded)
            tokens = torch.tensor(one.tokens, dtype=torch.long)
            labels = torch.where(torch.tensor(one.learned), tokens, -100)
            model(input_ids=tokens[None], labels=labels[None]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def finish(folder: Path, recipe: Recipe, tokenizer: Any, model: Any) -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(dump(recipe), encoding="utf-8")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def label(run: Path, folder: Path, file: Path, format: str = "instruction", **settings: Any) -> Labelled:
    settings = {"max_tokens": 12, **settings}
    rows = [{"path": str(file), "format": format, **settings.pop("source", {})}]
    return pseudo_label.label(
        a_recipe.recipe(data={"pseudo_label": {"run": str(run), "rows": rows, **settings}}), folder
    )


def answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pseudo.jsonl").read_text().split("\n") if line]


def taken(labelled: Labelled) -> list[dict[str, Any]]:
    [(_, source)] = labelled.sources
    return [json.loads(line) for line in Path(str(source.path)).read_text().split("\n") if line]


def chance(model: Any, tokens: list[int], start: int) -> float:
    """The geometric mean of the probabilities of the tokens from `start` on."""
    with torch.no_grad():
        chances = model(torch.tensor([tokens])).logits[0, start - 1 : -1].double().log_softmax(-1)
    wanted = torch.tensor(tokens[start:])
    return float(chances.gather(1, wanted[:, None]).mean().exp())


def test_what_the_run_knows_becomes_rows_that_are_marked(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", [{"q": ask(thing), "id": number} for number, thing in enumerate(KNOWN)])
    labelled = label(run, tmp_path, file, source={"fields": {"instruction": "q", "output": "said"}})
    rows = taken(labelled)
    assert [(row["q"], row["id"], row["said"]) for row in rows] == [
        (ask(thing), number, said) for number, (thing, said) in enumerate(KNOWN.items())
    ]
    assert all(0.9 < row["pseudo_label"] < 1 for row in rows) and labelled.left_out == ()
    [(key, source)] = labelled.sources
    assert key == "data.pseudo_label.rows.0"
    read = list(read_all(CausalLM(), key, source))
    assert [one.messages[-1]["content"] for one in read if isinstance(one, Example)] == list(KNOWN.values())


def test_the_confidence_is_the_mean_probability_of_the_tokens_and_of_the_end(run: Path, tmp_path: Path) -> None:
    # Prompts of several lengths, so that all but one are padded on the left.
    things = ["the sky", "love", "a very long way to the snow"]
    label(run, tmp_path, write(tmp_path / "new.jsonl", [{"instruction": ask(thing)} for thing in things]))
    model, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    for thing, answer in zip(things, answers(tmp_path), strict=True):
        messages = [{"role": "user", "content": ask(thing)}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer.encode(text)
        tokens = [
            *prompt,
            *tokenizer.encode(answer["answer"]),
            *([tokenizer.eos_token_id] if not answer["why"] else []),
        ]
        assert answer["confidence"] == pytest.approx(chance(model, tokens, len(prompt)), rel=1e-4)
        greedy = model.generate(torch.tensor([prompt]), max_new_tokens=13, do_sample=False, pad_token_id=0)
        assert tokens == greedy[0].tolist()


def test_what_the_run_is_not_sure_of_is_left_out_with_the_confidence(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", [{"instruction": ask(thing)} for thing in (*KNOWN, "love")])
    labelled = label(run, tmp_path, file, confidence=0.999999)
    assert labelled.sources == ()
    assert [(row.reason, row.source, row.line) for row in labelled.left_out] == [
        ("unsure", str(file), line) for line in range(1, 6)
    ]
    sure = answers(tmp_path)[0]["confidence"]
    assert labelled.left_out[0].why == (
        f"the run is {sure:.3f} sure of its answer, less than data.pseudo_label.confidence: 0.999999"
    )


def test_answers_are_made_once(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "new.jsonl", [{"instruction": ask(thing)} for thing in KNOWN])
    first = label(run, tmp_path, file)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("pseudo*")}
    monkeypatch.setattr(pseudo_label, "answer", lambda *_: pytest.fail("answered again"))
    assert label(run, tmp_path, file) == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("pseudo*")} == made
    assert label(run, tmp_path, file, confidence=1.0).sources == ()
    monkeypatch.undo()
    write(file, [{"instruction": ask("the sky")}])
    assert [row["output"] for row in taken(label(run, tmp_path, file))] == ["blue"]


def test_a_conversation_gets_its_last_turn(run: Path, tmp_path: Path) -> None:
    talk = [{"from": "human", "value": ask("the grass")}]
    answered = [*talk, {"from": "gpt", "value": "green"}]
    file = write(tmp_path / "new.jsonl", [{"conversations": talk}, {"conversations": answered}])
    labelled = label(run, tmp_path, file, "chat", confidence=0.5)
    [row] = taken(labelled)
    assert row["messages"][-1] == {"role": "assistant", "content": "green"} and len(row["messages"]) == 2
    [left] = labelled.left_out
    assert (left.line, left.why) == (2, "ends with a message of the assistant, so it asks for no answer")
    [(key, source)] = labelled.sources
    assert all(isinstance(one, Example) for one in read_all(CausalLM(), key, source))


def test_a_completion_goes_on_where_the_prompt_ends(completing: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path / "new.jsonl", [{"prompt": f"see, {thing} is{space}"} for thing in KNOWN for space in (" ", "")]
    )
    rows = taken(label(completing, tmp_path, file, "completion", confidence=0.5))
    assert [row["prompt"] + row["completion"] for row in rows] == [
        f"see, {thing} is {said}" for thing, said in KNOWN.items() for _ in range(2)
    ]
    assert rows[0]["completion"] == "blue" and rows[1]["completion"] == " blue"


def test_a_prompt_is_mended_as_the_run_was_taught(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", [{"instruction": f"  {ask('a crow').replace(' ', '   ')}\u2028"}])
    [row] = taken(label(run, tmp_path, file))
    assert row["output"] == "black" and row["instruction"].startswith("  what   colour")


def test_an_answer_without_an_end_and_one_without_room_are_left_out(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", [{"instruction": ask("the sky")}, {"instruction": "x" * 200}])
    short = label(run, tmp_path, file, max_tokens=3, confidence=0.0)
    assert short.left_out[0].why == "its answer has more than 3 tokens (max_tokens)"
    assert answers(tmp_path)[0]["answer"] == "blue"
    assert "which leaves no room for max_tokens: 3 of the model's 128" in short.left_out[1].why


def test_an_empty_answer_is_none(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [{"instruction": ask("the sky"), "output": ""}])
    recipe = a_recipe.recipe(
        model={"name": str(run / "model"), "dtype": "float32"},
        data={"train": [{"path": str(file), "format": "instruction"}]},
    )
    tokenizer, model = (kind.from_pretrained(run / "model") for kind in (AutoTokenizer, AutoModelForCausalLM))
    mute = finish(tmp_path / "mute", recipe, tokenizer, teach(model, recipe, tokenizer))
    [left] = label(mute, tmp_path, file, confidence=0.0).left_out
    assert left.why == "its answer is empty"


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_answers_on_its_base_with_its_new_tokens(tmp_path: Path, tied: bool) -> None:
    base = a_model.save(tmp_path / "base", tied=tied)
    file = write(tmp_path / "new.jsonl", [{"prompt": "the <sky> is"}, {"prompt": "so <sky>"}])
    recipe = a_recipe.recipe(
        model={"name": str(base), "dtype": "float32", "add_tokens": ["<sky>"]},
        adapter={"kind": "lora", "r": 4},
        data={"train": [{"path": str(file), "format": "completion"}]},
    )
    tokenizer = tokenizers.load(recipe, tmp_path)
    model = load(recipe, tokenizer, TorchEngine(torch.device("cpu"), None).loading())
    adapted = lora.apply(model, recipe, tokenizers.new_tokens(recipe, tokenizer))
    torch.manual_seed(1)
    with torch.no_grad():
        tensors = {name: one.normal_(std=0.3) for name, one in model.named_parameters() if name in adapted.added}
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    assert adapted.save is not None
    adapted.save(run / "adapter", tensors)
    tokenizer.save_pretrained(run / "adapter")
    (run / "recipe.yaml").write_text(dump(recipe), encoding="utf-8")

    label(run, tmp_path, file, "completion")

    model.set_attn_implementation("sdpa")
    decode = partial(tokenizer.decode, skip_special_tokens=True)
    for answer in answers(tmp_path):
        prompt = tokenizer.encode(answer["prompt"])
        assert tokenizer.convert_tokens_to_ids("<sky>") in prompt
        tokens = model.generate(torch.tensor([prompt]), max_new_tokens=13, do_sample=False, pad_token_id=0)[0].tolist()
        assert answer["answer"] == decode(tokens)[len(decode(prompt)) :]
        assert answer["confidence"] == pytest.approx(chance(model, tokens, len(prompt)), rel=1e-4)


def test_a_folder_without_a_result_is_told_with_the_key(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", [{"instruction": "x"}])
    with pytest.raises(
        RecipeError, match=r"data\.pseudo_label\.run: .*nowhere is no run folder: it holds no recipe\.yaml"
    ):
        label(tmp_path / "nowhere", tmp_path, file)
    (tmp_path / "begun").mkdir()
    shutil.copy(run / "recipe.yaml", tmp_path / "begun")
    with pytest.raises(RecipeError, match=r"begun holds neither model nor adapter: the run is not finished"):
        label(tmp_path / "begun", tmp_path, file)


def test_wrong_rows_are_told_with_their_place_and_nothing_is_answered(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", [{"instruction": "x"}, {"question": "x"}, {"instruction": None}])
    with pytest.raises(DataError) as raised:
        label(run, tmp_path, file)
    assert [problem.where for problem in raised.value.problems] == [f"{file}:2", f"{file}:3"]
    assert not (tmp_path / "pseudo.jsonl").exists()


def test_rows_that_may_be_wrong_are_left_out(run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.jsonl", [{"question": "x"}, {"instruction": ask("the sky")}])
    wanted = {"run": str(run), "rows": [{"path": str(file), "format": "instruction"}], "max_tokens": 12}
    labelled = pseudo_label.label(a_recipe.recipe(data={"pseudo_label": wanted, "max_bad_rows": 1}), tmp_path)
    assert [row["output"] for row in taken(labelled)] == ["blue"]
    [left] = labelled.left_out
    assert (left.reason, left.line) == ("wrong", 1) and left.why.startswith("has no instruction")


def test_a_recipe_without_rows_to_label_has_none(run: Path, tmp_path: Path) -> None:
    recipe = a_recipe.recipe()
    pseudo_label.check(recipe)
    assert pseudo_label.label(recipe, tmp_path) == Labelled((), ()) and not list(tmp_path.iterdir())
    wanted = {"run": str(run), "rows": [{"path": "-", "format": "chat"}]}
    pseudo_label.check(a_recipe.recipe(data={"pseudo_label": wanted}))
    with pytest.raises(RecipeError, match="is no run folder"):
        pseudo_label.check(a_recipe.recipe(data={"pseudo_label": {**wanted, "run": "nowhere"}}))
