"""The adapters by their `adapter.kind`."""

from collections.abc import Callable

from transformers import PreTrainedModel

from trainer.adapter import dora, ia3, lora, none
from trainer.adapter.adapted import Adapted
from trainer.config.recipe import Recipe

METHODS: dict[str, Callable[[PreTrainedModel, Recipe, range], Adapted]] = {
    "none": none.apply,
    "lora": lora.apply,
    "dora": dora.apply,
    "ia3": ia3.apply,
}
