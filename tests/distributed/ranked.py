"""One optimizer step of a reranker on this rank, and its gradient by a plain loop."""

from typing import Any

import numpy as np
import torch
from distributed import labelled, steps
from torch.nn import functional

from trainer.config.rerank import Rerank
from trainer.data.batches import Layout
from trainer.data.encoded import Encoded
from trainer.tasks.rerank import OfCandidates


def rows_of(count: int) -> tuple[steps.Rows, list[np.ndarray]]:
    """Two to five candidates for each query, and how good they are."""
    generator, found, relevance = np.random.default_rng(3), [], []
    for _ in range(count):
        candidates = int(generator.integers(2, 6))
        texts = [generator.integers(2, steps.VOCABULARY, generator.integers(2, 12)) for _ in range(candidates)]
        tokens = np.concatenate(texts).astype(np.int32)
        parts = np.repeat(np.arange(candidates), [len(text) for text in texts]).astype(np.int16)
        found.append(Encoded(tokens, np.zeros(len(tokens), np.bool_), parts=parts))
        numbers = generator.integers(0, 3, candidates)
        numbers[0], numbers[-1] = 2, 0
        relevance.append(numbers.astype(np.float32))
    return steps.Rows(found), relevance


def gradient(
    family: str, loss: str, kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    examples, relevance = rows_of(rows)
    objective = OfCandidates(Rerank(kind="rerank", loss=loss), {"train": relevance})
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 99, pad=0)
    made = steps.step_of(objective, labelled.model(family, 1), examples, layout, kind, zero, step)
    found: dict[str, np.ndarray] = made["gradients"]
    return found


def reference(family: str, loss: str, rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one candidate at a time, and the loss of the papers."""
    plain: Any = labelled.model(family, 1, torch.float64)
    examples, relevance = rows_of(rows)
    total, counted = torch.zeros((), dtype=torch.float64), 0
    for row in range(first, first + count):
        texts = [torch.from_numpy(text.tokens).long()[None] for text in examples.example(row).apart()]
        scores = torch.cat([plain(input_ids=text).logits[0] for text in texts])
        own = torch.from_numpy(relevance[row]).double()
        if loss == "pointwise":
            for score, number in zip(scores, own, strict=True):
                total = total - functional.logsigmoid(score if number > 0 else -score)
                counted += 1
        elif loss == "pairwise":
            for one in range(len(own)):
                for other in range(len(own)):
                    if own[one] > own[other]:
                        total = total - functional.logsigmoid(scores[one] - scores[other])
                        counted += 1
        else:
            total = total + functional.cross_entropy(scores, own / own.sum())
            counted += 1
    (total / counted).backward()
    return {f"model.{name}": parameter.grad.numpy() for name, parameter in plain.named_parameters()}
