"""What must hold between `adapter:` and other keys."""

import re

from trainer.config.adapter import AdaLora, Dora, Lora, OfPeft, Prefix, Prompted, Targeted, Thin
from trainer.config.recipe import Recipe
from trainer.errors import Problem

STARTS_ON = {"pissa": ("none",), "olora": ("none",), "loftq": ("nf4", "fp4")}
"""The values of `model.quantization` that a start of LoRA is for."""


def an_adapter_stands_on_pretrained_weights(recipe: Recipe) -> Problem | None:
    """Who loads an adapter needs the weights below it, and those of a new model are saved nowhere."""
    if recipe.adapter.kind != "none" and recipe.model.config is not None:
        return Problem(
            "adapter.kind",
            f"{recipe.adapter.kind} needs the pretrained weights of model.name; train a new model in full",
        )
    return None


def targets_can_be_matched(recipe: Recipe) -> Problem | None:
    """Lists of targets, ranks and alphas hold names or regular expressions."""
    adapter = recipe.adapter
    if not isinstance(adapter, Targeted):
        return None
    if isinstance(adapter.targets, tuple) and not (adapter.targets and all(adapter.targets)):
        return Problem(
            "adapter.targets", "holds nothing to match; name endings such as q_proj, or set it to all_linear"
        )
    named = {"ranks": [*adapter.ranks], "alphas": [*adapter.alphas]} if isinstance(adapter, Thin) else {}
    named["targets"] = [*adapter.targets] if isinstance(adapter.targets, tuple) else []
    for key, patterns in named.items():
        for target in patterns:
            pattern = target.removeprefix("re:")
            try:
                re.compile(pattern if pattern != target else "")
            except re.error as error:
                return Problem(f"adapter.{key}", f"{target!r} is no regular expression: {error}")
    return None


def new_tokens_have_an_adapter_that_keeps_them(recipe: Recipe) -> Problem | None:
    """Peft keeps rows of new tokens beside LoRA alone."""
    kind = recipe.adapter.kind
    if not recipe.model.add_tokens or kind == "none" or isinstance(recipe.adapter, Thin):
        return None
    message = (
        f"get rows that peft keeps beside lora and dora alone, not beside {kind}; set adapter.kind, or leave it out"
    )
    return Problem("model.add_tokens", message)


def what_stands_before_rows_has_rows_of_its_own(recipe: Recipe) -> Problem | None:
    """A prompt stands before one row of tokens, and before all layers."""
    adapter, kind = recipe.adapter, recipe.adapter.kind
    if not isinstance(adapter, Prompted):
        return None
    if recipe.data.packing:
        return Problem("data.packing", f"{kind} stands before each example, not between two of them; set it to false")
    if any(source.format == "image" for source in recipe.data.train) or recipe.task.kind == "image_text":
        return Problem("adapter.kind", f"{kind} stands before tokens, not before images; take lora")
    if recipe.strategy.kind != "full":
        message = f"chooses among layers, and {kind} stands before them; leave it out"
        return Problem("strategy.kind", f"{recipe.strategy.kind} {message}")
    if isinstance(adapter, Prefix) and recipe.train.checkpointing != "none":
        message = "computes keys again that prefix has put its own before; set it to none, or take prompt"
        return Problem("train.checkpointing", message)
    return None


def a_start_fits_the_base(recipe: Recipe) -> Problem | None:
    """What begins with parts of the weights needs them whole, what makes up for their quantization needs that."""
    adapter, stored = recipe.adapter, recipe.model.quantization
    if not isinstance(adapter, Lora) or stored in STARTS_ON.get(adapter.start, (stored,)):
        return None
    wanted = " or ".join(STARTS_ON[adapter.start])
    message = f"{adapter.start} needs model.quantization: {wanted}, not {stored}; set that, or leave this out"
    return Problem("adapter.start", message)


def what_looks_at_inputs_has_a_whole_model(recipe: Recipe) -> Problem | None:
    """EVA looks at rows before the engine has the model, which ZeRO-3 shares out as it is loaded."""
    if isinstance(recipe.adapter, Lora) and recipe.adapter.start == "eva" and recipe.engine.zero == 3:
        message = "eva looks at a whole model before the first step, which ZeRO-3 shares out; set engine.zero to 2"
        return Problem("adapter.start", f"{message}, or this to default")
    return None


def ranks_are_let_go_in_the_middle(recipe: Recipe) -> Problem | None:
    """AdaLoRA lets ranks go in the middle of a run, by gradients that are there before each step."""
    adapter = recipe.adapter
    if not isinstance(adapter, AdaLora):
        return None
    if adapter.begin + adapter.end >= 1:
        return Problem("adapter.end", f"{adapter.end} after {adapter.begin} leaves no steps between; set it lower")
    if adapter.r >= adapter.first:
        return Problem("adapter.r", f"{adapter.r} is no less than the first rank, {adapter.first}; set it lower")
    if recipe.batch.global_tokens is not None and recipe.train.max_steps is None:
        message = "is needed by adalora, which lets ranks go by the number of steps, where tokens fill them"
        return Problem("train.max_steps", message)
    if recipe.optimizer.in_backward:
        message = "lets gradients go that adalora looks at before each step; leave it out"
        return Problem("optimizer.in_backward", message)
    return None


def a_method_of_peft_stands_on_whole_weights(recipe: Recipe) -> Problem | None:
    """Which of them know quantized layers, or weights that are shared out, is not known here."""
    if isinstance(recipe.adapter, OfPeft) and recipe.engine.zero == 3:
        message = "shares weights out, which not all methods of peft know (loha does not); set it to 2"
        return Problem("engine.zero", message)
    if isinstance(recipe.adapter, OfPeft) and recipe.model.quantization != "none":
        message = "is for the adapters by their own kinds, of which lora is one; set it to none, or take one of them"
        return Problem("model.quantization", message)
    return None


def lengths_are_taken_of_whole_weights(recipe: Recipe) -> Problem | None:
    """DoRA looks at the weights after their product, when ZeRO-3 has let them go; it cannot gather quantized ones."""
    if not isinstance(recipe.adapter, Dora) or recipe.engine.zero != 3 or recipe.model.quantization == "none":
        return None
    message = "does not go with dora on a quantized base, whose weights it cannot gather once more; set it to 2, or"
    return Problem("engine.zero", f"3 {message} adapter.kind: lora")


ADAPTER_RULES = (
    an_adapter_stands_on_pretrained_weights,
    targets_can_be_matched,
    new_tokens_have_an_adapter_that_keeps_them,
    what_stands_before_rows_has_rows_of_its_own,
    a_start_fits_the_base,
    what_looks_at_inputs_has_a_whole_model,
    ranks_are_let_go_in_the_middle,
    a_method_of_peft_stands_on_whole_weights,
    lengths_are_taken_of_whole_weights,
)
