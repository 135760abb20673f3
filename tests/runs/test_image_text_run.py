"""Whole runs of a model that sees by the real command, and the model that another program loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import looking
from PIL import Image
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from transformers import AutoModelForImageTextToText, AutoProcessor

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaVA, and rows about images of one colour."""
    folder = tmp_path_factory.mktemp("base")
    looking.model().save_pretrained(folder / "llava")
    looking.processor().save_pretrained(folder / "llava")
    draw, rows = np.random.default_rng(0), []
    for number in range(48):
        name = list(COLOURS)[number % 3]
        noise = draw.integers(0, 40, (9 + number % 4, 12, 3)) + np.array(COLOURS[name])
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "question": "Which?", "answer": name})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write(base: Path, folder: Path, **sections: Any) -> Path:
    data = {"train": [{"path": str(base / "rows.jsonl"), "format": "image_text"}]}
    evaluate = {"every": 40, "answers": ["exact_match"], "answer_tokens": 8, "samples": 1}
    settings: dict[str, Any] = {
        "model": {"name": str(base / "llava"), "config": None, "tokenizer": None},
        "task": {"kind": "image_text"},
        "data": {**data, "test": {"fraction": 0.2}},
        "train": {"max_steps": 80},
        "evaluate": {**evaluate, "metric": "exact_match", "mode": "max"},
    }
    return write_recipe(folder, **{**settings, **sections})


@pytest.fixture(scope="module", params=each("torch", slow=("ddp", "zero3")))
def finished(request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = shardtune("train", str(write(base, folder, **ENGINES[request.param])))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_it_learns_what_is_to_be_seen(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    assert summary["best"]["exact_match"] >= 0.8
    assert metrics(finished, "validation")[0]["metrics"]["exact_match"] == 0.0


def test_another_program_sees_the_same(finished: Path, base: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(finished / "model").eval()
    processor = AutoProcessor.from_pretrained(finished / "model")
    right = 0
    rows = [json.loads(line) for line in (base / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        image = Image.open(base / row["image"])
        talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["question"]}]}]
        text = processor.apply_chat_template(talk, add_generation_prompt=True)
        taken = processor(text=[text], images=[[image]], return_tensors="pt")
        with torch.no_grad():
            said = model.generate(**taken, max_new_tokens=8, do_sample=False)[0, taken["input_ids"].shape[1] :]
        right += processor.decode(said, skip_special_tokens=True).strip() == row["answer"]
    assert right / len(rows) >= 0.8


def test_a_finished_run_is_measured(finished: Path) -> None:
    done = shardtune("evaluate", str(finished), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = read_json(finished / "summary.json")["test"]
    assert json.loads(done.stdout)["metrics"]["loss"] == pytest.approx(told["loss"], rel=1e-4)


def test_a_finished_run_answers(finished: Path, base: Path) -> None:
    rows = [json.loads(line) for line in (base / "rows.jsonl").read_text().splitlines()]
    asked = [{"image": row["image"], "question": row["question"]} for row in rows]
    said = {"messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "red"}]}
    (base / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*asked, said]))
    done = shardtune("predict", str(finished), "--input", str(base / "asked.jsonl"), "batch.micro=4")
    assert done.returncode == 0, done.stdout + done.stderr
    *found, last = [json.loads(line) for line in done.stdout.splitlines()]
    right = [one["answer"] == row["answer"] for one, row in zip(found, rows, strict=True)]
    assert sum(right) / len(right) >= 0.8
    assert "asks for no answer" in last["why"]


@pytest.mark.slow
def test_rows_may_hold_their_images(base: Path, tmp_path: Path) -> None:
    import base64

    rows = [json.loads(line) for line in (base / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        content = base64.b64encode((base / row["image"]).read_bytes()).decode()
        row["image"] = f"data:image/png;base64,{content}"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses = []
    for folder, place in ((tmp_path / "files", base), (tmp_path / "held", tmp_path)):
        folder.mkdir()
        path = write(base, folder, train={"max_steps": 2}, evaluate={"every": 2})
        content = json.loads(path.read_text())
        content["data"]["train"][0]["path"] = str(place / "rows.jsonl")
        # The digest of a row, and with it the split, depends on the names of images.
        content["data"] |= {"validation": None, "test": None, "shuffle": False}
        path.write_text(json.dumps(content))
        done = shardtune("train", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        losses.append([event["loss"] for event in metrics(folder / "run", "train")])
    assert losses[0] == losses[1]


def test_a_model_that_sees_nothing_is_refused(tmp_path: Path, base: Path) -> None:
    import a_model

    a_model.save(tmp_path / "blind")
    path = write(base, tmp_path, model={"name": str(tmp_path / "blind"), "config": None, "tokenizer": None})
    done = shardtune("train", str(path))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "writes no images" in done.stderr
