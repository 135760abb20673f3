"""The gradient of one optimizer step over the same 16 rows, however they are split; prints a table.

Each is compared with a plain loop in float64 over single examples: ours, and that of transformers' Trainer where it has
the head. Models, rows and loops are those of tests/distributed; needs `accelerate` for the Trainer.

python benchmarks/gradients.py [--out FILE]
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from distributed import joined, labelled, linked, looking, masked, ranked, related, several, steps, tagged, translated
from distributed.pair import Pair

from trainer.data.batches import Layout

ROWS = 16
IGNORED = -100
Gradient = dict[str, np.ndarray[Any, Any]]
SPLITS = {"16 of 1": 1, "4 of 4": 4, "1 of 16": 16}
"""Rows of each micro-batch, by their number and rows."""
ENGINES = {"torch": ("torch", 0), "ZeRO-2": ("deepspeed", 2), "ZeRO-3": ("deepspeed", 3)}


@dataclass(frozen=True)
class Head:
    """One model with a head."""

    ours: Callable[[str, int, int], Gradient]
    """Of an engine, a stage and rows a micro-batch."""
    reference: Callable[[], Gradient]
    model: Callable[[], Any] | None = None
    """For the Trainer; None where it is not asked, and `why`."""
    rows: Callable[[], list[dict[str, Any]]] | None = None
    """What the Trainer takes of each row, as lists."""
    why: str = "no such head"


def _causal() -> list[dict[str, Any]]:
    rows = steps.random_rows(ROWS)
    return [
        {
            "input_ids": rows.tokens(row).tolist(),
            "labels": np.where(rows.learned(row), rows.tokens(row), IGNORED).tolist(),
        }
        for row in range(ROWS)
    ]


def _classes(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    from trainer.config.classify import Classify

    labels = labelled.labels_of(Classify(kind="classify", **task), ROWS).targets["train"].tolist()
    rows = labelled.rows_of(ROWS)
    return [{"input_ids": rows.tokens(row).tolist(), "label": labels[row]} for row in range(ROWS)]


def _translations() -> list[dict[str, Any]]:
    found = []
    for row in range(ROWS):
        source, target = (part.tokens.tolist() for part in translated.rows_of(ROWS).example(row).apart())
        found.append({"input_ids": source, "labels": target})
    return found


def _tags() -> list[dict[str, Any]]:
    found = []
    for row in range(ROWS):
        example = tagged.rows_of(ROWS).example(row)
        found.append({"input_ids": example.tokens.tolist(), "labels": tagged.MARKS[example.marks].tolist()})
    return found


def _masks() -> list[dict[str, Any]]:
    rows = masked.rows_of(ROWS)
    layout = Layout(global_=1, micro=1, packing=False, micro_tokens=25, pad=0)
    collate, found = masked.objective("bert", rows).collate("train"), []
    for row in range(ROWS):
        batch = collate([row], [rows.example(row)], layout, 0)
        assert batch.token_type_ids is not None, "rows have two texts"
        found.append(
            {
                "input_ids": batch.input_ids[0].tolist(),
                "labels": batch.targets[0].tolist(),
                "token_type_ids": batch.token_type_ids[0].tolist(),
            }
        )
    return found


def _tagger(name: str, family: str, head: str = "linear") -> dict[str, Head]:
    def ours(kind: str, zero: int, micro: int) -> Gradient:
        return tagged.gradient(family, head, kind, zero, micro, ROWS, ROWS, 0)

    def reference() -> Gradient:
        return tagged.reference(family, head, ROWS, 0, ROWS)

    if head == "crf":
        return {name: Head(ours, reference)}
    return {name: Head(ours, reference, lambda: tagged.model(family), _tags)}


def _only_ours(
    name: str,
    gradient: Callable[..., Gradient],
    reference: Callable[..., Gradient],
    *of: Any,
    why: str = "no such head",
) -> dict[str, Head]:
    """A head that the Trainer is not asked for."""
    return {
        name: Head(
            lambda kind, zero, micro: gradient(*of, kind, zero, micro, ROWS, ROWS, 0),
            lambda: reference(*of, ROWS, 0, ROWS),
            why=why,
        )
    }


def _classifier(name: str, family: str, task: dict[str, Any] | None = None) -> dict[str, Head]:
    settings = task or {}

    def ours(kind: str, zero: int, micro: int) -> Gradient:
        return labelled.gradient(family, settings, kind, zero, micro, ROWS, ROWS, 0)

    outputs = 1 if settings.get("problem") == "regression" else labelled.COUNT
    return {
        name: Head(
            ours,
            lambda: labelled.reference(family, settings, ROWS, 0, ROWS),
            lambda: labelled.model(family, outputs),
            lambda: _classes(settings),
        )
    }


def _writer(name: str, family: str) -> dict[str, Head]:
    def ours(kind: str, zero: int, micro: int) -> Gradient:
        return translated.gradient(family, 0.0, kind, zero, micro, ROWS, ROWS, 0)

    return {
        name: Head(
            ours,
            lambda: translated.reference(family, 0.0, ROWS, 0, ROWS),
            lambda: translated.model(family),
            _translations,
        )
    }


def _next_token(kind: str, zero: int, micro: int) -> Gradient:
    found: Gradient = steps.gradient(kind, zero, True, micro, ROWS, ROWS, 0)["gradients"]
    return found


HEADS: dict[str, Head] = {
    "Llama, causal LM (ours packed)": Head(
        _next_token, lambda: steps.reference(ROWS, 0, ROWS), lambda: steps.model(packing=False), _causal
    ),
    **_classifier("BERT, one label", "bert"),
    **_classifier("BERT, a number", "bert", {"problem": "regression"}),
    **_classifier("Llama, one label", "llama"),
    **_classifier("T5, one label", "t5"),
    **_writer("T5, seq2seq", "t5"),
    **_writer("BART, seq2seq", "bart"),
    **_tagger("BERT, tags of words", "bert"),
    **_tagger("Llama, tags of words", "llama"),
    **_tagger("BERT, tags of words by a CRF", "bert", "crf"),
    "BERT, masked words": Head(
        lambda kind, zero, micro: masked.gradient("bert", kind, zero, micro, ROWS, ROWS, 0),
        lambda: masked.reference("bert", ROWS, 0, ROWS),
        lambda: masked.model("bert"),
        _masks,
    ),
    **_only_ours(
        "BERT, masked words and next sentence", masked.gradient, masked.reference, "pairs", why="not measured"
    ),
    **_only_ours("BERT, relations", related.gradient, related.reference, False),
    **_only_ours("BERT, entities and relations", joined.gradient, joined.reference),
    **_only_ours("BERT, knowledge graph, two encodings", linked.gradient, linked.reference, "bi"),
    **_only_ours("BERT, knowledge graph, one text", linked.gradient, linked.reference, "cross"),
    **_only_ours("Llama, reranking, listwise", ranked.gradient, ranked.reference, "llama", "listwise"),
    **_only_ours("BERT, three tasks", several.gradient, several.reference, "uncertainty"),
    "LLaVA, answers about images": Head(
        lambda kind, zero, micro: looking.gradient(kind, zero, micro, ROWS, ROWS, 0),
        lambda: looking.reference(ROWS, 0, ROWS),
        why="not measured",
    ),
}


def ours(name: str, kind: str, zero: int, micro: int) -> Gradient:
    """The gradient on this rank."""
    return HEADS[name].ours(kind, zero, micro)


def trainers(name: str, micro: int, ranks: int) -> Gradient:
    """The gradient that transformers' Trainer hands to its optimizer."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    head, found = HEADS[name], Gradient()
    assert head.model is not None, "the Trainer is asked"
    assert head.rows is not None, "the Trainer is asked"

    class Keep(TrainerCallback):
        """What stands in the parameters right before the step."""

        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            for parameter, one in model.named_parameters():
                own = np.zeros(one.shape) if one.grad is None else one.grad.numpy().copy()
                found[f"model.{parameter.removeprefix('module.')}"] = own

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=ROWS // micro // ranks,
            max_steps=1,
            max_grad_norm=0.0,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        Trainer(head.model(), arguments, data_collator=_padded, train_dataset=head.rows(), callbacks=[Keep()]).train()
    return found


