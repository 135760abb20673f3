"""Beside all paths, one after the other."""

from itertools import pairwise, product

import pytest
import torch

from trainer.model.crf import Crf, allowed_in_bio

TAGS, WORDS = 3, 4
GENERATOR = torch.Generator().manual_seed(3)


def field() -> Crf:
    made = Crf(TAGS)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=GENERATOR)
    return made


def score(made: Crf, scores: torch.Tensor, path: tuple[int, ...]) -> torch.Tensor:
    steps = sum(made.after[one, other] for one, other in pairwise(path))
    own = sum(scores[word, tag] for word, tag in enumerate(path))
    return made.first[path[0]] + own + steps + made.last[path[-1]]


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
    """Scores, tags, which words are there, and how many."""
    lengths = [4, 1, 3, 0]
    scores = torch.randn(len(lengths), WORDS, TAGS, generator=GENERATOR)
    tags = torch.randint(0, TAGS, (len(lengths), WORDS), generator=GENERATOR)
    there = torch.arange(WORDS) < torch.tensor(lengths)[:, None]
    return scores, tags.where(there, -100), there, lengths


def test_the_loss_is_that_over_all_paths() -> None:
    made, (scores, tags, there, lengths) = field(), rows()
    expected = torch.tensor(0.0)
    for own, right, length in zip(scores, tags, lengths, strict=True):
        if length:
            every = torch.stack([score(made, own, path) for path in product(range(TAGS), repeat=length)])
            expected = expected + every.logsumexp(0) - score(made, own, tuple(right[:length].tolist()))
    assert float(made.loss(scores, tags, there).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_gradient_is_that_over_all_paths() -> None:
    made, (scores, tags, there, lengths) = field(), rows()
    made.loss(scores, tags, there).backward()
    # Of the transitions: how often one is expected, less how often it is there.
    expected = torch.zeros(TAGS, TAGS)
    with torch.no_grad():
        for own, right, length in zip(scores, tags, lengths, strict=True):
            if not length:
                continue
            paths = list(product(range(TAGS), repeat=length))
            chances = torch.stack([score(made, own, path) for path in paths]).softmax(0)
            for path, chance in [*zip(paths, chances.tolist(), strict=True), (tuple(right[:length].tolist()), -1.0)]:
                for one, other in pairwise(path):
                    expected[one, other] += chance
    assert made.after.grad is not None
    torch.testing.assert_close(made.after.grad, expected, rtol=1e-4, atol=1e-5)


def test_no_word_at_all_costs_nothing_and_has_a_gradient() -> None:
    made = field()
    loss = made.loss(torch.zeros(1, 1, TAGS), torch.full((1, 1), -100), torch.zeros(1, 1, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(one.grad is not None and not one.grad.any() for one in made.parameters())


def test_the_best_path_is_the_best_of_all() -> None:
    made, (scores, _, there, lengths) = field(), rows()
    found = made.best(scores, there)
    for own, said, length in zip(scores, found, lengths, strict=True):
        if length:
            best = max(product(range(TAGS), repeat=length), key=lambda path: score(made, own, path).item())
            assert tuple(said[:length].tolist()) == best


def test_no_entity_goes_on_that_has_not_begun() -> None:
    tags = ("O", "B-x", "I-x")
    first, follows = allowed_in_bio(tags)
    assert first.tolist() == [True, True, False]
    assert follows[:, 2].tolist() == [False, True, True]
    scores = torch.tensor([[[0.0, 0.0, 9.0], [0.0, 0.0, 9.0]]])
    there = torch.ones(1, 2, dtype=torch.bool)
    assert Crf(3).best(scores, there).tolist() == [[2, 2]]
    assert Crf(3).best(scores, there, (first, follows)).tolist() == [[1, 2]]
