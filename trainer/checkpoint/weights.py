"""The result of a run, in the form that transformers loads."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer import ranks
from trainer.engine.engine import Engine

_PREFIX = "model."
"""Where the task's module holds the model."""


def save_model(folder: Path, engine: Engine, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """A folder for `AutoModelForCausalLM.from_pretrained`, whole or not at all; all ranks call it."""
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in engine.gather() if ranks.is_main()}
    if ranks.is_main():
        unfinished = folder.with_name(f".{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        model.config.use_cache = True
        model.save_pretrained(unfinished, state_dict=state)
        model.config.use_cache = False
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    ranks.barrier()
