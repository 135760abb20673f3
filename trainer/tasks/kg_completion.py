"""What is missing of a triple, among all entities of a knowledge graph.

With two encodings the negatives of a question are the entities of the whole optimizer step, over all ranks: encodings
are made without a gradient first, what the loss says to each of them is found, and a second pass carries that on
(GradCache, Gao et al. 2021). B examples, N of the step, E entities.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer import ranks
from trainer.config.kg_completion import KgCompletion
from trainer.config.recipe import Recipe
from trainer.data import graph as graphs
from trainer.data.batches import Batch, Collate, Window, batch_of
from trainer.data.corpus import Corpus
from trainer.data.draws import generator_of
from trainer.data.encoded import Encoded
from trainer.data.graph import Graph, Ids, joined
from trainer.data.packing import Layout
from trainer.data.tokenizer import padding_of
from trainer.data.triple import BACK, QUERY
from trainer.errors import Problem, RecipeError
from trainer.tasks import kg_encoders as encoders
from trainer.tasks.heads import read_heads
from trainer.tasks.kg_encoders import BiEncoder, CrossEncoder

SURVEYED = 64
"""Entities that are encoded at a time."""


class OfGraph:
    """The objective of both kinds."""

    weights: Mapping[str, float] = MappingProxyType({"loss": 1.0})
    labels = None

    def __init__(self, settings: KgCompletion, graph: Graph, pad: int, seed: int) -> None:
        """`pad` fills texts up."""
        self.settings, self.graph, self.seed = settings, graph, seed
        self.layout = Layout.padded(pad)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """As the protocol says: filtered, over all entities, of both questions of each triple."""
        found = np.array(outputs, dtype=np.float64).ravel()
        hits = {f"hits_{most}": float(np.mean(found <= most)) for most in (1, 3, 10)}
        return {"mrr": float(np.mean(1 / found)), **hits}

    def heads(self) -> dict[str, Any]:
        """What stands beside the saved body."""
        kept = {name: getattr(self.settings, name) for name in ("encoder", "temperature")}
        return {**kept, "entities": list(self.graph.entities), "relations": list(self.graph.relations)}

    def _told(self, split: str, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """What stands beside the tokens of these rows; outside of training also which other entities are right."""
        triples = self.graph.triples[split][np.array(rows, dtype=np.int64)]
        told = {encoders.TRIPLES: torch.from_numpy(triples)}
        if split == "train":
            return told
        return {**told, encoders.OTHERS: torch.from_numpy(self.graph.others(triples))}


class OfTwo(OfGraph):
    """Question and entity are encoded apart."""

    module_: BiEncoder | None = None

    def collate(self, split: str) -> Collate:
        """As the protocol says: four texts of each example."""

        def apart(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            texts = [text for example in examples for text in example.apart()]
            return replace(batch_of(texts, layout), more=self._told(split, rows))

        return apart

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: two questions of each example."""
        return {"loss": float(sum(2 * len(batch.more[encoders.TRIPLES]) for batch in batches))}

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        _check(model)
        self.module_ = BiEncoder(model, self.settings.temperature, compute)
        return self.module_

    def ahead(self, engine: Any, window: Window, begin: Callable[[int], None]) -> Window:
        """As the protocol says: beside each micro-batch, what the loss of the step says to its encodings."""
        own = []
        for index, batch in enumerate(window.batches):
            begin(index)
            own.append(engine.look(batch)[encoders.REPRESENTATIONS].float())
        sizes = [len(some) for some in own]
        each, triples = torch.cat(own), torch.cat([batch.more[encoders.TRIPLES] for batch in window.batches])
        of_ranks = _of_ranks(each)
        first = sum(len(some) for some in of_ranks[: ranks.rank()])
        every = torch.cat(of_ranks).to(each.device).requires_grad_(True)
        ids = torch.cat(_of_ranks(triples)).cpu().numpy()
        with torch.enable_grad():
            losses = encoders.step_loss(every, self._hidden(ids).to(each.device), self.settings.temperature)
            [pulls] = torch.autograd.grad(losses.sum(), every)
        batches, start = [], first
        for batch, size in zip(window.batches, sizes, strict=True):
            pull, value = pulls[start : start + size], losses.detach()[2 * start : 2 * (start + size)]
            batches.append(replace(batch, more={**batch.more, encoders.PULL: pull, encoders.VALUE: value}))
            start += size
        return replace(window, batches=tuple(batches))

    def survey(self, engine: Any) -> None:
        """As the protocol says: encodes each entity once."""
        assert self.module_ is not None, "the module is made first"
        count = len(self.graph.entities)
        mine = list(range(ranks.rank(), count, ranks.world_size()))
        # All ranks do equally many forwards: the hooks of ZeRO wait for all.
        rounds = -(-count // (SURVEYED * ranks.world_size()))
        found = []
        for number in range(rounds):
            chosen = mine[number * SURVEYED : (number + 1) * SURVEYED]
            batch = batch_of([self.graph.encoded[entity] for entity in chosen], self.layout)
            found.append(engine.evaluate(batch)[encoders.REPRESENTATIONS][: len(chosen)].float())
        of_ranks = _of_ranks(torch.cat(found))
        entities = torch.empty(count, of_ranks[0].shape[1])
        for rank, rows in enumerate(of_ranks):
            entities[rank :: ranks.world_size()] = rows
        self.module_.entities = entities.to(found[0].device)

    def restore(self, module: nn.Module, folder: Path) -> None:
        """There is no head besides the body."""

    def _hidden(self, triples: Ids) -> torch.Tensor:
        """Which entities of the step are right answers of each question besides its own [2N, 2N]."""
        asked, answers = self.graph.questions(triples)
        right = np.stack([np.isin(answers, self.graph.known[question]) for question in asked])
        np.fill_diagonal(right, val=False)
        return torch.from_numpy(right)


class OfOne(OfGraph):
    """Question and entity are one text."""

    def collate(self, split: str) -> Collate:
        """As the protocol says: each question with its answer and with wrong entities, which are drawn."""

        def texts_of(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            told, texts, right = self._told(split, rows), list[Encoded](), list[float]()
            asked, answers = self.graph.questions(told[encoders.TRIPLES].numpy())
            questions = [text for example in examples for text in (example.apart()[QUERY], example.apart()[BACK])]
            for number, (question, answer) in enumerate(zip(asked, answers.tolist(), strict=True)):
                generator = generator_of(self.seed, split, epoch, rows[number // 2])
                wrong = self._wrong(question, generator, number % 2)
                texts += [joined(questions[number], self.graph.encoded[entity]) for entity in (answer, *wrong)]
                right += [1.0, *(0.0 for _ in wrong)]
            told[encoders.RIGHT] = torch.tensor(right)
            told[encoders.LENGTHS] = torch.tensor([len(text.tokens) for text in questions], dtype=torch.int64)
            return replace(batch_of(texts, layout), more=told)

        return texts_of

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: texts."""
        return {"loss": float(sum(len(batch.more[encoders.RIGHT]) for batch in batches))}

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        _check(model)
        return CrossEncoder(model, self._before_each, len(self.graph.entities), compute, self.seed)

    def restore(self, module: nn.Module, folder: Path) -> None:
        """Fills the head with the weights of a finished run."""
        assert isinstance(module, CrossEncoder), "the objective made it"
        read_heads(folder, module.heads)

    def _wrong(self, question: tuple[int, int], generator: np.random.Generator, back: int) -> list[int]:
        """Entities that answer it in no split; always as many, so that all batches are alike."""
        # The second question of a row goes on with other numbers.
        generator = np.random.default_rng((int(generator.integers(2**31)), back))
        usable = np.setdiff1d(np.arange(len(self.graph.entities)), self.graph.known[question])
        # Where all entities answer it, any does.
        among = usable if len(usable) else np.arange(len(self.graph.entities))
        drawn: list[int] = generator.choice(among, self.settings.negatives).tolist()
        return drawn

    def _before_each(self, question: torch.Tensor, entities: Sequence[int]) -> Batch:
        asked = Encoded(question.cpu().numpy().astype(np.int32), np.zeros(len(question), np.bool_))
        return batch_of([joined(asked, self.graph.encoded[entity]) for entity in entities], self.layout)


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfTwo | OfOne:
    """The objective of a recipe; DataError for triples that do not fit."""
    settings = recipe.task
    assert isinstance(settings, KgCompletion), "the table names the kind"
    made = OfTwo if settings.encoder == "bi" else OfOne
    return made(settings, graphs.of_corpus(settings, corpus), padding_of(tokenizer), recipe.train.seed)


def _of_ranks(rows: torch.Tensor) -> list[torch.Tensor]:
    """The rows of every rank, by rank, on the processor; they may be of unlike number."""
    held: list[torch.Tensor] = ranks.broadcast(ranks.gather(rows.detach().cpu()))
    return held


def _check(model: PreTrainedModel) -> None:
    if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING or model.config.is_encoder_decoder:
        message = f"is a {model.config.model_type}, whose tokens do not see the text after them"
        raise RecipeError([Problem("model.name", f"{message}; name an encoder such as a BERT")])
