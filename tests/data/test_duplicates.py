import a_recipe
import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import duplicates
from trainer.data.example import Example, Piece
from trainer.data.images import Image

WORDS = st.lists(st.sampled_from(["one", "two", "three", "four", "five", "six"]), max_size=12)


def signatures(texts: list[str]) -> duplicates.Signatures:
    return np.stack([duplicates.signature_of(text) for text in texts])


def jaccard(one: str, other: str) -> float:
    left, right = set(duplicates.shingles(one).tolist()), set(duplicates.shingles(other).tolist())
    return len(left & right) / len(left | right)


def sentences(count: int, words: int = 30) -> list[str]:
    drawn = np.random.default_rng(0).integers(0, 5000, (count, words))
    return [" ".join(f"w{number}" for number in row) for row in drawn]


@given(st.lists(st.integers(0, 5), min_size=1))
def test_the_first_row_stands_for_all_that_say_the_same(digests: list[int]) -> None:
    assert duplicates.exact_groups(np.array(digests, dtype=np.uint64)).tolist() == [
        digests.index(one) for one in digests
    ]


def test_no_rows_are_no_groups() -> None:
    assert len(duplicates.exact_groups(np.array([], dtype=np.uint64))) == 0
    assert len(duplicates.near_groups(np.zeros((0, duplicates.PERMUTATIONS), dtype=np.uint32), 0.8)) == 0


@given(st.text(st.characters(codec="utf-8"), max_size=3000))
def test_a_signature_is_the_one_that_datasketch_makes_of_the_same_hashes(text: str) -> None:
    theirs = MinHash(duplicates.PERMUTATIONS, hashfunc=lambda number: number, scheme="affine32")
    theirs.update_batch(duplicates.shingles(text).tolist())
    ours = duplicates.signature_of(text)
    assert ours.dtype == np.uint32 and np.array_equal(ours, theirs.hashvalues)


def test_shingles_are_five_characters_without_case_and_white_space() -> None:
    assert duplicates.shingles("Hello  World\n").tolist() == duplicates.shingles("hello world").tolist()
    assert len(set(duplicates.shingles("hello world").tolist())) == len("hello world") - 4
    assert len(duplicates.shingles("hey")) == 1 and len(duplicates.shingles(" ")) == 0
    assert duplicates.shingles("hello").tolist() == duplicates.shingles("say hello").tolist()[-1:]


def test_equal_signatures_estimate_the_similarity_of_texts() -> None:
    texts = sentences(40)
    for share in (0.3, 0.6, 0.9):
        errors = []
        for one, other in zip(texts[:20], texts[20:], strict=True):
            changed = " ".join(one.split()[: int(30 * share)] + other.split()[int(30 * share) :])
            left, right = signatures([one, changed])
            errors.append(np.mean(left == right) - jaccard(one, changed))
        assert abs(np.mean(errors)) < 0.03 and np.std(errors) < 0.06


def test_nearly_equal_rows_are_one_group_under_the_first() -> None:
    texts = sentences(200)
    texts[150] = texts[20] + " more"
    texts[180] = texts[20].upper()
    texts[199] = texts[3].replace("w", "v", 1)
    groups = duplicates.near_groups(signatures(texts), 0.8)
    assert {row: int(groups[row]) for row in np.flatnonzero(groups != np.arange(200))} == {150: 20, 180: 20, 199: 3}


def test_a_chain_of_alike_rows_is_one_group() -> None:
    words = sentences(1, 60)[0].split()
    texts = [" ".join(words[start : start + 40]) for start in range(0, 20, 2)]
    assert jaccard(texts[0], texts[-1]) < 0.5 < 0.8 < jaccard(texts[0], texts[1])
    assert duplicates.near_groups(signatures(texts), 0.75).tolist() == [0] * len(texts)


def test_only_equal_signatures_are_alike_at_similarity_one() -> None:
    texts = [*sentences(3), *sentences(2)]
    texts[4] += " with an end that tells it"
    assert duplicates.near_groups(signatures(texts), 1.0).tolist() == [0, 1, 2, 0, 4]


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9, 0.97])
def test_bands_miss_few_of_the_pairs_that_are_alike(similarity: float) -> None:
    # The hardest pairs: those whose signatures agree in just as many places as they have to.
    random = np.random.default_rng(1)
    one = random.integers(0, 1 << 32, (500, duplicates.PERMUTATIONS), dtype=np.uint32)
    other = random.integers(0, 1 << 32, one.shape, dtype=np.uint32)
    agree = int(np.ceil(similarity * duplicates.PERMUTATIONS))
    for row in range(len(one)):
        places = random.permutation(duplicates.PERMUTATIONS)[:agree]
        other[row, places] = one[row, places]
    found = duplicates.near_groups(np.concatenate([one, other]), similarity)[500:] == np.arange(500)
    assert found.mean() > 0.93
    assert np.array_equal(duplicates.nearest(other, one, similarity)[0] == np.arange(500), found)


