"""What must hold between keys: one named function a rule, each a Problem or None."""

from collections.abc import Callable, Iterator, Sequence

from trainer.config.adapter_rules import ADAPTER_RULES
from trainer.config.data import HeldOut
from trainer.config.data_rules import DATA_RULES
from trainer.config.engine import Offload
from trainer.config.launch_rules import LAUNCH_RULES
from trainer.config.log_rules import LOG_RULES
from trainer.config.model_rules import MODEL_RULES
from trainer.config.optimizer_rules import OPTIMIZER_RULES
from trainer.config.recipe import Recipe
from trainer.config.strategy import PHASED
from trainer.config.strategy_rules import STRATEGY_RULES
from trainer.config.task_rules import TASK_RULES
from trainer.errors import Problem

Rule = Callable[[Recipe], Problem | None]


def new_tokens_are_text_and_named_once(recipe: Recipe) -> Problem | None:
    """Each new token gets one row."""
    tokens = recipe.model.add_tokens
    if not all(token.strip() for token in tokens):
        return Problem("model.add_tokens", "holds a token without a visible character; leave it out")
    repeated = sorted({token for token in tokens if tokens.count(token) > 1})
    if repeated:
        return Problem("model.add_tokens", f"holds {repeated[0]!r} twice; leave one out")
    return None


def zero_needs_deepspeed(recipe: Recipe) -> Problem | None:
    """ZeRO is DeepSpeed's."""
    if recipe.engine.kind == "torch" and recipe.engine.zero not in ("auto", 0):
        return Problem(
            "engine.zero", f"{recipe.engine.zero} needs DeepSpeed; set engine.kind: deepspeed, or leave zero out"
        )
    return None


def a_deepspeed_file_needs_deepspeed(recipe: Recipe) -> Problem | None:
    """A DeepSpeed configuration says nothing to plain torch."""
    if recipe.engine.kind == "torch" and recipe.engine.deepspeed is not None:
        return Problem(
            "engine.deepspeed", "says nothing with engine.kind: torch; set engine.kind: deepspeed or leave it out"
        )
    return None


def offload_needs_what_is_shared_out(recipe: Recipe) -> Problem | None:
    """The host holds what ZeRO manages: optimizer state from stage 1 on, weights at stage 3."""
    engine = recipe.engine
    wanted = engine.offloaded(3)
    if wanted.optimizer == wanted.parameters == "none":
        return None
    if engine.kind == "torch":
        return Problem("engine.offload", "is DeepSpeed's; set engine.kind: deepspeed, or leave it out")
    if engine.zero == 0:
        return Problem("engine.offload", "has nothing to move at stage 0; set engine.zero to 1, 2 or 3")
    if recipe.optimizer.master != "float32" and recipe.model.dtype != "float32":
        return Problem("engine.offload", "needs optimizer.master: float32; change one of the two")
    parameters = isinstance(engine.offload, Offload) and engine.offload.parameters != "none"
    if parameters and engine.zero not in ("auto", 3):
        return Problem("engine.offload.parameters", f"needs engine.zero: 3, not {engine.zero}; change one of the two")
    return None


def a_drive_is_named_and_used(recipe: Recipe) -> Problem | None:
    """DeepSpeed moves what stage 3 shares out alone to a drive, and not from phase to phase."""
    engine = recipe.engine
    wanted = engine.offloaded(3)
    if "nvme" not in (wanted.optimizer, wanted.parameters):
        return (
            Problem("engine.nvme", "names a folder for engine.offload: nvme; set that, or leave it out")
            if (engine.nvme)
            else None
        )
    if engine.zero not in ("auto", 3):
        return Problem("engine.offload", f"nvme needs engine.zero: 3, not {engine.zero}; change one of the two")
    if engine.nvme is None:
        return Problem("engine.nvme", "is needed: a folder on the drive that engine.offload: nvme goes to")
    if recipe.strategy.kind in PHASED:
        message = f"nvme is not carried from one phase of {recipe.strategy.kind} to the next; set it to cpu or none"
        return Problem("engine.offload", message)
    return None


def zero_plus_plus_needs_stage_3(recipe: Recipe) -> Problem | None:
    """What travels with ZeRO++ are the shares of stage 3."""
    engine = recipe.engine
    set_keys = [key for key in ("hpz", "quantized_weights", "quantized_gradients") if getattr(engine, key)]
    if not set_keys:
        return None
    key = f"engine.{set_keys[0]}"
    if engine.kind == "torch":
        return Problem(key, "is DeepSpeed's; set engine.kind: deepspeed, or leave it out")
    if engine.zero != 3:
        return Problem(key, f"is for weights that are shared out; set engine.zero: 3, which is {engine.zero}")
    return None


def attention_fits_the_layout(recipe: Recipe) -> Problem | None:
    """Packed rows need attention inside each example; padded rows need transformers' own."""
    wanted = recipe.model.attention
    if recipe.data.packing and wanted in ("sdpa", "eager"):
        return Problem(
            "model.attention",
            f"{wanted} lets packed examples see each other; set it to auto, or data.packing: false",
        )
    if not recipe.data.packing and wanted in ("segments", "flash", "flex"):
        return Problem("model.attention", f"{wanted} is for packed rows; set it to auto, or data.packing: true")
    return None


