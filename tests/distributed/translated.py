"""One optimizer step of encoder-decoder models on this rank, and its gradient by a plain loop."""

from typing import Any

import numpy as np
import torch
from distributed import steps
from torch.nn import functional
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from trainer.config.seq2seq import Seq2Seq
from trainer.data.batches import Layout
from trainer.data.encoded import Encoded
from trainer.tasks import seq2seq

PAD, END = 0, 1


def model(family: str, dtype: torch.dtype = torch.float32) -> Any:
    """A small model, equal wherever it is made; without dropout."""
    special = {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD}
    torch.manual_seed(7)
    if family == "t5":
        sizes = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
        return T5ForConditionalGeneration(T5Config(vocab_size=steps.VOCABULARY, **sizes, **special)).to(dtype)
    shape = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    sizes = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64}
    off = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    settings = {"vocab_size": steps.VOCABULARY, **shape, **sizes, **off, **special}
    if family == "bart":
        made = BartForConditionalGeneration(BartConfig(**settings))
        # A bias that is no parameter, as pretrained models have it.
        made.final_logits_bias.normal_(std=0.1)
        return made.to(dtype)
    return MarianMTModel(MarianConfig(**settings)).to(dtype)


def rows_of(count: int) -> steps.Rows:
    """Sources of 2 to 20 tokens and targets of 1 to 12, each with an end."""
    generator = np.random.default_rng(4)
    found = []
    for _ in range(count):
        source, target = (int(generator.integers(low, high)) for low, high in ((1, 20), (0, 12)))
        tokens = generator.integers(2, steps.VOCABULARY, source + target + 2).astype(np.int32)
        tokens[[source, -1]] = END
        parts = (np.arange(len(tokens)) > source).astype(np.int16)
        found.append(Encoded(tokens, parts > 0, parts=parts))
    return steps.Rows(found)


def gradient(
    family: str, smoothing: float, kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    objective = seq2seq.TargetAfterSource(Seq2Seq(kind="seq2seq", label_smoothing=smoothing))
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 40, pad=PAD)
    made = steps.step_of(objective, model(family), rows_of(rows), layout, kind, zero, step)
    found: dict[str, np.ndarray] = made["gradients"]
    return found


def reference(family: str, smoothing: float, rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time through transformers' own labels, one division."""
    plain, examples = model(family, torch.float64), rows_of(rows)
    total = sum(int(examples.learned(row).sum()) for row in range(first, first + count))
    for row in range(first, first + count):
        example = examples.example(row)
        source, target = (torch.from_numpy(example.tokens[example.parts == part]).long() for part in (0, 1))
        logits = plain(input_ids=source[None], labels=target[None]).logits[0]
        summed = functional.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
        (summed / total).backward()
    trained = [(name, one) for name, one in plain.named_parameters() if one.requires_grad]
    return {f"model.{name}": parameter.grad.numpy() for name, parameter in trained}
