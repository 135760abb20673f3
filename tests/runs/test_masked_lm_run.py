"""Whole runs of masked language models by the real command, and the models that come out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

BERT = {"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2} | {
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
COLOURS = {"snow": "white", "grass": "green", "coal": "black", "blood": "red", "gold": "yellow"}


def write(folder: Path, lines: list[dict[str, Any]], format: str, **sections: Any) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    settings: dict[str, Any] = {
        "model": {"config": BERT, "tokenizer": {"vocab_size": 400}, "dtype": "float32"},
        "data": {"train": [{"path": str(path), "format": format}], "validation": {"fraction": 0.2}},
        "batch": {"micro": 8, "global": 16},
        "optimizer": {"lr": 3e-3},
        "evaluate": {"every": 100, "metric": "perplexity"},
    }
    return write_recipe(folder, **{**settings, **sections})


def test_words_are_learned_and_filled_in(tmp_path: Path) -> None:
    lines = [
        {"text": f"In {year} the {thing} was {COLOURS[thing]}."} for thing in COLOURS for year in range(1900, 1940)
    ]
    task = {"kind": "masked_lm", "masking": "whole_word"}
    done = shardtune("train", str(write(tmp_path, lines, "text", task=task, train={"max_steps": 300})))
    assert done.returncode == 0, done.stdout + done.stderr
    events = metrics(tmp_path / "run", "validation")
    assert events[-1]["metrics"].keys() == {"perplexity", "accuracy"}
    assert read_json(tmp_path / "run" / "summary.json")["best"]["perplexity"] < events[0]["metrics"]["perplexity"] / 20
    asked = [{"text": f"In 1905 the {thing} was<|mask|>."} for thing in COLOURS]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    said = shardtune("predict", str(tmp_path / "run"), "--input", str(tmp_path / "asked.jsonl"))
    assert said.returncode == 0, said.stdout + said.stderr
    fillings = [json.loads(line)["masks"][0] for line in said.stdout.splitlines()]
    assert sum(one[0]["token"] == colour for one, colour in zip(fillings, COLOURS.values(), strict=True)) >= 4
    # transformers alone says the same.
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    for row, filled in zip(asked, fillings, strict=True):
        taken = words(row["text"], return_tensors="pt")
        with torch.no_grad():
            chances = model(input_ids=taken["input_ids"]).logits[taken["input_ids"] == words.mask_token_id].softmax(-1)
        assert filled[0]["score"] == pytest.approx(float(chances.max()), rel=1e-3)


@pytest.mark.slow
def test_pairs_tell_what_follows_on_two_ranks(tmp_path: Path) -> None:
    lines = [
        {"texts": [f"{thing} {thing} {year}", f"{COLOURS[thing]} {COLOURS[thing]}"]}
        for thing in COLOURS
        for year in range(1900, 1940)
    ]
    task = {"kind": "masked_lm", "next_sentence": True}
    settings = {"task": task, "train": {"max_steps": 100}, **ENGINES["ddp"]}
    done = shardtune("train", str(write(tmp_path, lines, "pair", **settings)))
    assert done.returncode == 0, done.stdout + done.stderr
    first, *_, last = metrics(tmp_path / "run", "validation")
    assert last["loss"] < first["loss"] / 2
    assert last["metrics"].keys() == {"perplexity", "accuracy", "next_sentence_accuracy"}
    assert last["metrics"]["accuracy"] >= 0.6
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "run" / "model")
    assert model.cls.seq_relationship.weight.abs().sum() > 0


def test_a_decoder_is_refused(tmp_path: Path) -> None:
    llama = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sections = {"model": {"config": llama}, "task": {"kind": "masked_lm"}}
    done = shardtune(
        "train", str(write(tmp_path, [{"text": f"{number}."} for number in range(20)], "text", **sections))
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "model.config: a llama has no head for task.kind: masked_lm" in done.stderr
