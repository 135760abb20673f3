"""One optimizer step of a classifier on this rank, in every layout and engine; and its gradient by a plain loop."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from distributed import linked, steps
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
)

from trainer.config.classify import Classify
from trainer.data.batches import Layout
from trainer.data.targets import Labels
from trainer.tasks import classify
from trainer.tasks.heads import new_head
from trainer.tasks.pooled import OfMeans

PAD, END = 0, 1
COUNT = 3
"""Outputs of the head."""


def model(family: str, outputs: int, dtype: torch.dtype = torch.float32) -> Any:
    """A small model with a head for labels, equal wherever it is made; without dropout."""
    sizes = {"vocab_size": steps.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": PAD, "num_labels": outputs}
    torch.manual_seed(7)
    if family == "bert":
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
        return BertForSequenceClassification(BertConfig(**sizes, **more, **off)).to(dtype)
    if family == "t5":
        shape = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
        special = {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD}
        config = T5Config(vocab_size=steps.VOCABULARY, num_labels=outputs, **shape, **special)
        return T5ForSequenceClassification(config).to(dtype)
    return LlamaForSequenceClassification(LlamaConfig(**sizes, **more, num_key_value_heads=2)).to(dtype)


def rows_of(count: int) -> steps.Rows:
    """Rows without padding that end with the end-of-text token, which stands nowhere else."""
    rows = steps.random_rows(count)
    found = []
    for row in range(count):
        tokens = np.maximum(rows.tokens(row), 2)
        tokens[-1] = END
        found.append(replace(rows.example(row), tokens=tokens))
    return steps.Rows(found)


def labels_of(settings: Classify, count: int) -> Labels:
    """Labels that are drawn, some of them rare."""
    generator = np.random.default_rng(5)
    names = ("a", "b", "c")
    if settings.problem in ("single", "ordinal"):
        return Labels(names, {"train": generator.choice(COUNT, count, p=[0.6, 0.3, 0.1])})
    if settings.problem == "multiple":
        return Labels(names, {"train": (generator.random((count, COUNT)) < 0.4).astype(np.float32)})
    return Labels(("",), {"train": generator.normal(size=count).astype(np.float32)})


def outputs_of(settings: Classify, labels: Labels) -> int:
    """Those of the head: ordinal labels have one for each but the highest."""
    return len(labels.names) - (settings.problem == "ordinal")


def gradient(
    family: str, task: dict[str, Any], kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    settings = Classify(kind="classify", **task)
    labels = labels_of(settings, rows)
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 25, pad=PAD, spare=END)
    objective, body = classify.OfLabels(settings, labels), model(family, outputs_of(settings, labels))
    found: dict[str, np.ndarray] = steps.step_of(objective, body, rows_of(rows), layout, kind, zero, step)["gradients"]
    return found


def reference(family: str, task: dict[str, Any], rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time without padding, and torch's own mean over the step's logits."""
    settings = Classify(kind="classify", **task)
    labels = labels_of(settings, rows)
    plain = model(family, outputs_of(settings, labels), torch.float64)
    examples = rows_of(rows)
    chosen = range(first, first + count)
    logits = torch.cat(
        [plain(input_ids=torch.from_numpy(examples.tokens(row).astype(np.int64))[None]).logits for row in chosen]
    )
    wanted = torch.from_numpy(labels.targets["train"][first : first + count])
    _mean_loss(settings, logits, wanted, labels).backward()
    return {f"model.{name}": parameter.grad.numpy() for name, parameter in plain.named_parameters()}


def _mean_loss(settings: Classify, logits: torch.Tensor, wanted: torch.Tensor, labels: Labels) -> torch.Tensor:
    if settings.problem == "regression":
        return functional.mse_loss(logits[:, 0], wanted.double())
    if settings.problem == "multiple":
        return functional.binary_cross_entropy_with_logits(logits, wanted.double())
    if settings.problem == "ordinal":
        # Shi, Cao and Raschka 2021, equation 8: each question of those whose label is at least as high.
        asked = [wanted >= place for place in range(COUNT - 1)]
        losses = [
            functional.binary_cross_entropy_with_logits(
                logits[rows, place], (wanted[rows] > place).double(), reduction="sum"
            )
            for place, rows in enumerate(asked)
        ]
        return torch.stack(losses).sum() / sum(rows.sum() for rows in asked)
    weights = torch.ones(COUNT, dtype=torch.float64)
    if settings.class_weights == "balanced":
        present = np.bincount(labels.targets["train"], minlength=COUNT)
        weights = torch.from_numpy(present.sum() / (COUNT * present))
    elif isinstance(settings.class_weights, dict):
        weights = torch.tensor([settings.class_weights[name] for name in labels.names], dtype=torch.float64)
    if settings.focal:
        # Lin et al. 2017, equation 5, divided by the weights as a weighted cross-entropy is.
        own = logits.log_softmax(1)[torch.arange(len(wanted)), wanted]
        return (-(weights[wanted]) * (1 - own.exp()) ** settings.focal * own).sum() / weights[wanted].sum()
    return functional.cross_entropy(logits, wanted, weights, label_smoothing=settings.label_smoothing)


def pooled_gradient(kind: str, zero: int, micro: int, rows: int, global_: int, step: int) -> dict[str, np.ndarray]:
    """The same as `gradient`, of a head on the mean of the hidden states."""
    settings = Classify(kind="classify", pooling="mean", class_weights="balanced")
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 25, pad=PAD)
    objective = OfMeans(settings, labels_of(settings, rows), 3)
    made = steps.step_of(objective, linked.model(), rows_of(rows), layout, kind, zero, step)
    found: dict[str, np.ndarray] = made["gradients"]
    return found


def pooled_reference(rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time."""
    settings = Classify(kind="classify", class_weights="balanced")
    labels, examples = labels_of(settings, rows), rows_of(rows)
    plain, head = linked.model(torch.float64), new_head(32, COUNT, 0.02, 3, torch.float64)
    logits = [
        head(
            plain(input_ids=torch.from_numpy(examples.tokens(row).astype(np.int64))[None]).last_hidden_state[0].mean(0)
        )
        for row in range(first, first + count)
    ]
    wanted = torch.from_numpy(labels.targets["train"][first : first + count])
    _mean_loss(settings, torch.stack(logits), wanted, labels).backward()
    found = {f"model.{name}": parameter.grad.numpy() for name, parameter in plain.named_parameters()}
    return {**found, **{f"heads.labels.{name}": one.grad.numpy() for name, one in head.named_parameters()}}
