"""Whether an adapter that was written is the one that was trained: read back tensor by tensor, and asked by a stranger.

The stranger is a process of its own that knows transformers and peft alone, and a fresh base.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from trainer import ranks
from trainer.adapter import lora_product
from trainer.adapter.adapted import WEIGHTS, Tensors
from trainer.adapter.finished import OF_HEADS
from trainer.config.recipe import Recipe
from trainer.data.formats import only_images
from trainer.errors import RunError
from trainer.kernels import library
from trainer.model import quantize
from trainer.model.attention import own_attention
from trainer.model.load import head_for

ALLOWED = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-2}
"""The norm of the difference of the stranger's outputs to ours, as a part of the norm of ours, that is allowed."""
MOST_TOKENS = 64
"""Of the row that both are asked."""


@dataclass(frozen=True)
class Certificate:
    """What was found; it stands in summary.json."""

    tensors: int
    """Equal, bit by bit, in the file and in training."""
    nbytes: int
    """Of the file."""
    zeros: int
    """Tensors that hold nothing but zeros."""
    difference: float | None
    """The norm of the stranger's outputs less ours, as a part of the norm of ours; None where it was not asked."""

    def to_json(self) -> dict[str, Any]:
        """As summary.json holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """What the stranger is asked, and what the run says."""

    ids: list[list[int]]
    said: torch.Tensor


@torch.no_grad()
def ask(recipe: Recipe, model: PreTrainedModel, ids: torch.Tensor) -> Asked | None:
    """What the model of the run says to the beginning of a row [1, S], whose weights are whole; None where a stranger
    could not be asked: of images, or where a host has no room for another base. All ranks call it.
    """
    size = sum(weight.nbytes for weight in model.parameters())
    # Alike on all ranks, each of which sees the memory at its own moment.
    room = min(ranks.all_gather(float(ranks.available_memory())))
    if only_images(recipe.data) or recipe.task.kind == "image_text" or 2 * size > room:
        return None
    ids = ids[:1, :MOST_TOKENS]
    training = model.training
    model.eval()
    with own_attention(model), library.turned_off(), lora_product.undone(model):
        said = outputs(model, ids)
    model.train(training)
    return Asked(ids.tolist(), said)


def outputs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of tokens [1, S] in float32 on the host: logits, or what a body without a head ends with."""
    ids = ids.to(model.device)
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    said = model(input_ids=ids, **more)
    found: torch.Tensor = said["logits"] if "logits" in said else said[0]
    return found.float().cpu()


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The norm of the difference as a part of the norm of `theirs`."""
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))


def issue(recipe: Recipe, folder: Path, written: Tensors, tokens: int, config: Any, asked: Asked | None) -> Certificate:
    """Of a folder that an adapter was just written into; RunError where it is not what was trained.

    `written` are its tensors as they are named in the file, `tokens` those of its tokenizer.
    """
    read = load_file(folder / WEIGHTS)
    wrong = sorted({*read} ^ {*written}) or [
        name for name, one in written.items() if not torch.equal(read[name], one.cpu()) or one.numel() == 0
    ]
    if wrong:
        raise RunError(f"the adapter that was written is not the one that was trained: {', '.join(wrong[:3])}")
    zeros = sum(not bool(one.any()) for one in read.values())
    if zeros == len(read):
        raise RunError("the adapter holds nothing but zeros: it trained nothing")
    difference = None if asked is None else _difference(recipe, folder, tokens, config, asked)
    if difference is not None and not difference <= ALLOWED[recipe.model.dtype]:
        raise RunError(
            f"another program that loads the adapter says something else: outputs differ by {difference:.1e} of "
            f"their norm, and {ALLOWED[recipe.model.dtype]:.0e} is allowed"
        )
    return Certificate(len(read), (folder / WEIGHTS).stat().st_size, zeros, difference)


def _difference(recipe: Recipe, folder: Path, tokens: int, config: Any, asked: Asked) -> float:
    model = recipe.model
    content = {
        "base": model.name,
        "revision": model.revision,
        "head": head_for(recipe).__name__,
        "head_config": {name: getattr(config, name) for name in OF_HEADS if hasattr(config, name)},
        "dtype": model.dtype,
        "quantization": quantize.keys(recipe),
        "trust_remote_code": model.trust_remote_code,
        "adapter": str(folder),
        "tokens": tokens,
        "ids": asked.ids,
    }
    with tempfile.TemporaryDirectory() as scratch:
        question, answer = Path(scratch) / "asked.json", Path(scratch) / "said.npy"
        question.write_text(json.dumps(content), encoding="utf-8")
        script = Path(__file__).with_name("stranger.py")
        # -P: our own modules beside the script are none of its.
        command = [sys.executable, "-P", str(script), str(question), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
            raise RunError(f"another program cannot load the adapter: {why}")
        theirs = torch.from_numpy(np.load(answer))
    if theirs.shape != asked.said.shape:
        raise RunError(f"another program that loads the adapter gives outputs of {tuple(theirs.shape)}")
    return distance(theirs, asked.said)
