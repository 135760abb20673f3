"""What all methods of peft share: their targets, the model that they are put into, the folder that they leave."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainer.adapter.adapted import WEIGHTS, Adapted, Tensors
from trainer.config.adapter import Targeted
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.model import new_rows
from trainer.model.load import head_for
from trainer.parameter import parameter
from trainer.plan import adapter_parameters

_TASKS = {
    "causal_lm": "CAUSAL_LM",
    "classify": "SEQ_CLS",
    "image_text": "CAUSAL_LM",
    "masked_lm": "FEATURE_EXTRACTION",
    "rerank": "SEQ_CLS",
    "seq2seq": "SEQ_2_SEQ_LM",
    "token_labels": "TOKEN_CLS",
}
"""What peft calls the tasks whose heads are those of transformers; the others have a body."""
_PEFT = "base_model.model."
"""What peft's names begin with."""
_ROWS = ".token_adapter.trainable_tokens_delta"
"""Where peft looks for the rows of new tokens, below the module that holds them."""


@dataclass(frozen=True)
class Targets:
    """Where an adapter stands."""

    task: str
    """What peft calls the task."""
    names: list[str]
    """Whole names of the linear layers."""
    transposed: bool
    """Whether they hold their matrices as [in, out], as GPT-2's do."""


def task_of(recipe: Recipe) -> str:
    """What peft calls the task of a recipe: it lets the head of a classifier train, and saves it with the adapter."""
    return "FEATURE_EXTRACTION" if head_for(recipe) is AutoModel else _TASKS[recipe.task.kind]


Changed = Callable[[PreTrainedModel, Any, Tensors], Tensors]
"""Of a model, what a folder says of its adapter, and the entries of its file: other entries."""


def wrap(
    model: PreTrainedModel,
    recipe: Recipe,
    new_tokens: range,
    configure: Callable[[Targets], Any],
    changed: Changed | None = None,
) -> Adapted:
    """The frozen model with what a configuration of peft puts beside its targets; the rows of new tokens train too.
    `changed` is given what is about to be written.

    What is added is kept in `model.dtype` like the weights that it stands beside: float32 masters are the engine's.
    """
    # Here, because peft takes two seconds to import.
    from peft import get_peft_model
    from peft.utils.integrations import gather_params_ctx

    names = _targets(model, recipe)
    transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in names)
    config = configure(Targets(task_of(recipe), names, transposed))
    # What is drawn is equal on all ranks, however many there are.
    torch.manual_seed(recipe.train.seed)
    wrapped = get_peft_model(model, config, autocast_adapter_dtype=False)
    # peft lets gradients flow into the embeddings for reentrant checkpointing, which is not used.
    model.disable_input_require_grads()
    rows: list[str] = []
    if new_tokens:
        held = (model.get_input_embeddings(), model.get_output_embeddings())
        embeddings = [one.weight for one in held if one is not None]
        with gather_params_ctx(embeddings, modifier_rank=None):
            rows = new_rows.let_train(model, new_tokens.start, len(new_tokens))
    added = tuple(name for name, one in model.named_parameters() if one.requires_grad)

    def save(folder: Path, tensors: Tensors) -> Tensors:
        config = copy.deepcopy(wrapped.peft_config["default"])
        state = _entries(config, tensors, wrapped, {name: list(new_tokens) for name in rows})
        return write(folder, recipe, config, changed(model, config, state) if changed else state)

    return Adapted(model, added, save)


def _targets(model: PreTrainedModel, recipe: Recipe) -> list[str]:
    """Full names of the layers that get an adapter; under ZeRO-3 a parameter's real shape is `ds_shape`."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    listed = [
        parameter(name, tuple(getattr(one, "ds_shape", one.shape)))
        for name, one in model.named_parameters()
        if name.rpartition(".")[0] in linear
    ]
    if (pooler := getattr(model, "pooler", None)) and not any(one.requires_grad for one in pooler.parameters()):
        # Nothing reads it.
        listed = [one for one in listed if one.part != "pooler"]
    adapter = recipe.adapter
    assert isinstance(adapter, Targeted), "others stand before rows"
    names = [adapter_parameters.module_of(one) for one in adapter_parameters.targets(adapter, listed)]
    if not names:
        given = adapter.targets or adapter.kind
        message = f"{given} fits no linear layer of this model; name endings of its layers in a list"
        raise RecipeError([Problem("adapter.targets", message)])
    if recipe.model.add_tokens and any(parameter(f"{name}.weight", ()).part == "head" for name in names):
        message = "the head cannot be a target where model.add_tokens lets its new rows train; leave one of the two out"
        raise RecipeError([Problem("adapter.targets", message)])
    return names


def _entries(config: Any, tensors: Tensors, wrapped: Any, rows: dict[str, list[int]]) -> Tensors:
    """Those of the file as peft would write it; `config` is told of rows of new tokens.

    peft's own rows of new tokens need a CUDA device under ZeRO-3, so they train as ours and are saved as peft's.
    """
    from peft import get_peft_model_state_dict

    own = {f"{name}.rows": f"{_PEFT}{name}{_ROWS}" for name in rows}
    theirs = {f"{_PEFT}{name}": tensor for name, tensor in tensors.items() if name not in own}
    # What all layers of a method share lies above the model.
    theirs |= {name: one.cpu() for name, one in wrapped.state_dict().items() if not name.startswith(_PEFT)}
    state: Tensors = get_peft_model_state_dict(wrapped, state_dict=theirs, save_embedding_layers=False)
    if rows:
        config.trainable_token_indices = rows
    return state | {own[name]: tensor for name, tensor in tensors.items() if name in own}


def write(folder: Path, recipe: Recipe, config: Any, state: Tensors) -> Tensors:
    """adapter_config.json and adapter_model.safetensors; the tensors of the second."""
    config.base_model_name_or_path, config.revision = recipe.model.name, recipe.model.revision
    config.inference_mode = True
    config.save_pretrained(str(folder))
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(contiguous, folder / WEIGHTS, {"format": "pt"})
    return contiguous
