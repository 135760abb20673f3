"""The parameters of a recipe's model, known without its weights and without torch; tied ones once."""

import re
from collections.abc import Iterable
from dataclasses import replace

from trainer.config.model import Model, NewTokenizer
from trainer.errors import Problem, RecipeError
from trainer.parameter import Parameter, by_token, parameter
from trainer.plan import architectures, pretrained

# Tensors of older files that are buffers or nothing at all in the model.
_BUFFERS = re.compile(
    r"(?:inv_freq|position_ids|token_type_ids|masked_bias|\.attn\.bias|running_mean|running_var|num_batches_tracked)$"
)


def of_model(model: Model, vocabulary: int | None) -> list[Parameter] | None:
    """The parameters of the recipe's model; None while they are unknown (a hub id that is not downloaded).

    `vocabulary` is the number of entries of the tokenizer with `model.add_tokens`, where it is known.

    Raises:
        RecipeError: no model lies where the recipe points, or its settings cannot be built.
    """
    if model.name is not None:
        folder = pretrained.folder(model)
        if folder is None:
            return None
        listed = _of_folder(pretrained.settings(folder), pretrained.shapes(folder))
        return _with_new_tokens(listed, model, vocabulary or pretrained.vocabulary(folder, model))
    assert model.config is not None, "a model has a name or a config"
    wrong = architectures.problems(model.config)
    if wrong:
        raise RecipeError(wrong)
    if vocabulary is None and isinstance(model.tokenizer, NewTokenizer):
        vocabulary = model.tokenizer.vocab_size + len(model.add_tokens)
    if vocabulary is None:
        return None
    return _listed(architectures.shapes({**model.config, "vocab_size": vocabulary}))


def problems(model: Model) -> list[Problem]:
    """What is wrong with the recipe's model as far as this machine can see; the same checks as `of_model`."""
    try:
        of_model(model, None)
    except RecipeError as error:
        return list(error.problems)
    return []


def _of_folder(settings: dict[str, object], stored: dict[str, tuple[int, ...]] | None) -> list[Parameter] | None:
    """By formula where there is one, since files of other versions may name the same weights otherwise."""
    packed = "quantization_config" in settings
    formula = _listed(architectures.shapes(settings))
    if formula is not None:
        if stored is not None and not packed:
            _agree(formula, stored)
        return formula
    if stored is None or packed:
        return None
    kept = {name: shape for name, shape in stored.items() if not _BUFFERS.search(name)}
    if settings.get("tie_word_embeddings") is True:
        kept.pop("lm_head.weight", None)
    return _listed(kept.items())


def _with_new_tokens(listed: list[Parameter] | None, model: Model, vocabulary: int | None) -> list[Parameter] | None:
    """The parameters with rows for `model.add_tokens`, where the model has none to spare."""
    if listed is None or not model.add_tokens:
        return listed
    if vocabulary is None:
        return None
    return [
        replace(one, shape=(max(one.shape[0], vocabulary), one.shape[1])) if by_token(one) else one for one in listed
    ]


def _agree(formula: list[Parameter], stored: dict[str, tuple[int, ...]]) -> None:
    differing = [one for one in formula if stored.get(one.name, one.shape) != one.shape]
    if differing:
        one = differing[0]
        message = (
            f"config.json makes {one.name} {list(one.shape)} where the weight files hold {list(stored[one.name])}"
            f" ({len(differing)} such); take both from the same model"
        )
        raise RecipeError([Problem("model.name", message)])


def _listed(shapes: Iterable[tuple[str, tuple[int, ...]]] | None) -> list[Parameter] | None:
    return None if shapes is None else [parameter(name, shape) for name, shape in shapes]
