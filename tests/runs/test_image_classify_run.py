"""A whole run that tells labels of images by the real command, and the model that another program loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs.command import first_validations, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from transformers import AutoImageProcessor, AutoModelForImageClassification

VIT = {"model_type": "vit", "image_size": 16, "patch_size": 4, "hidden_size": 32, "intermediate_size": 64} | {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def draw(folder: Path) -> list[dict[str, str]]:
    """A bright half above or below, in random greys."""
    generator, rows = np.random.default_rng(0), []
    for number in range(90):
        label = ("above", "below")[number % 2]
        dark, bright = np.sort(generator.integers(0, 256, 2)) + np.array((-40, 40))
        halves = (bright, dark) if label == "above" else (dark, bright)
        noise = np.repeat(halves, 12)[:, None, None] + generator.integers(-10, 10, (24, 24, 3))
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "label": label})
    return rows


def write(folder: Path, **sections: Any) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in draw(folder)))
    data = {"train": [{"path": str(folder / "rows.jsonl"), "format": "image"}]}
    settings: dict[str, Any] = {
        "model": {"config": VIT, "tokenizer": None},
        "task": {"kind": "classify"},
        "data": {**data, "validation": {"fraction": 0.2, "stratify": "label"}, "test": {"fraction": 0.1}},
        "batch": {"micro": 8, "global": 16},
        "train": {"max_steps": 60},
        "evaluate": {"every": 20, "metric": "accuracy", "mode": "max"},
    }
    return write_recipe(folder, **{**settings, **sections})


@pytest.fixture(scope="module", params=each("torch", slow=("zero3",)))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = shardtune("train", str(write(folder, **ENGINES[request.param])))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_it_learns_what_is_to_be_seen(finished: Path) -> None:
    assert read_json(finished / "summary.json")["best"]["accuracy"] >= 0.9


def test_another_program_sees_the_same(finished: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(finished / "model").eval()
    processor = AutoImageProcessor.from_pretrained(finished / "model")
    place = finished.parent
    said = shardtune("predict", str(finished), "--input", str(place / "rows.jsonl"))
    assert said.returncode == 0, said.stdout + said.stderr
    rows = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    for row, line in zip(rows, said.stdout.splitlines(), strict=True):
        with torch.no_grad():
            logits = model(**processor(images=Image.open(place / row["image"]), return_tensors="pt")).logits
        assert json.loads(line)["label"] == model.config.id2label[int(logits.argmax())]


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, write, (1, 3))
    assert found[0] == found[1]


def test_what_cannot_be_seen_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"image": "none.png", "label": "above"}) + "\n")
    done = shardtune("train", str(path))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "rows.jsonl:91: " in done.stderr
    assert "none.png" in done.stderr
