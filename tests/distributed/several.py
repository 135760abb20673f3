"""One optimizer step of several tasks on this rank, and its gradient by a plain loop."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from distributed import linked, steps
from torch.nn import functional

from trainer.config.multi_task import MultiTask
from trainer.data.batches import Layout
from trainer.data.tags import Tags
from trainer.data.targets import Labels
from trainer.tasks.classify import OfLabels
from trainer.tasks.heads import new_head
from trainer.tasks.multi_task import OfSeveral
from trainer.tasks.relations import OfRelations
from trainer.tasks.token_labels import OfTags

NAMES, TAGS = ("a", "b", "c"), ("O", "B-x", "I-x")
MARKS = np.array([2, 0, 1, -100])
TASKS: dict[str, Any] = {
    "text": {"kind": "classify", "class_weights": "balanced"},
    "words": {"kind": "token_labels"},
    "pairs": {"kind": "relations"},
}
STARTS = (1, 2)
"""The tokens before the entities of a pair."""
WEIGHTS = {"text": 0.5}


def rows_of(count: int) -> tuple[steps.Rows, dict[str, np.ndarray], np.ndarray]:
    """Rows, whether each is one of each task, and the label of each that is one of text or a pair."""
    rows, generator, found = steps.random_rows(count), np.random.default_rng(3), []
    drawn = generator.random(count)
    of_words, of_pairs = drawn < 0.4, drawn > 0.7
    for row in range(count):
        marks = generator.integers(0, 3, len(rows.tokens(row)))
        marks[(generator.random(len(marks)) < 0.5) | ~of_words[row]] = -1
        example = replace(rows.example(row), marks=marks.astype(np.int32))
        if of_pairs[row]:
            example.tokens[generator.choice(len(marks), 2, replace=False)] = STARTS
        found.append(example)
    tasks = {"text": ~of_words & ~of_pairs, "words": of_words, "pairs": of_pairs}
    return steps.Rows(found), tasks, generator.integers(0, 3, count)


def objective(balance: str, count: int) -> OfSeveral:
    _, tasks, labels = rows_of(count)
    settings = MultiTask(kind="multi_task", tasks=TASKS, balance=balance, weights=WEIGHTS)
    members: Any = {
        "text": OfLabels(settings.tasks["text"], Labels(NAMES, {"train": labels[tasks["text"]]})),  # type: ignore[arg-type]
        "words": OfTags(settings.tasks["words"], Tags(TAGS, {"train": MARKS})),  # type: ignore[arg-type]
    }
    pairs: Any = settings.tasks["pairs"]
    members["pairs"] = OfRelations(pairs, Labels(NAMES, {"train": labels[tasks["pairs"]]}), STARTS)
    places = {name: {"train": np.where(mine, np.cumsum(mine) - 1, -1)} for name, mine in tasks.items()}
    return OfSeveral(settings, members, places, 3)


def gradient(
    balance: str, kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 25, pad=0)
    made = steps.step_of(objective(balance, rows), linked.model(), rows_of(rows)[0], layout, kind, zero, step)
    found: dict[str, np.ndarray] = made["gradients"]
    return found


def reference(balance: str, rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time, each task by one division, at variances of one."""
    plain = linked.model(torch.float64)
    heads = {
        name: new_head(64 if name == "pairs" else 32, 3, 0.02, 3 + number, torch.float64)
        for number, name in enumerate(TASKS)
    }
    logs = {name: torch.zeros((), dtype=torch.float64, requires_grad=True) for name in TASKS}
    examples, tasks, labels = rows_of(rows)
    present = np.bincount(labels[tasks["text"]], minlength=3)
    weights = present.sum() / (3 * np.maximum(present, 1))
    sums = {name: torch.zeros((), dtype=torch.float64) for name in TASKS}
    counted = dict.fromkeys(TASKS, 0.0)
    for row in range(first, first + count):
        example = examples.example(row)
        hidden = plain(input_ids=torch.from_numpy(example.tokens.astype(np.int64))[None]).last_hidden_state[0]
        if tasks["words"][row]:
            assert example.marks is not None
            there = torch.from_numpy(example.marks >= 0)
            right = torch.from_numpy(MARKS[example.marks])[there]
            sums["words"] = sums["words"] + functional.cross_entropy(
                heads["words"](hidden)[there], right, reduction="sum"
            )
            counted["words"] += len(right)
        elif tasks["pairs"][row]:
            both = torch.cat([hidden[example.tokens.tolist().index(start)] for start in STARTS])
            sums["pairs"] = sums["pairs"] + functional.cross_entropy(heads["pairs"](both), torch.tensor(labels[row]))
            counted["pairs"] += 1
        else:
            weight, right = float(weights[labels[row]]), torch.tensor(labels[row])
            sums["text"] = sums["text"] + weight * functional.cross_entropy(heads["text"](hidden[0]), right)
            counted["text"] += weight
    total = torch.zeros((), dtype=torch.float64)
    for name in TASKS:
        if counted[name]:
            mean = sums[name] / counted[name]
            own = torch.exp(-logs[name]) * mean + logs[name] / 2 if balance == "uncertainty" else mean
            total = total + WEIGHTS.get(name, 1.0) * own
    total.backward()
    found = {f"model.{name}": one.grad.numpy() for name, one in plain.named_parameters()}
    for task, head in heads.items():
        for name, one in head.named_parameters():
            found[f"heads.{task}.{name}"] = np.zeros(one.shape) if one.grad is None else one.grad.numpy()
    if balance == "uncertainty":
        grads = [np.zeros(()) if one.grad is None else one.grad.numpy() for one in logs.values()]
        found["heads.variances.logs"] = np.stack(grads)
    return found
