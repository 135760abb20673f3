"""The result of a run with an adapter, in the form that peft loads."""

import shutil
from pathlib import Path

from safetensors import SafetensorError
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer import ranks
from trainer.adapter.adapted import Adapted
from trainer.engine.engine import Engine
from trainer.errors import RunError

_PREFIX = "model."
"""Where the task's module holds the model."""


def save_adapter(folder: Path, engine: Engine, adapted: Adapted, tokenizer: PreTrainedTokenizerBase) -> None:
    """A folder for `PeftModel.from_pretrained`, whole or not at all; all ranks call it, and gather only its tensors."""
    assert adapted.save is not None, "an adapter knows how it is saved"
    gathered = engine.gather([f"{_PREFIX}{name}" for name in adapted.added])
    tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in gathered if ranks.is_main()}
    if ranks.is_main():
        unfinished = folder.with_name(f".{folder.name}")
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            adapted.save(unfinished, tensors)
            tokenizer.save_pretrained(unfinished)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise RunError(
                f"{folder} could not be written: {str(error).splitlines()[0]}; the last checkpoint is whole, and the"
                " same command writes the adapter from it"
            ) from error
    ranks.barrier()
