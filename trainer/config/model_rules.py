"""What must hold between `model:` and other keys."""

from trainer.config.recipe import Recipe
from trainer.errors import Problem


def a_model_is_named_or_described(recipe: Recipe) -> Problem | None:
    """Exactly one of `model.name` and `model.config`."""
    if recipe.model.name is None and recipe.model.config is None:
        return Problem("model.name", "is needed: a transformers folder or a hub id (or model.config for a new model)")
    if recipe.model.name is not None and recipe.model.config is not None:
        return Problem("model.config", "describes a new model, and model.name names one; keep one of the two")
    return None


def a_new_model_names_its_type(recipe: Recipe) -> Problem | None:
    """`model.config` holds `model_type`."""
    if recipe.model.config is not None and not isinstance(recipe.model.config.get("model_type"), str):
        return Problem("model.config", "needs model_type, such as llama")
    return None


def a_new_model_has_a_tokenizer(recipe: Recipe) -> Problem | None:
    """Nothing but the recipe can name the tokenizer of a new model."""
    reads = any(source.format != "image" for source in recipe.data.train)
    if reads and recipe.model.config is not None and recipe.model.tokenizer is None:
        return Problem("model.tokenizer", "is needed with model.config: a folder, or {vocab_size: 8192} to train one")
    return None


def a_new_tokenizer_is_for_a_new_model(recipe: Recipe) -> Problem | None:
    """Pretrained weights know their own tokens only."""
    if (
        recipe.model.name is not None
        and recipe.model.tokenizer is not None
        and not isinstance(recipe.model.tokenizer, str)
    ):
        return Problem("model.tokenizer", "a new tokenizer does not fit the weights of model.name; leave the key out")
    return None


def a_quantized_base_has_an_adapter(recipe: Recipe) -> Problem | None:
    """What is stored in 4 or 8 bits takes no gradient."""
    kind = recipe.model.quantization
    if kind != "none" and recipe.adapter.kind == "none":
        message = f"weights in {kind} do not train; set adapter.kind: lora, or quantization to none"
        return Problem("model.quantization", message)
    return None


def keys_fit_the_quantization(recipe: Recipe) -> Problem | None:
    """A key that changes nothing is a mistake."""
    model = recipe.model
    if model.double_quantization and model.quantization not in ("nf4", "fp4"):
        message = f"is for 4 bits, and model.quantization is {model.quantization}; set that to nf4, or leave it out"
        return Problem("model.double_quantization", message)
    if model.quantization_skip and model.quantization == "none":
        return Problem("model.quantization_skip", "means nothing without model.quantization; set it, or leave this out")
    return None


MODEL_RULES = (
    a_model_is_named_or_described,
    a_new_model_names_its_type,
    a_new_model_has_a_tokenizer,
    a_new_tokenizer_is_for_a_new_model,
    a_quantized_base_has_an_adapter,
    keys_fit_the_quantization,
)
