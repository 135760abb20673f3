"""Answers that a model writes to validation rows: greedy, in batches, with the model's cache.

B prompts of up to S tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.data.tokenizer import padding_of
from trainer.model.attention import own_attention
from trainer.model.inputs import takes_types

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Prompt:
    """What an answer follows."""

    tokens: Numbers
    """[S]."""
    types: Numbers | None = None
    """Which of several texts each belongs to [S]; None where there is but one."""


@dataclass(frozen=True)
class Written:
    """One prompt, what the row says, and what the model says."""

    prompt: str
    reference: str
    answer: str


class Writer:
    """One model with its tokenizer, and how its answers begin and end."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, whole: bool) -> None:
        """Unless weights are `whole` between passes, all ranks write equally many batches, each in as many passes."""
        self.model, self.tokenizer, self.whole = model, tokenizer, whole
        self.special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}

    @torch.no_grad()
    def write(
        self,
        prompts: Sequence[Prompt],
        references: Sequence[Numbers],
        tokens: int,
        more: Mapping[str, torch.Tensor] = MappingProxyType({}),
    ) -> list[Written]:
        """The answer to each prompt, in at most so many tokens; it ends where the references end too.

        `more` is what else the model takes, such as images.
        """
        training = self.model.training
        self.model.eval()
        with own_attention(self.model):
            answers = self._answers(prompts, self._ends(references), tokens, more)
        self.model.train(training)
        return [
            Written(self._text(prompt.tokens), self._text(reference), self._text(answer))
            for prompt, reference, answer in zip(prompts, references, answers, strict=True)
        ]

    def _answers(
        self, prompts: Sequence[Prompt], ends: list[int], tokens: int, more: Mapping[str, torch.Tensor]
    ) -> np.ndarray[Any, Any]:
        """The tokens of each answer, filled up at its end."""
        pad, device = padding_of(self.tokenizer), self.model.device
        reads_apart = self.model.config.is_encoder_decoder
        width = max(len(prompt.tokens) for prompt in prompts)
        ids = np.full((len(prompts), width), pad, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            length = len(prompt.tokens)
            # What a decoder goes on from stands at the end.
            place = slice(length) if reads_apart else slice(width - length, width)
            ids[row, place], mask[row, place] = prompt.tokens, 1
            types[row, place] = 0 if prompt.types is None else prompt.types
        more = {**more, "token_type_ids": torch.from_numpy(types)} if takes_types(self.model) else more
        # The model's own settings, such as beams or a repetition penalty, would make other answers than the likeliest.
        own = self.model.generation_config
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=ends or None,
            pad_token_id=pad,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
            forced_bos_token_id=own.forced_bos_token_id,
        )
        made: torch.Tensor = self.model.generate(
            torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            **{name: values.to(device) for name, values in more.items()},
            generation_config=settings,
            use_cache=True,
            synced_gpus=not self.whole,
        )
        answers: np.ndarray[Any, Any] = made[:, 1 if reads_apart else width :].cpu().numpy()
        return answers

    def _ends(self, references: Sequence[Numbers]) -> list[int]:
        """The tokens that end an answer: the model's own, and the special ones that the references end with."""
        own = self.model.generation_config.eos_token_id
        named = own if isinstance(own, list) else [own, self.tokenizer.eos_token_id]
        last = {int(reference[-1]) for reference in references if len(reference)}
        return sorted({number for number in named if number is not None} | (last & self.special))

    def _text(self, tokens: object) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()
