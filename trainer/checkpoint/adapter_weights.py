"""The result of a run with an adapter, in the form that peft loads."""

from collections.abc import Callable
from pathlib import Path

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer import ranks
from trainer.adapter.adapted import Adapted, Tensors
from trainer.checkpoint.whole import written_whole
from trainer.engine.engine import Engine

_PREFIX = "model."
"""Where the task's module holds the model."""


def save_adapter(
    folder: Path,
    engine: Engine,
    adapted: Adapted,
    tokenizer: PreTrainedTokenizerBase,
    more: Callable[[Path, Tensors], None] = lambda folder, written: None,
) -> None:
    """A folder for `PeftModel.from_pretrained`, whole or not at all; all ranks call it, and gather only its tensors.

    `more` writes what else stands in it, and may look at what was written.
    """
    assert adapted.save is not None, "an adapter knows how it is saved"
    gathered = engine.gather([f"{_PREFIX}{name}" for name in adapted.added])
    tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in gathered if ranks.is_main()}
    if ranks.is_main():
        with written_whole(folder) as unfinished:
            written = adapted.save(unfinished, tensors)
            tokenizer.save_pretrained(unfinished)
            # It tells the labels of a head, which the weights below do not know.
            adapted.model.config.save_pretrained(unfinished)
            more(unfinished, written)
    ranks.barrier()