def test_rows_of_one_template_are_told_apart() -> None:
    # All rows share a long text, so that they stand in the same large buckets.
    template = "answer the question of the user with one word, and say nothing besides: "
    texts = [template + text for text in sentences(300, 10)]
    texts[250] = texts[7] + "!"
    assert jaccard(texts[0], texts[1]) > 0.3
    groups = duplicates.near_groups(signatures(texts), 0.8)
    assert np.flatnonzero(groups != np.arange(300)).tolist() == [250] and groups[250] == 7


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_change_the_groups(texts: list[str], random: "object") -> None:
    order = list(range(len(texts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    groups = duplicates.near_groups(signatures(texts), 0.6)
    moved = duplicates.near_groups(signatures([texts[row] for row in order]), 0.6)

    def sets(numbers: duplicates.Rows, rows: list[int]) -> set[frozenset[int]]:
        return {frozenset(rows[place] for place in np.flatnonzero(numbers == one)) for one in np.unique(numbers)}

    assert sets(groups, list(range(len(texts)))) == sets(moved, order)
    assert np.all(groups <= np.arange(len(texts))) and np.array_equal(groups[groups], groups)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=30))
def test_rows_in_different_groups_are_not_alike_but_for_what_bands_miss(texts: list[str]) -> None:
    made = signatures(texts)
    groups = duplicates.near_groups(made, 0.8)
    equal = np.mean(made[:, None] == made[None], axis=2)
    assert np.all(groups[:, None] == groups[None], where=equal >= 0.95)
    alone = np.bincount(groups, minlength=len(texts))[groups] == 1
    others = ~np.eye(len(texts), dtype=bool)
    assert np.all(np.max(equal, axis=1, where=others, initial=0)[~alone] >= 0.8)


def test_the_nearest_row_is_the_most_alike_and_the_first_of_those() -> None:
    texts = sentences(50)
    close, closer = texts[3].replace("w", "v", 3), texts[3].replace("w", "v", 1)
    rows, similarity = duplicates.nearest(signatures([texts[3], "else"]), signatures([close, closer, closer]), 0.7)
    assert rows.tolist() == [1, -1]
    assert similarity[0] == pytest.approx(jaccard(texts[3], closer), abs=0.15) and similarity[0] >= 0.7


def test_a_row_says_all_its_texts() -> None:
    one = Example("a.jsonl", 1, pieces=(Piece("what is two", False), Piece("and two?", True)))
    assert np.array_equal(duplicates.signature(one), duplicates.signature_of("what is two and two?"))


def test_system_prompts_and_tools_make_no_rows_alike() -> None:
    system = {"role": "system", "content": "answer in one word " * 40}
    tools = ({"type": "function", "function": {"name": "search", "description": "finds what is asked for"}},)
    questions = [{"role": "user", "content": text} for text in sentences(2)]
    plain = [Example("a.jsonl", 1, messages=(question,)) for question in questions]
    dressed = [Example("a.jsonl", 1, messages=(system, question), tools=tools) for question in questions]
    for one, other in zip(plain, dressed, strict=True):
        assert np.array_equal(duplicates.signature(one), duplicates.signature(other))


def test_rows_with_other_images_are_not_alike_whatever_they_say() -> None:
    text = sentences(1)[0]
    one, again, other = (
        Example("a.jsonl", 1, pieces=(Piece(text, True),), images=(Image("a.png", content),))
        for content in (b"one", b"one", b"other")
    )
    groups = duplicates.near_groups(np.stack([duplicates.signature(row) for row in (one, again, other)]), 0.3)
    assert groups.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("clean", "wanted"),
    [({}, False), ({"duplicates": "exact"}, False), ({"duplicates": "near"}, True), ({"label_noise": "label"}, False)],
)
def test_signatures_are_made_where_somebody_asks(clean: dict[str, str], wanted: bool) -> None:
    assert duplicates.wants_signatures(a_recipe.recipe(data={"clean": clean}).data) is wanted
