"""The head of a model by its parts: from the last hidden states to logits, for a chunk of positions at a time.

Causal, masked and encoder-decoder language models. Shapes: T positions, H hidden size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.model.cross_entropy import PLAIN, Bend, Loss, linear_cross_entropy

CHAINS = {
    "distilbert": ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
    "electra": ("generator_predictions", "generator_lm_head"),
    "modernbert": ("head", "decoder"),
    "modernbert-decoder": ("lm_head", "decoder"),
}
"""Heads whose parts stand beside each other in the model, by `model_type`; others are one module."""


@dataclass(frozen=True)
class Head:
    """What a model does after its body."""

    module: nn.Module
    """Hidden states [T, H] -> [T, V]: a linear layer, or what transforms the states and that."""
    vocabulary: int
    factor: float = 1.0
    """What hidden states are multiplied by before."""
    after: Bend | None = None
    """What becomes of the logits."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[T, V] of hidden states [T, H]."""
        logits: torch.Tensor = self.module(self._scaled(hidden))
        return logits if self.after is None else self.after(logits)

    def loss(
        self, hidden: torch.Tensor, targets: torch.Tensor, loss: Loss = PLAIN, *, whole: bool = True
    ) -> torch.Tensor:
        """The summed loss of targets [T] after hidden states [T, H], as `linear_cross_entropy` makes it."""
        hidden = self._scaled(hidden)
        return linear_cross_entropy(
            self.module, hidden, targets, self.vocabulary, loss=loss, after=self.after, whole=whole
        )

    def _scaled(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden if self.factor == 1.0 else hidden * self.factor


def head_of(model: PreTrainedModel) -> Head:
    """The parts of a model's head; who uses them compares their logits with the model's own at start."""
    config = model.config
    factor = config.d_model**-0.5 if _scales_outputs(config) else 1.0
    vocabulary = model.get_input_embeddings().num_embeddings
    return Head(_module(model), vocabulary, factor, _after(model))


def _module(model: PreTrainedModel) -> nn.Module:
    """The outermost module beside the body that ends in the output embeddings, or a chain of them."""
    chain = CHAINS.get(model.config.model_type, ())
    if chain and all(hasattr(model, name) for name in chain):
        return nn.Sequential(*(getattr(model, name) for name in chain))
    last: nn.Module = model.get_output_embeddings()
    # A child that is a whole model has a body of its own.
    children: list[nn.Module] = [child for child in model.children() if not isinstance(child, PreTrainedModel)]
    for child in children:
        if child is not model.base_model and any(module is last for module in child.modules()):
            return child
    return last


def _scales_outputs(config: Any) -> bool:
    """Whether T5 and its kin scale what their decoder gives."""
    old = config.model_type == "t5" and config.tie_word_embeddings
    return bool(getattr(config, "scale_decoder_outputs", old))


def _after(model: PreTrainedModel) -> Bend | None:
    """Scale and soft cap by the configuration, and the bias that encoder-decoder models keep beside their head."""
    config = model.config.get_text_config(decoder=True)
    scale, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    bend = Bend(
        scale=1.0 if scale is None else float(scale),
        divisor=1.0 if divisor is None else float(divisor),
        cap=getattr(config, "final_logit_softcapping", None),
        bias=getattr(model, "final_logits_bias", None),
    )
    return None if bend == Bend() else bend
