"""What a run leaves behind: the model, or an adapter with its certificate."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainer import ranks
from trainer.adapter import card, certificate
from trainer.adapter.adapted import Adapted
from trainer.checkpoint.adapter_weights import save_adapter
from trainer.checkpoint.weights import save_model
from trainer.config.recipe import Recipe
from trainer.data.batches import Window
from trainer.engine.engine import Engine
from trainer.model.load import head_for
from trainer.tasks.heads import PREFIX, write_heads
from trainer.tasks.objective import HasHeads, Objective, Sees


def save(
    recipe: Recipe,
    folder: Path,
    engine: Engine,
    adapted: Adapted,
    task: Objective,
    module: Any,
    tokenizer: Any,
    window: Window,
) -> dict[str, Any] | None:
    """The whole model, or what an adapter added to it; with its tokenizer or processor, and heads of our own. What an
    adapter's certificate says on rank 0, which is asked about the first row of a window.
    """
    if recipe.checkpoint.save == "none":
        return None
    words = task.processor if isinstance(task, Sees) else tokenizer
    heads = [name for name in module.state_dict() if name.startswith(PREFIX)] if isinstance(task, HasHeads) else []
    held = {name: tensor for name, tensor in engine.gather(heads) if ranks.is_main()}
    said: dict[str, Any] | None = None

    def beside(unfinished: Path, written: Mapping[str, torch.Tensor] | None = None) -> None:
        nonlocal said
        if isinstance(task, HasHeads):
            write_heads(unfinished, held, task.heads())
        if written is not None:
            issued = certificate.issue(recipe, unfinished, dict(written), len(tokenizer), adapted.model.config, asked)
            said = issued.to_json()
            new = bool(recipe.model.add_tokens)
            told = card.card(recipe, issued, head_for(recipe).__name__, new)
            (unfinished / card.CARD).write_text(told, encoding="utf-8")

    if adapted.save is None:
        save_model(folder / "model", engine, adapted.model, words, beside)
        return None
    asked = None
    if recipe.checkpoint.certify:
        with engine.gathered():
            asked = certificate.ask(recipe, adapted.model, window.batches[0].input_ids.to(engine.device))
    save_adapter(folder / "adapter", engine, adapted, words, beside)
    return said
