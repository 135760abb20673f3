"""One optimizer step over entities and relations on this rank, and its gradient by a plain loop."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from distributed import steps
from torch.nn import functional
from transformers import BertConfig, BertModel

from trainer.data.batches import Layout
from trainer.data.sentences import Sentences
from trainer.tasks.joint_relations import OfSentences

TAGS = ("O", "B-x", "I-x")
RELATIONS = ("left", "right", "never")
MARKS = np.array([0, 1, 2, 1, 2, -100])
"""The number of each mark of the rows: O, then the beginning and the inside of entities 0 and 1."""
BEGUN = np.array([-1, 0, -1, 1, -1, -1])


def model(dtype: torch.dtype = torch.float32) -> Any:
    """A small body, equal wherever it is made; without dropout."""
    torch.manual_seed(7)
    sizes = {"vocab_size": steps.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    more = {"num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0}
    return BertModel(BertConfig(**sizes, **more, **off), add_pooling_layer=False).to(dtype)


def rows_of(count: int) -> tuple[steps.Rows, list[np.ndarray]]:
    """Rows whose tokens are words now and then; in one no word begins, in some an entity of a relation is not there."""
    rows, generator, found, links = steps.random_rows(count), np.random.default_rng(3), [], []
    for row in range(count):
        length = len(rows.tokens(row))
        marks = np.where(generator.random(length) < 0.5, 0, -1)
        places = np.flatnonzero(marks == 0)
        related = []
        if len(places) >= 4:
            marks[places[:4]] = [1, 2, 0, 3]
            related = [(0, 1, row % 2), (1, 0, 1 - row % 2)]
            if row % 5 == 0:
                marks[places[3]] = 0
        if row == 5:
            marks[:], related = -1, []
        found.append(replace(rows.example(row), marks=marks.astype(np.int32)))
        links.append(np.array(related, dtype=np.int64).reshape(-1, 3))
    return steps.Rows(found), links


def _objective(rows: int) -> tuple[OfSentences, steps.Rows]:
    examples, links = rows_of(rows)
    held = Sentences(TAGS, RELATIONS, {"train": MARKS}, {"train": BEGUN}, {"train": links})
    return OfSentences(held, seed=5), examples


def gradient(kind: str, zero: int, micro: int, rows: int, global_: int, step: int) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    objective, examples = _objective(rows)
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 25, pad=0)
    found: dict[str, np.ndarray] = steps.step_of(objective, model(), examples, layout, kind, zero, step)["gradients"]
    return found


def reference(rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example, one pair of words and one relation at a time; one division."""
    objective, examples = _objective(rows)
    _, links = rows_of(rows)
    module = objective.module(model(torch.float64), None, whole=True)
    heads = module.heads
    chosen = [(examples.example(row), links[row]) for row in range(first, first + count)]
    total = sum(int((example.marks >= 0).sum()) for example, _ in chosen if example.marks is not None)
    for example, related in chosen:
        assert example.marks is not None
        hidden = module.model(input_ids=torch.from_numpy(example.tokens.astype(np.int64))[None]).last_hidden_state[0]
        words = np.flatnonzero(example.marks >= 0)
        marks = example.marks[words]
        begins = {int(BEGUN[mark]): place for place, mark in enumerate(marks) if BEGUN[mark] >= 0}
        loss = hidden.sum() * 0
        if len(words):
            tags = torch.from_numpy(MARKS[marks])
            loss = loss + functional.cross_entropy(heads["tags"](hidden[words]), tags, reduction="sum")
        held = {(begins.get(head), begins.get(tail), label) for head, tail, label in related.tolist()}
        pairs = heads["pairs"]
        for head in range(len(words)):
            for tail in range(len(words)):
                if head == tail:
                    continue
                one, other = (
                    functional.gelu(part(hidden[words[place]]))
                    for part, place in ((pairs.head, head), (pairs.tail, tail))
                )
                for label in range(len(RELATIONS)):
                    width = len(other) + 1
                    weight = pairs.both.weight[label * width : (label + 1) * width]
                    bias = pairs.both.bias[label * width : (label + 1) * width]
                    score = (weight @ one + bias) @ torch.cat([other, torch.ones(1, dtype=torch.float64)])
                    right = float((head, tail, label) in held)
                    loss = loss + functional.softplus(score) - right * score
        (loss / total).backward()
    return {name: parameter.grad.numpy() for name, parameter in module.named_parameters() if parameter.grad is not None}
