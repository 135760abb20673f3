"""What a finished run answers, greedily or drawn, and how sure it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.config.data import PseudoLabel
from trainer.config.recipe import Recipe
from trainer.data.encode import Encoder
from trainer.data.example import Example, Piece
from trainer.data.tokenizer import padding_of
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

_ROWS, _TOKENS = 64, 16_384
"""Rows and tokens that are answered at a time."""
TEMPERATURE = 0.7
"""What the logits of drawn answers are divided by."""
ASKS_NOTHING = "ends with a message of the assistant, so it asks for no answer"
_PROBE = "a"
"""An answer that shows where answers begin, and what they end with."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run says to a row."""

    text: str
    confidence: float
    """The geometric mean of the probabilities of its tokens, the end of the turn included; 0 where there are none."""
    why: str = ""
    """Why it is no answer, however sure; empty where it is one."""


def answer(own: Recipe, result: Path, examples: Sequence[Example], settings: PseudoLabel) -> list[Answer]:
    """The answer of the run `own` with its `result` (model/ or adapter/) to each example, in order.

    RecipeError where the run cannot write such examples, or its base model does not load.
    """
    return [given for [given] in several(own, result, examples, settings, 1)]


def several(
    own: Recipe, result: Path, examples: Sequence[Example], settings: PseudoLabel, count: int
) -> list[list[Answer]]:
    """The likeliest answer to each example, and others that are drawn from `train.seed` at TEMPERATURE: `count` in all.

    RecipeError as `answer` has it.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(result)
    prompts = _prompts(own, tokenizer, examples, settings)
    speaker = _Speaker(_model(own, result, len(tokenizer)), tokenizer, settings.max_tokens, prompts)
    answers = [[Answer("", 0.0, speaker.refusal(prompt))] for prompt in prompts]
    sound = [row for row, [given] in enumerate(answers) if not given.why]
    for batch in _batches(sound, prompts, settings.max_tokens, count):
        asked = [prompts[row] for row in batch]
        for row, given in zip(batch, speaker.answer(asked), strict=True):
            answers[row] = [given]
        if count > 1:
            for row, more in zip(batch, speaker.drawn(asked, count - 1, own.train.seed), strict=True):
                answers[row] += more
    return answers


@dataclass(frozen=True)
class _Prompt:
    """What stands before an answer."""

    tokens: list[int]
    end: int | None = None
    """The token that ends an answer."""
    space: str = ""
    """White space that the prompt ends with and that becomes part of the answer's first token."""
    wrong: str = ""
    """Why there is nothing to answer; empty where there is."""


def _prompts(
    own: Recipe, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], settings: PseudoLabel
) -> list[_Prompt]:
    """The tokens before each answer, as training has them."""
    data = {"train": settings.rows, "validation": None, "test": None, "pseudo_label": None, "learn": "last_assistant"}
    encoder = Encoder(own.model_copy(update={"data": own.data.model_copy(update=data)}), tokenizer)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special} | {encoder.eos}
    prompts = []
    for example, encoded in zip(examples, encoder.encode([probed(example) for example in examples]), strict=True):
        if asks_nothing(example):
            prompts.append(_Prompt([], wrong=ASKS_NOTHING))
        elif isinstance(encoded, Problem):
            prompts.append(_Prompt([], wrong=encoded.message))
        else:
            before = encoded.tokens[: int(np.argmax(encoded.learned))].tolist()
            learned = encoded.tokens[encoded.learned].tolist()
            end = next((token for token in reversed(learned) if token in special), None)
            text = "".join(piece.text for piece in example.pieces)
            space = text[len(text.rstrip()) :]
            written = tokenizer.decode(before, skip_special_tokens=True).endswith(space)
            prompts.append(_Prompt(before, end, "" if written else space))
    return prompts


def asks_nothing(example: Example) -> bool:
    """Whether a conversation has its answer."""
    return bool(example.messages) and example.messages[-1]["role"] == "assistant"


def probed(example: Example) -> Example:
    """The example with an answer, so that its tokens show where one begins and how it ends."""
    if example.messages:
        return replace(example, messages=(*example.messages, {"role": "assistant", "content": _PROBE}))
    [prompt] = example.pieces
    bare = not prompt.text or prompt.text[-1].isspace()
    return replace(example, pieces=(prompt, Piece(_PROBE if bare else f" {_PROBE}", learned=True)))


