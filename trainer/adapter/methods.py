"""The adapters by their `adapter.kind`."""

from collections.abc import Callable

from transformers import PreTrainedModel

from trainer.adapter import adalora, dora, ia3, lora, none, oft, p_tuning, peft, prefix, prompt, vera
from trainer.adapter.adapted import Adapted
from trainer.config.recipe import Recipe

METHODS: dict[str, Callable[[PreTrainedModel, Recipe, range], Adapted]] = {
    "none": none.apply,
    "lora": lora.apply,
    "dora": dora.apply,
    "adalora": adalora.apply,
    "ia3": ia3.apply,
    "vera": vera.apply,
    "oft": oft.apply,
    "prompt": prompt.apply,
    "prefix": prefix.apply,
    "p_tuning": p_tuning.apply,
    "peft": peft.apply,
}