def flash_computes_in_half_precision(recipe: Recipe) -> Problem | None:
    """Its kernels have no float32."""
    precision = recipe.model.dtype if recipe.train.precision == "auto" else recipe.train.precision
    if recipe.model.attention == "flash" and precision == "float32":
        return Problem(
            "model.attention", "flash computes in bfloat16 or float16; set it to flex, or train.precision: bfloat16"
        )
    return None


def a_packed_row_holds_the_longest_example(recipe: Recipe) -> Problem | None:
    """An example is never split."""
    room = recipe.batch.micro_tokens
    if recipe.data.packing and room is not None and room < recipe.data.max_length:
        return Problem(
            "batch.micro_tokens", f"{room} is less than one example of data.max_length: {recipe.data.max_length} tokens"
        )
    return None


def float16_has_its_loss_scaled(recipe: Recipe) -> Problem | None:
    """Small gradients vanish in float16 unless the loss is scaled, as DeepSpeed scales it."""
    if "float16" in (recipe.model.dtype, recipe.train.precision) and recipe.engine.kind != "deepspeed":
        message = "float16 needs a scaled loss, which DeepSpeed has; set engine.kind: deepspeed, or take bfloat16"
        return Problem("engine.kind", message)
    return None


def validation_names_a_source(recipe: Recipe) -> Problem | None:
    """An empty list is no way to say that there are no validation rows."""
    if recipe.data.validation == ():
        return Problem("data.validation", "is an empty list; name a source, or write null for no validation rows")
    return None


def products_are_no_wider_than_weights(recipe: Recipe) -> Problem | None:
    """Products can be computed in fewer bits than weights are stored in, not in more."""
    stored, computed = recipe.model.dtype, recipe.train.precision
    if computed in ("auto", stored) or stored == "float32":
        return None
    return Problem(
        "train.precision", f"{computed} does not go with weights stored in {stored}; set model.dtype: float32, or auto"
    )


def a_step_is_filled_by_examples_or_by_tokens(recipe: Recipe) -> Problem | None:
    """Exactly one of `batch.global` and `batch.global_tokens`."""
    batch = recipe.batch
    if batch.global_ is not None and batch.global_tokens is not None:
        return Problem("batch.global_tokens", "fills a step by tokens, batch.global by examples; keep one of the two")
    if batch.global_ is None and batch.global_tokens is None:
        return Problem("batch.global", "is null, and so is batch.global_tokens; set one of the two")
    return None


def a_step_holds_the_longest_example(recipe: Recipe) -> Problem | None:
    """A step that tokens fill has room for any example."""
    room = recipe.batch.global_tokens
    if room is not None and room < recipe.data.max_length:
        return Problem(
            "batch.global_tokens",
            f"{room} is less than one example of data.max_length: {recipe.data.max_length} tokens",
        )
    return None


def a_stream_says_how_long_it_trains(recipe: Recipe) -> Problem | None:
    """Nobody knows how many rows a stream has until it was read."""
    if recipe.data.streaming and recipe.train.max_steps is None:
        return Problem("train.max_steps", "is needed with data.streaming: the length of a pass is not known before it")
    return None


def a_stream_is_seen_row_by_row(recipe: Recipe) -> Problem | None:
    """What compares all rows with each other needs them all at once."""
    data = recipe.data
    if not data.streaming:
        return None
    asked = {
        "data.validation": isinstance(data.validation, HeldOut),
        "data.test": isinstance(data.test, HeldOut),
        "data.clean.duplicates": data.clean.duplicates != "keep",
        "data.clean.leakage": data.clean.leakage != "report",
        "data.clean.benchmarks": bool(data.clean.benchmarks),
        "data.clean.label_noise": data.clean.label_noise is not None,
        "data.pseudo_label": data.pseudo_label is not None,
    }
    found = next((key for key, is_asked in asked.items() if is_asked), None)
    if found is None:
        return None
    held_out = found in ("data.validation", "data.test")
    way_out = "name sources of their own, or set it to null" if held_out else "leave it out"
    return Problem(found, f"needs all rows at once, and data.streaming reads them one by one; {way_out}")


RULES: tuple[Rule, ...] = (
    *MODEL_RULES,
    *ADAPTER_RULES,
    new_tokens_are_text_and_named_once,
    zero_needs_deepspeed,
    a_deepspeed_file_needs_deepspeed,
    offload_needs_what_is_shared_out,
    a_drive_is_named_and_used,
    zero_plus_plus_needs_stage_3,
    attention_fits_the_layout,
    flash_computes_in_half_precision,
    a_packed_row_holds_the_longest_example,
    products_are_no_wider_than_weights,
    validation_names_a_source,
    float16_has_its_loss_scaled,
    a_step_is_filled_by_examples_or_by_tokens,
    a_step_holds_the_longest_example,
    a_stream_says_how_long_it_trains,
    a_stream_is_seen_row_by_row,
    *TASK_RULES,
    *STRATEGY_RULES,
    *OPTIMIZER_RULES,
    *DATA_RULES,
    *LOG_RULES,
    *LAUNCH_RULES,
)


def problems_between_keys(recipe: Recipe, rules: Sequence[Rule] = RULES) -> Iterator[Problem]:
    """Every rule that the recipe breaks."""
    for rule in rules:
        problem = rule(recipe)
        if problem is not None:
            yield problem