def _batches(rows: Sequence[int], prompts: Sequence[_Prompt], longest: int, copies: int = 1) -> Iterator[list[int]]:
    """The rows whose prompts are of about the same length; each has so many answers at a time."""
    batch: list[int] = []
    for row in sorted(rows, key=lambda row: (len(prompts[row].tokens), row)):
        room = _TOKENS // (len(prompts[row].tokens) + longest + 1)
        if batch and len(batch) * copies >= min(room, _ROWS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _model(own: Recipe, result: Path, vocabulary: int) -> "PreTrainedModel":
    """The run's model on this process's device."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    keys = {
        "dtype": getattr(torch, own.model.dtype),
        "attn_implementation": "sdpa",
        "trust_remote_code": own.model.trust_remote_code,
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if result.name == "model":
        return AutoModelForCausalLM.from_pretrained(result, **keys).to(device).eval()
    try:
        model = AutoModelForCausalLM.from_pretrained(own.model.name, revision=own.model.revision, **keys)
    except (OSError, ValueError) as error:
        message = f"stands on {own.model.name}, which does not load: {error}"
        raise RecipeError([Problem("data.pseudo_label.run", message)]) from error
    if vocabulary > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    level = logging.get_verbosity()
    # A head that shares its weights with the embeddings is told as missing.
    logging.set_verbosity_error()
    model.load_adapter(str(result))
    logging.set_verbosity(level)
    return model.to(device).eval()


class _Speaker:
    """Answers prompts in batches."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        longest: int,
        prompts: Sequence[_Prompt],
    ) -> None:
        from transformers import GenerationConfig

        self.model, self.tokenizer, self.longest = model, tokenizer, longest
        self.pad = padding_of(tokenizer)
        self.room: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.ends = sorted({prompt.end for prompt in prompts if prompt.end is not None})
        # The model's own settings, such as a repetition penalty, would make other answers than the likeliest.
        model.generation_config = GenerationConfig(
            do_sample=False,
            # The end of the turn is one more.
            max_new_tokens=longest + 1,
            eos_token_id=self.ends or None,
            pad_token_id=self.pad,
        )

    def refusal(self, prompt: _Prompt) -> str:
        """Why a prompt cannot be answered; empty where it can."""
        tokens = len(prompt.tokens)
        if self.room is not None and tokens + self.longest >= self.room:
            return (
                f"has {tokens} tokens, which leaves no room for max_tokens: {self.longest} of the model's {self.room}"
            )
        return prompt.wrong

    def answer(self, prompts: Sequence[_Prompt]) -> list[Answer]:
        """The likeliest answer to each prompt [B]."""
        return self._given(prompts)

    def drawn(self, prompts: Sequence[_Prompt], count: int, seed: int) -> list[list[Answer]]:
        """So many answers to each prompt [B], drawn at TEMPERATURE."""
        import torch

        torch.manual_seed(seed)
        sampling = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "num_return_sequences": count}
        found = self._given([prompt for prompt in prompts for _ in range(count)], prompts, sampling)
        return [found[start : start + count] for start in range(0, len(found), count)]

    def _given(
        self,
        each: Sequence[_Prompt],
        prompts: Sequence[_Prompt] | None = None,
        sampling: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Answer]:
        """The answers to `each`; of `prompts` the model makes several where it samples."""
        import torch

        prompts = each if prompts is None else prompts
        width = max(len(prompt.tokens) for prompt in prompts)
        spare = [width - len(prompt.tokens) for prompt in prompts]
        rows = [[self.pad] * count + prompt.tokens for count, prompt in zip(spare, prompts, strict=True)]
        mask = [[0] * count + [1] * (width - count) for count in spare]
        record = _Record()
        with torch.inference_mode():
            produced = self.model.generate(
                torch.tensor(rows, device=self.model.device),
                attention_mask=torch.tensor(mask, device=self.model.device),
                logits_processor=[record],
                **sampling,
            )
        chances = torch.stack(record.chances, dim=1).cpu().numpy()
        return [self._said(*one) for one in zip(each, produced[:, width:].tolist(), chances, strict=True)]

    def _said(self, prompt: _Prompt, tokens: list[int], chances: np.ndarray[Any, Any]) -> Answer:
        """The tokens [T] up to the end as an answer; their log-probabilities [T]."""
        end = next((place for place, token in enumerate(tokens) if token in self.ends), None)
        confidence = float(np.exp(chances[: None if end is None else end + 1].mean()))
        text = self._text([*prompt.tokens, *tokens[:end]])[len(self._text(prompt.tokens)) :].removeprefix(prompt.space)
        if end is None:
            return Answer(text, confidence, f"its answer has more than {self.longest} tokens (max_tokens)")
        return Answer(text, confidence, "" if text.strip() else "its answer is empty")

    def _text(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text


class _Record:
    """The log-probability of the likeliest token at each step of a generation; it is taken unless answers are drawn."""

    def __init__(self) -> None:
        self.chances: list[torch.Tensor] = []

    def __call__(self, tokens: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Leaves the scores [B, V] as they are."""
        self.chances.append(scores.double().log_softmax(dim=-1).amax(dim=-1))
        return scores
