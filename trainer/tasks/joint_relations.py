"""The entities of a sentence and the relations among them: tags of words, and a score for each pair of words.

Bekoulis et al. 2018, "Joint entity recognition and relation extraction as a multi-head selection problem", with the
deep biaffine scores of Dozat and Manning 2017: a relation holds between the first words of two entities.

B examples, S tokens, W words, H hidden size, T tags, R relations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.joint_relations import JointRelations
from trainer.config.recipe import Recipe
from trainer.data import sentences
from trainer.data.batches import IGNORED, Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.data.sentences import Sentences
from trainer.errors import Problem, RecipeError
from trainer.tasks import joint_metrics
from trainer.tasks.class_table import ClassTable
from trainer.tasks.heads import new_head, read_heads
from trainer.tasks.objective import OUTPUTS
from trainer.tasks.reader import Reader
from trainer.tasks.token_labels import by_rows, by_words

LINKS = "links"
"""What stands beside the tokens: the row, the word that begins the head, the one that begins the tail, and the relation
[K, 4]."""
WIDTH = 128
"""Numbers that tell a word as the head of a relation, and as the tail of one."""
_TAGS, _PAIRS = "tags", "pairs"


class OfSentences:
    """The objective."""

    weights: Mapping[str, float] = MappingProxyType({"entities": 1.0, "relations": 1.0})
    labels = None

    def __init__(self, held: Sentences, seed: int = 0) -> None:
        """`seed` draws the heads."""
        self.held, self.seed = held, seed

    def collate(self, split: str) -> Collate:
        """As the protocol says; the tags [B, S] stand at the first token of each word."""
        numbers, begun, links = self.held.numbers[split], self.held.begun[split], self.held.links[split]

        def read(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            batch = batch_of(examples, layout)
            labels, found = torch.full_like(batch.input_ids, IGNORED), list[list[int]]()
            for place, (row, example) in enumerate(zip(rows, examples, strict=True)):
                assert example.marks is not None, "tags are kept as marks"
                labels[place, : len(example.marks)] = torch.from_numpy(numbers[example.marks])
                own = begun[example.marks[example.marks >= 0]].tolist()
                word_of = {entity: word for word, entity in enumerate(own) if entity >= 0}
                for head, tail, relation in links[row].tolist():
                    # An entity that `data.max_length` cut off is not seen.
                    if head in word_of and tail in word_of:
                        found.append([place, word_of[head], word_of[tail], relation])
            return replace(batch, labels=labels, more={LINKS: torch.tensor(found, dtype=torch.int64).reshape(-1, 4)})

        return read

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: words, each of which has a tag and may be the head of relations."""
        words = sum(int((batch.labels != IGNORED).sum()) for batch in batches if batch.labels is not None)
        return {"entities": float(words), "relations": float(words)}

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING or model.config.is_encoder_decoder:
            message = f"is a {model.config.model_type}, whose words do not see those after them"
            raise RecipeError([Problem("model.name", f"{message}; name an encoder such as a BERT")])
        return SentenceReader(model, self.held.tags, self.held.relations, compute, self.seed)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """As the protocol says."""
        return joint_metrics.measure(self.held.tags, outputs)

    def classes(self, outputs: Sequence[Any]) -> ClassTable:
        """As the protocol says: of relations."""
        return joint_metrics.table(self.held.tags, self.held.relations, outputs)

    def heads(self) -> dict[str, Any]:
        """What stands beside the saved body."""
        return {"tags": list(self.held.tags), "relations": list(self.held.relations)}

    def restore(self, module: nn.Module, folder: Path) -> None:
        """Fills the heads with the weights of a finished run."""
        assert isinstance(module, SentenceReader), "the objective made it"
        read_heads(folder, module.heads)


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfSentences:
    """The objective of a recipe; DataError for entities and relations that do not fit."""
    assert isinstance(recipe.task, JointRelations), "the table names the kind"
    return OfSentences(sentences.of_corpus(recipe.task, corpus), recipe.train.seed)


