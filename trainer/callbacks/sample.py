"""What the model answers to a few validation prompts before and after training."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.evaluate import Evaluate as Settings
from trainer.data.corpus import Split
from trainer.data.encoded import Encoded
from trainer.data.tokenizer import padding_of
from trainer.engine.engine import Engine
from trainer.model.attention import own_attention
from trainer.plan.files import write_json
from trainer.tasks.causal_lm import takes_types


@dataclass(frozen=True)
class Sample:
    """One prompt, what the row says, and what the model says."""

    prompt: str
    reference: str
    answer: str


def write_samples(folder: Path, when: str, samples: list[Sample]) -> None:
    """Keeps the samples of one moment (`before` or `after`) in samples.json."""
    path = folder / "samples.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, held | {when: [asdict(sample) for sample in samples]})


class Sampler:
    """Greedy answers; all ranks generate, since a sharded model needs them all."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: Split | None,
    ) -> None:
        """`rows` are asked; None where the training rows are a stream and there are no others."""
        self.settings, self.engine, self.model, self.tokenizer, self.rows = settings, engine, model, tokenizer, rows

    @torch.no_grad()
    def answers(self) -> list[Sample]:
        """One sample for each of the first `evaluate.samples` rows that begin with a prompt."""
        rows = self.rows
        if rows is None or self.settings.samples == 0:
            return []
        chosen = [row for row in range(len(rows)) if not rows.learned(row)[0]][: self.settings.samples]
        self.model.eval()
        with self.engine.gathered(), own_attention(self.model):
            samples = [self._answer(rows.example(row)) for row in chosen]
        self.model.train()
        return samples

    def _answer(self, example: Encoded) -> Sample:
        tokens, start = example.tokens, int(example.learned.argmax())
        prompt = torch.from_numpy(tokens[:start].astype("int64"))[None].to(self.engine.device)
        kinds = {}
        if example.types is not None and takes_types(self.model):
            kinds["token_type_ids"] = torch.from_numpy(example.types[:start].astype("int64"))[None].to(prompt.device)
        produced = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            **kinds,
            max_new_tokens=self.settings.sample_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=padding_of(self.tokenizer),
        )
        return Sample(
            prompt=self._text(tokens[:start]),
            reference=self._text(tokens[start:]),
            answer=self._text(produced[0, start:].cpu().numpy()),
        )

    def _text(self, tokens: "object") -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()
