"""Whole runs of an encoder-decoder by the real command, and the model that another program loads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs.command import first_validations, metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

T5 = {"model_type": "t5", "d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_heads": 4} | {
    "dropout_rate": 0.0
}
COUNTED = {"two": "zwei", "three": "drei", "four": "vier", "six": "sechs", "nine": "neun", "ten": "zehn"}
THINGS = {"houses": "Häuser", "dogs": "Hunde", "books": "Bücher", "trees": "Bäume", "chairs": "Stühle", "eggs": "Eier"}


def rows() -> list[dict[str, str]]:
    return [{"en": f"{one} {other}", "de": f"{COUNTED[one]} {THINGS[other]}"} for one in COUNTED for other in THINGS]


def write(folder: Path, lines: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines or rows()))
    data = {
        "train": [{"path": str(path), "format": "completion", "fields": {"prompt": "en", "completion": "de"}}],
        "validation": {"fraction": 0.2},
        "test": {"fraction": 0.1},
    }
    base: dict[str, Any] = {
        "model": {"config": T5, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
        "task": {"kind": "seq2seq", "prefix": "say: "},
        "data": data,
        "batch": {"micro": 8, "global": 16},
        "optimizer": {"lr": 5e-3},
        "train": {"max_steps": 160},
        "evaluate": {"every": 80, "answers": ["chrf", "exact_match"], "metric": "chrf", "mode": "max", "samples": 1}
        | {"answer_tokens": 24},
    }
    return write_recipe(folder, **{**base, **sections})


@pytest.fixture(scope="module", params=each("torch", slow=("zero3",)))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = shardtune("train", str(write(folder, **ENGINES[request.param])))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_it_learns_to_translate(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    assert summary["best"]["chrf"] >= 80.0
    assert metrics(finished, "validation")[0]["metrics"]["chrf"] < 20.0
    assert metrics(finished, "validation")[-1]["metrics"].keys() == {"chrf", "exact_match", "perplexity"}
    (sample,) = read_json(finished / "samples.json")["after"]
    assert sample["prompt"].startswith("say: ")
    assert sample["answer"]


def test_another_program_writes_the_same_answers(finished: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(finished / "model").eval()
    words = AutoTokenizer.from_pretrained(finished / "model")
    (sample,) = read_json(finished / "samples.json")["after"]
    source = torch.tensor([words(sample["prompt"])["input_ids"]])
    with torch.no_grad():
        said = model.generate(source, max_new_tokens=24, do_sample=False)
    assert words.decode(said[0], skip_special_tokens=True).strip() == sample["answer"]


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, write)
    assert found[0] == found[1] == found[2]


def test_no_more_answers_are_begun_when_time_is_up(tmp_path: Path) -> None:
    lines = [{"en": f"{number} apples", "de": f"{number}"} for number in range(60)]
    evaluate = {"answers": ["token_f1"], "answer_seconds": 1e-6, "answer_tokens": 4, "every": 100}
    sections = {"data": {"validation": {"fraction": 0.5}}, "train": {"max_steps": 1}, "evaluate": evaluate}
    path = write(tmp_path, lines)
    recipe = json.loads(path.read_text())
    recipe["data"] |= {"validation": {"fraction": 0.5}, "test": None}
    path.write_text(json.dumps(recipe | {"train": sections["train"], "evaluate": evaluate}))
    done = shardtune("train", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert metrics(tmp_path / "run", "validation")[0]["metrics"]["answered"] == 16


@pytest.mark.parametrize(
    ("lines", "sections", "status", "message"),
    [
        ([*rows(), {"en": "zero", "de": " "}], {}, 3, "pairs.jsonl:37: de is empty, so there is nothing to learn; "),
        (None, {"model": {"config": {"model_type": "llama"}}}, 2, "a llama has no head for task.kind: seq2seq"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    tmp_path: Path, lines: list[dict[str, Any]] | None, sections: dict[str, Any], status: int, message: str
) -> None:
    path = write(tmp_path, lines)
    recipe = json.loads(path.read_text())
    for name, keys in sections.items():
        recipe[name] |= keys
    path.write_text(json.dumps(recipe))
    done = shardtune("train", str(path))
    assert done.returncode == status, done.stdout + done.stderr
    assert message in done.stderr
    assert not (tmp_path / "run" / "model").exists()