class SentenceReader(Reader):
    """A body with a head for tags and one for pairs of words, and their losses."""

    def __init__(
        self,
        model: PreTrainedModel,
        tags: Sequence[str],
        relations: Sequence[str],
        compute: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        """`compute`: the type of products where weights have another; `seed` draws the heads."""
        super().__init__(model, compute)
        self.tags = tuple(tags)
        size, spread = model.config.hidden_size, getattr(model.config, "initializer_range", 0.02)
        dtype = next(model.parameters()).dtype
        self.heads = nn.ModuleDict(
            {
                _TAGS: new_head(size, len(tags), spread, seed, dtype),
                _PAIRS: Pairs(size, len(relations), spread, seed + 1, dtype),
            }
        )

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed losses, float32 scalars; in evaluation mode tags and relations of each example too.

        Every ordered pair of words is a choice for each relation, so that a wrong entity has learned to have none.
        """
        assert batch.labels is not None, "the rows have tags"
        there = batch.labels != IGNORED
        with self.precision(batch.input_ids.device):
            logits, scores, present = self.read(batch, there)
        right = torch.zeros_like(scores)
        right[tuple(batch.more[LINKS].T)] = 1.0
        apart = ~torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
        chosen = present[:, :, None] & present[:, None, :] & apart
        terms = {
            "entities": functional.cross_entropy(logits[there], batch.labels[there], reduction="sum"),
            "relations": functional.binary_cross_entropy_with_logits(scores[chosen], right[chosen], reduction="sum"),
        }
        if self.training:
            return terms
        said, held = by_rows(logits.argmax(dim=-1)[there], there), by_rows(batch.labels[there], there)
        outputs = []
        for row, (own, others) in enumerate(zip(said, held, strict=True)):
            links = right[row].nonzero().tolist()
            outputs.append((own.tolist(), others.tolist(), self.links(own.tolist(), scores[row]), links))
        return {**terms, OUTPUTS: outputs[: len(batch.rows)]}

    def read(self, batch: Batch, there: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tags of tokens [B, S, T], relations of words [B, W, W, R] by head and tail, and which words are there [B, W].

        `there` [B, S] begins a word.
        """
        hidden = self.model(**self.inputs(batch)).last_hidden_state
        words, present, _ = by_words(hidden, there)
        return self.heads[_TAGS](hidden).float(), self.heads[_PAIRS](words).float(), present

    def links(self, tags: Sequence[int], scores: torch.Tensor) -> list[list[int]]:
        """The relations of a row, as words that begin head and tail and the relation: those between its entities.

        `tags` [W] are numbers; `scores` [W, W, R].
        """
        begins = [start for _, start, _ in joint_metrics.entities_of(self.tags, tags)]
        held = [(head, tail) for head in begins for tail in begins if head != tail]
        if not held:
            return []
        heads, tails = (list(places) for places in zip(*held, strict=True))
        found = (scores[heads, tails] > 0).nonzero().tolist()
        return [[*held[pair], relation] for pair, relation in found]

    def shown(self, batch: Batch) -> torch.Tensor:
        """As the class says."""
        assert batch.attention_mask is not None, "rows are padded"
        hidden: torch.Tensor = self.model(**self.inputs(batch)).last_hidden_state
        return hidden[batch.attention_mask.bool()]


class Pairs(nn.Module):
    """The score of each relation between each two words; above 0 it is likelier than not."""

    def __init__(self, inputs: int, relations: int, spread: float, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.relations = relations
        self.head, self.tail = (new_head(inputs, WIDTH, spread, seed + number, dtype) for number in range(2))
        # One more number beside those of the tail: what the head says by itself.
        self.both = new_head(WIDTH, relations * (WIDTH + 1), spread, seed + 2, dtype)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Of words [B, W, H]: [B, W, W, R], heads before tails."""
        heads, tails = functional.gelu(self.head(words)), functional.gelu(self.tail(words))
        asked = self.both(heads).unflatten(-1, (self.relations, WIDTH + 1))
        both = torch.einsum("bird,bjd->bijr", asked[..., :WIDTH], tails)
        scores: torch.Tensor = both + asked[:, :, None, :, WIDTH]
        return scores
