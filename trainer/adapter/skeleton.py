"""What a method of peft adds to layers of given shapes: `python skeleton.py < ASKED.json`; it knows torch and peft.

ASKED.json holds method, settings (of its configuration) and parameters ([name, shape, transposed] of the model); what
trains is said as [[name, shape], ...]. What is wrong with the method or its settings is the last line of the errors.
"""

import json
import sys
import warnings
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

OWN = ("adalora", "ia3", "lora", "oft", "vera")
"""Methods that have an adapter.kind of their own."""
UNFIT = {
    "poly": "learns several tasks at once, which no recipe tells it of",
    "shadow": "needs a second model",
    "trainable_tokens": "trains rows of tokens; name them in model.add_tokens",
    "xlora": "mixes adapters that are there already",
}
"""What else stands beside no layers of a model."""


def main() -> None:
    """Builds layers without memory, lets peft put its own beside them, and tells their shapes."""
    warnings.simplefilter("ignore")
    asked: dict[str, Any] = json.loads(sys.stdin.read())
    config = configuration(asked["method"], asked["settings"])
    root = _layers(asked["parameters"])
    try:
        found = _trained(root, config)
    except (NotImplementedError, RuntimeError):
        # Some methods look at weights: here at memory that is touched where they look.
        found = _trained(
            _layers(asked["parameters"]).to_empty(device="cpu"), configuration(asked["method"], asked["settings"])
        )
    print(json.dumps(found))


def _layers(parameters: list[Any]) -> Any:
    """Modules of these names and shapes, without memory."""
    root = nn.Module()
    held = {name for name, _, _ in parameters}
    with torch.device("meta"):
        for name, shape, transposed in parameters:
            path, _, last = name.rpartition(".")
            if last != "weight" or not path:
                continue
            bias = f"{path}.bias" in held
            if len(shape) == 2 and transposed:
                made: nn.Module = Conv1D(shape[1], shape[0])
            elif len(shape) == 2 and "embed" not in path:
                made = nn.Linear(shape[1], shape[0], bias=bias)
            elif len(shape) == 2:
                made = nn.Embedding(*shape)
            else:
                made = nn.LayerNorm(shape[0], bias=bias)
            place = root
            *parents, own = path.split(".")
            for parent in parents:
                if not hasattr(place, parent):
                    place.add_module(parent, nn.Module())
                place = getattr(place, parent)
            place.add_module(own, made)
    return root


def configuration(method: str, settings: dict[str, Any], **more: Any) -> Any:
    """Peft's configuration of a method by its name; the program ends with what is wrong."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner

    kinds = {str(kind.value).lower(): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    named = {name for name in kinds if issubclass(PEFT_TYPE_TO_TUNER_MAPPING.get(kinds[name], object), BaseTuner)}
    named -= {*OWN, *UNFIT}
    if method not in named:
        near = get_close_matches(method, named, 1)
        way_out = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(named))}"
        if method in OWN:
            sys.exit(f"adapter.method: {method!r} is a kind of its own; set adapter.kind: {method}")
        why = "is no method of the installed peft" if method not in kinds else "stands beside no layers"
        sys.exit(f"adapter.method: {method!r} {UNFIT.get(method, why)}; {way_out}")
    made = PEFT_TYPE_TO_CONFIG_MAPPING[kinds[method]]
    known = {*made.__dataclass_fields__} - {"peft_type", "task_type", "base_model_name_or_path", "revision"}
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, 1)
            way_out = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            sys.exit(f"adapter.settings.{name}: is no key of peft's {made.__name__}; {way_out}")
    try:
        return made(**settings, **more)
    except (TypeError, ValueError) as error:
        sys.exit(f"adapter.settings: peft's {made.__name__} refuses them: {str(error).splitlines()[0]}")


def takes(method: str, key: str) -> bool:
    """Whether the configuration of a method has a key."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = {str(kind.value).lower(): made for kind, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    return key in kinds[method].__dataclass_fields__


def _trained(root: Any, config: Any) -> list[tuple[str, list[int]]]:
    from peft import PeftModel

    root.config = {"model_type": "none"}
    for one in root.parameters():
        one.requires_grad = False
    try:
        wrapped = PeftModel(root, config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"adapter.settings: peft's {type(config).__name__} cannot be put here: {str(error).splitlines()[0]}")
    named = wrapped.base_model.model.named_parameters()
    return [(name, list(one.shape)) for name, one in named if one.requires_grad]


if __name__ == "__main__":
    main()
