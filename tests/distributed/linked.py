"""One optimizer step over a knowledge graph on this rank, and its gradient by one large batch."""

from typing import Any

import numpy as np
import torch
from distributed import steps
from torch.nn import functional
from transformers import BertConfig, BertModel

from trainer.config.kg_completion import KgCompletion
from trainer.data.batches import Layout
from trainer.data.encoded import Encoded
from trainer.data.graph import Graph, joined, known_of
from trainer.tasks.heads import new_head
from trainer.tasks.kg_completion import OfOne, OfTwo
from trainer.tasks.kg_encoders import RIGHT

ENTITIES, RELATIONS, TEMPERATURE = 9, 3, 0.2


def model(dtype: torch.dtype = torch.float32) -> Any:
    """A small BERT without a pooler, equal wherever it is made; without dropout."""
    sizes = {"vocab_size": steps.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(7)
    config = BertConfig(**sizes, **off, num_attention_heads=4, max_position_embeddings=64, pad_token_id=0)
    return BertModel(config, add_pooling_layer=False).to(dtype)


def rows_of(count: int) -> tuple[steps.Rows, Graph]:
    """Triples over few entities, so that some questions have several answers in a step."""
    generator = np.random.default_rng(3)
    texts = [generator.integers(5, steps.VOCABULARY, generator.integers(2, 7)) for _ in range(ENTITIES + 2 * RELATIONS)]
    triples = np.stack([generator.integers(0, most, count) for most in (ENTITIES, RELATIONS, ENTITIES)], axis=1)
    found = []
    for head, relation, tail in triples.tolist():
        forth, back = (texts[ENTITIES + 2 * relation + number] for number in (0, 1))
        parts = [np.append(texts[head], forth), texts[tail], np.append(texts[tail], back), texts[head]]
        tokens = np.concatenate(parts).astype(np.int32)
        numbers = np.repeat(np.arange(4), [len(part) for part in parts]).astype(np.int16)
        found.append(Encoded(tokens, np.zeros(len(tokens), np.bool_), parts=numbers))
    encoded = [Encoded(text.astype(np.int32), np.zeros(len(text), np.bool_)) for text in texts[:ENTITIES]]
    names = tuple(map(str, range(ENTITIES)))
    graph = Graph(names, ("a", "b", "c"), {"train": triples.astype(np.int64)}, encoded, known_of([triples]))
    return steps.Rows(found), graph


def objective(encoder: str, graph: Graph) -> Any:
    settings = KgCompletion(kind="kg_completion", encoder=encoder, temperature=TEMPERATURE, negatives=2)
    return (OfTwo if encoder == "bi" else OfOne)(settings, graph, 0, 3)


def gradient(
    encoder: str, kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    examples, graph = rows_of(rows)
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 99, pad=0)
    made = steps.step_of(objective(encoder, graph), model(), examples, layout, kind, zero, step)
    found: dict[str, np.ndarray] = made["gradients"]
    return found


def reference(encoder: str, rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: each text alone, and all questions of the step against all of its entities."""
    plain, head = model(torch.float64), new_head(32, 1, 0.02, 3, torch.float64)
    examples, graph = rows_of(rows)

    def hidden(text: Encoded) -> torch.Tensor:
        states: torch.Tensor = plain(
            input_ids=torch.from_numpy(text.tokens.astype(np.int64))[None],
            token_type_ids=None if text.types is None else torch.from_numpy(text.types.astype(np.int64))[None],
        ).last_hidden_state[0]
        return states

    chosen = range(first, first + count)
    parts = [examples.example(row).apart() for row in chosen]
    if encoder == "cross":
        layout = Layout(global_=1, micro=1, packing=False, micro_tokens=99, pad=0)
        made = objective(encoder, graph)
        losses = []
        for row, own in zip(chosen, parts, strict=True):
            batch = made.collate("train")([row], [examples.example(row)], layout, 0)
            for place, right in enumerate(batch.more[RIGHT].tolist()):
                length = int(batch.attention_mask[place].sum())
                text = Encoded(batch.input_ids[place, :length].numpy(), np.zeros(length, np.bool_))
                # The first of each question is the right one.
                question, answer = divmod(place, 3)
                if answer == 0:
                    expected = joined(own[2 * question], own[2 * question + 1])
                    assert right == 1.0
                    assert expected.tokens.tolist() == text.tokens.tolist()
                types = np.asarray(batch.token_type_ids[place, :length])
                score = head(hidden(Encoded(text.tokens, text.learned, types=types))[0])[0]
                losses.append(functional.binary_cross_entropy_with_logits(score, torch.tensor(right).double()))
        torch.stack(losses).mean().backward()
    else:
        each = [[functional.normalize(hidden(text).mean(dim=0), dim=0) for text in own] for own in parts]
        asked = torch.stack([own[place] for own in each for place in (0, 2)])
        candidates = torch.stack([own[place] for own in each for place in (1, 3)])
        scores = asked @ candidates.T / TEMPERATURE
        triples = graph.triples["train"][list(chosen)]
        known = {tuple(triple) for triple in graph.triples["train"].tolist()}
        names = [entity for head_, _, tail in triples.tolist() for entity in (tail, head_)]
        for question in range(2 * count):
            head_, relation, tail = triples[question // 2].tolist()
            for candidate, entity in enumerate(names):
                other = (head_, relation, entity) if question % 2 == 0 else (entity, relation, tail)
                if candidate != question and other in known:
                    scores[question, candidate] = -torch.inf
        functional.cross_entropy(scores, torch.arange(2 * count)).backward()
    found = {
        f"model.{name}": np.zeros(one.shape) if one.grad is None else one.grad.numpy()
        for name, one in plain.named_parameters()
    }
    if encoder == "bi":
        return found
    return {**found, **{f"heads.kg.{name}": one.grad.numpy() for name, one in head.named_parameters()}}