def _padded(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows of unlike length as one batch."""
    lists = {name: [torch.tensor(row[name]) for row in rows] for name in rows[0]}
    label = lists.pop("label", None)
    fill = {"input_ids": 0, "labels": IGNORED, "token_type_ids": 0}
    batch = {
        name: torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill[name])
        for name, values in lists.items()
    }
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    batch["attention_mask"] = (torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]).long()
    return batch if label is None else {**batch, "labels": torch.stack(label)}


def compared(gradient: Gradient, reference: Gradient) -> dict[str, float]:
    """The norm of the difference over that of the reference, both norms' ratio, and the cosine; all parameters."""
    one, other = (np.concatenate([some[name].ravel() for name in sorted(reference)]) for some in (gradient, reference))
    sizes = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    gap = float(np.linalg.norm(one - other))
    return {"error": gap / sizes[1], "times": sizes[0] / sizes[1], "cosine": float(one @ other) / sizes[0] / sizes[1]}


def measure(name: str, pair: Pair) -> dict[str, Any]:
    """All splits of one head."""
    head = HEADS[name]
    reference = head.reference()
    found: dict[str, Any] = {"head": name, "ours": {}, "trainer": {}, "why": head.why}
    for split, micro in SPLITS.items():
        found["ours"][split] = compared(ours(name, "torch", 0, micro), reference)
        if head.model is not None:
            found["trainer"][split] = compared(trainers(name, micro, 1), reference)
    for engine, (kind, zero) in ENGINES.items():
        results = pair.run(ours, name, kind, zero, 4)
        found["ours"][f"2 ranks, {engine}"] = max((compared(one, reference) for one in results), key=_error)
    if head.model is not None:
        results = pair.run(trainers, name, ROWS // 2, 2)
        found["trainer"]["2 ranks of 8"] = max((compared(one, reference) for one in results), key=_error)
    return found


def _error(one: Mapping[str, float]) -> float:
    return one["error"]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Ours in the worst of all splits and engines; the Trainer's in each split."""
    splits = [*SPLITS, "2 ranks of 8"]
    lines = [
        f"| head | ours, worst of {len(SPLITS) + len(ENGINES)} | "
        + " | ".join(f"Trainer, {name}" for name in splits)
        + " |",
        "|---" * (len(splits) + 2) + "|",
    ]
    for row in results:
        worst = max(row["ours"].values(), key=_error)
        theirs = [_said(row["trainer"][split]) if row["trainer"] else row["why"] for split in splits]
        lines.append(f"| {row['head']} | {worst['error']:.1e} | " + " | ".join(theirs) + " |")
    return "\n".join(lines)


def _said(one: Mapping[str, float]) -> str:
    if one["error"] <= 1e-5:
        return "exact"
    return f"error {one['error']:.3g}, x {one['times']:.2f}, cosine {one['cosine']:.3f}"


def main() -> None:
    """Measures every head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    # Names of torch.distributed that DeepSpeed calls by their old names.
    os.environ["PYTHONWARNINGS"] = "ignore::FutureWarning"
    pair = Pair()
    try:
        results = [measure(name, pair) for name in HEADS]
    finally:
        pair.close()
    print(table(results))
    if asked.out:
        versions = {
            package: metadata.version(package) for package in ("torch", "transformers", "accelerate", "deepspeed")
        }
        asked.out.write_text(json.dumps({"versions": versions, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
