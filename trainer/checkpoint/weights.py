"""The result of a run, in the form that transformers loads; written piece by piece as the engine hands tensors over."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer import ranks
from trainer.checkpoint.whole import written_whole
from trainer.engine.engine import Engine

SHARD_BYTES = 2 * 10**9
"""A file holds no more, unless one tensor does; rank 0 holds one file's tensors at a time."""
_PREFIX = "model."
"""Where the task's module holds the model."""

Tensors = dict[str, torch.Tensor]
Piece = tuple[str, torch.Tensor]


def save_model(
    folder: Path,
    engine: Engine,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    more: Callable[[Path], None] = lambda folder: None,
) -> None:
    """A folder for `from_pretrained`, whole or not at all; all ranks call it. `more` writes what else stands in it."""
    shapes = _entries(model)
    gathered = engine.gather([f"{_PREFIX}{name}" for name in shapes])
    pieces = ((name.removeprefix(_PREFIX), tensor) for name, tensor in gathered)
    if not ranks.is_main():
        for _ in pieces:
            pass
        ranks.barrier()
        return
    with written_whole(folder) as unfinished:
        _write_all_but_weights(unfinished, model, tokenizer)
        write_weights(unfinished, model, shapes, pieces)
        more(unfinished)
    ranks.barrier()


def write_weights(folder: Path, model: PreTrainedModel, shapes: Tensors, pieces: Iterator[Piece]) -> None:
    """model.safetensors, or numbered files and their index; `shapes` are the coming tensors without their values.

    Names and layout are those of transformers' own files, where they differ from the model's.
    """
    if _one_by_one(model, shapes):
        pieces = (made for name, tensor in pieces for made in revert_weight_conversion(model, {name: tensor}).items())
        order = [
            made for name, shape in shapes.items() for made in revert_weight_conversion(model, {name: shape}).items()
        ]
    else:
        # Some tensors of the files are made of several of the model's, so that all of them have to be here at once.
        pieces = iter(revert_weight_conversion(model, dict(pieces)).items())
        order = list(revert_weight_conversion(model, shapes).items())
    files = _files([(name, shape.nbytes) for name, shape in order])
    for file, names in files.items():
        held = dict(next(pieces) for _ in names)
        assert list(held) == names, "tensors come in the order of their shapes"
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, folder / file, {"format": "pt"})
        held.clear()
    if len(files) > 1:
        index = {
            "metadata": {"total_size": sum(shape.nbytes for _, shape in order)},
            "weight_map": {name: file for file, names in files.items() for name in names},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _entries(model: PreTrainedModel) -> Tensors:
    """What a file of the model holds, without values: tied weights once, under the name that transformers reads."""
    entries, seen = Tensors(), set[int]()
    tied = getattr(model, "all_tied_weights_keys", {})
    ignored = set(model._keys_to_ignore_on_save or ())
    state = model.state_dict(keep_vars=True)
    for name, tensor in sorted(state.items(), key=lambda entry: entry[0] in tied):
        if name not in ignored and id(tensor) not in seen:
            shape = getattr(tensor, "ds_shape", tensor.shape)
            entries[name] = torch.empty(shape, dtype=tensor.dtype, device="meta")
        seen.add(id(tensor))
    return {name: entries[name] for name in state if name in entries}


def _one_by_one(model: PreTrainedModel, shapes: Tensors) -> bool:
    """Whether each tensor of the model makes tensors of the files by itself."""
    apart = Tensors()
    for name, shape in shapes.items():
        apart.update(revert_weight_conversion(model, {name: shape}))
    together = revert_weight_conversion(model, dict(shapes))
    return {name: shape.shape for name, shape in apart.items()} == {n: shape.shape for n, shape in together.items()}


def _files(sizes: list[tuple[str, int]]) -> dict[str, list[str]]:
    """Which tensors go into which file, in their order."""
    held: list[list[str]] = [[]]
    bytes_ = 0
    for name, size in sizes:
        if held[-1] and bytes_ + size > SHARD_BYTES:
            held.append([])
            bytes_ = 0
        held[-1].append(name)
        bytes_ += size
    if len(held) == 1:
        return {"model.safetensors": held[0]}
    return {f"model-{index:05d}-of-{len(held):05d}.safetensors": names for index, names in enumerate(held, start=1)}


def _write_all_but_weights(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Configurations, code that came with the model, and the tokenizer."""
    model.config.use_cache = True
    model.save_pretrained(folder, state_dict={})
    model.config.use_cache = False
    tokenizer.save_pretrained(folder)
