import itertools
import time
from typing import Any

import a_recipe
import numpy as np
import pytest
from data.made_facts import facts
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.data import HeldOut
from trainer.data import splitting
from trainer.data.facts import Facts
from trainer.data.labels import labels_of, unseen_labels
from trainer.data.shares import fill, shared_out
from trainer.data.splitting import TEST, TRAIN, VALIDATION, Sides
from trainer.errors import DataError, RecipeError

FRACTIONS = st.floats(0.01, 0.9)


def split(
    rows: Facts, seed: int = 0, test: dict[str, Any] | None = None, groups: Any = None, **validation: Any
) -> Sides:
    held = HeldOut(**validation)
    return splitting.split(rows, held, HeldOut(**test) if test else None, seed, groups)


def held(assigned: Sides, side: int = VALIDATION) -> list[int]:
    return np.flatnonzero(assigned == side).tolist()


def random(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 1 << 64, count, dtype=np.uint64).tolist()


def deviations(rows: Facts, column: str, assigned: Sides, fraction: float, side: int = VALIDATION) -> Any:
    """Rows of each label on a side above its share of them."""
    labels = labels_of(rows.columns[column])
    return (
        np.bincount(labels.label[assigned[labels.row] == side], minlength=len(labels.names))
        - labels.counts() * fraction
    )


@pytest.mark.parametrize(("count", "fraction", "size"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.25, 2), (100, 0.05, 5)])
def test_at_least_one_row_is_held_out_and_one_stays(count: int, fraction: float, size: int) -> None:
    assert splitting.held_out_size(count, fraction) == size
    assert len(held(split(facts(random(count)), fraction=fraction))) == size


@given(
    digests=st.lists(st.integers(0, 30), min_size=2, max_size=200).filter(lambda digests: len(set(digests)) > 1),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 5),
)
def test_of_many_rows_the_first_are_enough(digests: list[int], fraction: float, seed: int) -> None:
    def outcome() -> list[int] | str:
        try:
            return split(facts(digests), seed=seed, test={"fraction": fraction / 2}, fraction=fraction).tolist()
        except DataError as error:
            return str(error)

    whole = outcome()
    with pytest.MonkeyPatch.context() as patch:
        # Else so few rows are looked at all.
        patch.setattr(splitting, "_SPARE", 0)
        patch.setattr(splitting, "_BLOCK", 7)
        assert outcome() == whole


def test_too_few_rows_are_refused_with_the_key() -> None:
    with pytest.raises(
        DataError, match=r"data\.validation: one row cannot be shared out between training and validation"
    ):
        split(facts([1]))
    with pytest.raises(DataError, match=r"data\.test: one row cannot be shared out between training and test"):
        splitting.sizes(1, None, HeldOut())
    with pytest.raises(DataError, match=r"data\.validation: one row cannot"):
        splitting.sizes(2, HeldOut(), HeldOut())


@given(st.integers(3, 5000), FRACTIONS, FRACTIONS)
def test_sizes_are_shares_of_all_rows_and_one_row_trains(count: int, one: float, other: float) -> None:
    validation, test = splitting.sizes(count, HeldOut(fraction=one), HeldOut(fraction=other / 2))
    assert validation >= 1 and test >= 1 and validation + test < count
    assert test == max(1, round(count * other / 2))
    assert validation == min(max(1, round(count * one)), count - test - 1)


@given(st.sets(st.integers(0, 2**64 - 1), min_size=3, max_size=200), FRACTIONS, st.integers(0, 2**63 - 1))
def test_the_same_seed_holds_out_the_same_rows_in_any_order(digests: set[int], fraction: float, seed: int) -> None:
    rows = sorted(digests)
    there = split(facts(rows), seed, fraction=fraction, test={"fraction": 0.05})
    back = split(facts(rows[::-1]), seed, fraction=fraction, test={"fraction": 0.05})
    assert there.dtype == np.int8 and there.tolist() == back.tolist()[::-1]
    assert (len(held(there)), len(held(there, TEST))) == splitting.sizes(
        len(rows), HeldOut(fraction=fraction), HeldOut(fraction=0.05)
    )


def test_another_seed_holds_out_other_rows() -> None:
    rows = facts(random(1000))
    one, other = held(split(rows, 0, fraction=0.1)), held(split(rows, 1, fraction=0.1))
    assert len(set(one) & set(other)) < 30


def test_validation_does_not_change_which_rows_are_test_rows() -> None:
    rows, test = facts(random(500)), HeldOut(fraction=0.1)
    alone = splitting.split(rows, None, test, 0)
    assert held(alone, TEST) == held(splitting.split(rows, HeldOut(fraction=0.3), test, 0), TEST)
    assert held(alone) == []


def test_rows_that_say_the_same_stand_on_one_side() -> None:
    digests = random(60) * 3
    assigned = split(facts(digests), fraction=0.2)
    assert assigned.tolist() == assigned[:60].tolist() * 3
    assert len(held(assigned)) == 36


def test_near_duplicates_stand_on_one_side() -> None:
    groups = np.arange(100)
    groups[50:] = np.arange(50)
    for options in ({}, {"stratify": "label"}, {"time": "line"}):
        rows = facts(random(100), label=["a", "b"] * 50, line=list(range(100)))
        assigned = split(rows, fraction=0.2, groups=groups, **options)
        assert np.array_equal(assigned[50:], assigned[:50]) and len(held(assigned)) == 20


@given(
    st.lists(st.sampled_from("abcd"), min_size=4, max_size=300), st.floats(0.02, 0.6), st.integers(0, 9), st.booleans()
)
def test_each_label_has_its_share_within_one_row(
    labels: list[str], fraction: float, seed: int, with_test: bool
) -> None:
    rows = facts(random(len(labels)), label=labels)
    counts = labels_of(rows.columns["label"]).counts()
    if np.any(counts * fraction > counts - 2) or len(labels) < 8:
        return
    test = {"fraction": 0.2, "stratify": "label"} if with_test and fraction < 0.4 and counts.min() > 5 else None
    assigned = split(rows, seed, test=test, fraction=fraction, stratify="label")
    for side, share in ((VALIDATION, fraction), (TEST, 0.2))[: 1 + (test is not None)]:
        size = len(held(assigned, side))
        assert size == max(1, round(len(labels) * share))
        assert np.all(np.abs(deviations(rows, "label", assigned, size / len(labels), side)) < 1)


def test_a_label_keeps_a_training_row_and_a_single_row_trains() -> None:
    rows = facts(random(44), label=["a"] * 40 + ["b", "b", "c", "d"])
    assigned = split(rows, fraction=0.5, stratify="label")
    trains = {rows.columns["label"].values[code] for code in rows.columns["label"].codes[assigned == TRAIN]}
    assert trains == {"a", "b", "c", "d"} and len(held(assigned)) == 22
    data = a_recipe.recipe(data={"validation": {"fraction": 0.5, "stratify": "label"}}).data
    assert splitting.findings(rows, data, assigned) == [
        'data.validation.stratify: 2 of its labels stand in a single row, which trains: "c", "d"'
    ]


def test_labels_that_all_stand_alone_cannot_be_held_out() -> None:
    rows = facts(random(9), label=list(range(9)))
    with pytest.raises(RecipeError, match=r"data\.validation\.stratify: no value of label stands in two rows"):
        split(rows, stratify="label")


def test_lists_of_labels_have_their_shares() -> None:
    drawn = np.random.default_rng(1)
    for count, share in ((300, 0.1), (3000, 0.05)):
        chance = 1 / np.arange(2, 22)
        labels = [[int(one) for one in np.flatnonzero(drawn.random(20) < chance)] for _ in range(count)]
        rows = facts(random(count), labels=labels)
        assigned = split(rows, fraction=share, stratify="labels")
        assert abs(len(held(assigned)) - count * share) <= 1
        assert np.all(np.abs(deviations(rows, "labels", assigned, share)) < 1)
        plain = split(rows, fraction=share)
        assert np.max(np.abs(deviations(rows, "labels", plain, share))) > 2


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=3), min_size=6, max_size=60), st.integers(0, 5))
def test_every_listed_label_keeps_a_training_row(labels: list[list[str]], seed: int) -> None:
    rows = facts(random(len(labels)), labels=labels)
    if not any(labels):
        return
    try:
        assigned = split(rows, seed, fraction=0.4, stratify="labels")
    except RecipeError:
        return
    trained = {label for row, of_row in enumerate(labels) if assigned[row] == TRAIN for label in of_row}
    assert trained == {label for of_row in labels for label in of_row} and held(assigned)


def test_stratified_rows_do_not_depend_on_their_order() -> None:
    labels = np.random.default_rng(2).choice(["a", "b", "c"], 200).tolist()
    lists = [[one, "x"] if number % 3 else [one] for number, one in enumerate(labels)]
    for values in (labels, lists):
        digests = random(200)
        there = split(facts(digests, label=values), fraction=0.15, stratify="label")
        back = split(facts(digests[::-1], label=values[::-1]), fraction=0.15, stratify="label")
        assert there.tolist() == back.tolist()[::-1]


@given(st.lists(st.integers(0, 8), min_size=5, max_size=40), st.floats(0.05, 0.5), st.integers(0, 3))
def test_a_group_never_straddles_and_no_choice_of_groups_is_nearer(
    groups: list[int], fraction: float, seed: int
) -> None:
    if len(set(groups)) == 1:
        return
    rows = facts(random(len(groups)), group=groups)
    assigned = split(rows, seed, fraction=fraction, group="group")
    assert not {groups[row] for row in held(assigned)} & {groups[row] for row in held(assigned, TRAIN)}
    sizes = [groups.count(one) for one in set(groups)]
    sums = {sum(some) for count in range(1, len(sizes)) for some in itertools.combinations(sizes, count)}
    wanted = splitting.held_out_size(len(groups), fraction)
    assert abs(len(held(assigned)) - wanted) == min(abs(one - wanted) for one in sums)


def test_a_row_without_a_group_is_a_group_of_its_own() -> None:
    rows = facts(random(20), group=["a"] * 10 + [None] * 10)
    assigned = split(rows, fraction=0.3, group="group")
    assert len(held(assigned)) == 6 and len(set(assigned[:10].tolist())) == 1


def test_groups_and_labels_together() -> None:
    drawn = np.random.default_rng(3)
    groups = drawn.integers(0, 200, 1000).tolist()
    labels = drawn.choice(["a", "b", "c", "d"], 1000, p=[0.5, 0.3, 0.15, 0.05]).tolist()
    rows = facts(random(1000), group=groups, label=labels)
    assigned = split(rows, fraction=0.1, group="group", stratify="label", test={"fraction": 0.1, "group": "group"})
    sides = {group: {int(assigned[row]) for row in range(1000) if groups[row] == group} for group in set(groups)}
    assert all(len(one) == 1 for one in sides.values())
    assert len(held(assigned)) == 100 and np.all(np.abs(deviations(rows, "label", assigned, 0.1)) <= 1)


def test_one_group_alone_cannot_be_shared_out() -> None:
    with pytest.raises(RecipeError, match=r"data\.validation\.group: all rows belong together by user"):
        split(facts(random(5), user=["me"] * 5), group="user")
    with pytest.raises(DataError, match=r"data\.validation: all rows say the same"):
        split(facts([7] * 5))


def test_whole_groups_that_miss_the_fraction_are_told() -> None:
    rows = facts(random(30), user=["a"] * 10 + ["b"] * 20)
    data = a_recipe.recipe(data={"validation": {"group": "user"}}).data
    assigned = split(rows, group="user")
    assert splitting.findings(rows, data, assigned) == [
        "data.validation: 10 rows are held out, where its fraction asks for 2; what belongs together stays together"
    ]
    assert splitting.findings(rows, a_recipe.recipe(data={"validation": None}).data, np.zeros(30, dtype=np.int8)) == []


@pytest.mark.parametrize(
    "times",
    [
        [3, 1.5, 2, 10, -1, 0, 5, 4, 7, 6],
        ["3", "1.5", "2", "10", "-1", "0", "5", "4", "7", "6"],
        [f"2024-0{month}-01" for month in (4, 2, 3)]
        + ["2024-12-01T10:00:00Z", "2019-01-01", "20240101"]
        + ["2024-06-01", "2024-05-01 12:30", "2024-08-01T00:00:00+02:00", "2024-07-01"],
    ],
)
def test_the_latest_rows_are_held_out_and_the_test_rows_are_the_very_last(times: list[Any]) -> None:
    rows = facts(random(10), date=times)
    assigned = split(rows, fraction=0.2, time="date", test={"fraction": 0.1, "time": "date"})
    assert held(assigned, TEST) == [3] and held(assigned) == [8, 9]


def test_a_group_is_as_late_as_its_last_row() -> None:
    rows = facts(random(6), date=[1, 2, 3, 4, 5, 9], user=["a", "b", "c", "d", "e", "a"])
    assert held(split(rows, fraction=0.3, time="date", group="user")) == [0, 5]


def test_values_that_are_no_time_are_told_with_their_rows() -> None:
    rows = facts(random(4), date=["2024-01-01", "soon", None, "2024-02-30"])
    with pytest.raises(DataError) as raised:
        split(rows, time="date")
    assert [problem.where for problem in raised.value.problems] == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]
    assert "date is 'soon', which is no time; data.validation.time takes numbers, or ISO dates" in str(raised.value)


@pytest.mark.parametrize("value", [True, "nan", [1], {}])
def test_such_values_are_no_time_either(value: Any) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: date is .*, which is no time"):
        split(facts(random(3), date=[value, 1, 2]), time="date")


@pytest.mark.parametrize("key", ["stratify", "group", "time"])
def test_a_column_that_no_row_has_is_told_with_its_key(key: str) -> None:
    for columns in ({}, {"kind": [None] * 4}):
        with pytest.raises(RecipeError, match=rf"data\.validation\.{key}: no row has kind; name a column"):
            split(facts(random(4), **columns), **{key: "kind"})


def test_the_columns_that_are_needed_are_named_with_their_keys() -> None:
    validation = {"stratify": "label", "group": "user"}
    data = a_recipe.recipe(data={"validation": validation, "test": {"time": "date"}}).data
    assert splitting.columns(data) == [
        ("data.validation.stratify", "label"),
        ("data.validation.group", "user"),
        ("data.test.time", "date"),
    ]
    assert splitting.columns(a_recipe.recipe(data={"validation": None}).data) == []


def test_labels_that_were_never_trained_are_told_with_a_row() -> None:
    train = facts(random(3), label=["a", "b", "c"]).select(np.array([0, 1]))
    other = facts(random(5), "b.jsonl", label=["a", "c", None, "c", "b"])
    unseen = unseen_labels("label", train, {"validation": other})
    assert [(one.label, one.rows, one.where) for one in unseen] == [('"c"', 2, "b.jsonl:2"), ("null", 1, "b.jsonl:3")]
    assert str(unseen[0]) == 'b.jsonl:2: the label "c" stands in 2 rows of validation and in no training row'
    lists = facts(random(2), label=[["a"], ["a", "d"]])
    assert [one.label for one in unseen_labels("label", train, {"test": lists})] == ['"d"']


@given(st.lists(st.integers(1, 30), min_size=2, max_size=9), st.integers(1, 100))
def test_groups_fill_a_share_as_nearly_as_any_choice(sizes: list[int], wanted: int) -> None:
    wanted = min(wanted, sum(sizes) - 1)
    chosen = fill(np.array(sizes), wanted)
    sums = {sum(some) for count in range(1, len(sizes)) for some in itertools.combinations(sizes, count)}
    assert abs(int(np.array(sizes)[chosen].sum()) - wanted) == min(abs(one - wanted) for one in sums)
    assert 0 < chosen.sum() < len(sizes)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=8), st.integers(0, 60))
def test_shares_are_whole_and_within_one_of_their_weight(parts: list[tuple[int, int]], total: int) -> None:
    weights, most = np.array(parts).T
    shares = shared_out(total, weights, most, np.arange(len(parts)))
    assert shares.sum() == min(total, most.sum()) and np.all((shares >= 0) & (shares <= most))
    if np.all(most >= total):
        assert np.all(np.abs(shares - total * weights / weights.sum()) < 1)


def test_a_hundred_thousand_rows_are_shared_out_in_no_time() -> None:
    drawn = np.random.default_rng(0)
    labels = drawn.choice(30, 100_000, p=np.arange(1, 31) / 465).tolist()
    rows = facts(random(100_000), label=labels, user=drawn.integers(0, 30_000, 100_000).tolist())
    for options in ({}, {"stratify": "label"}, {"group": "user"}):
        began = time.process_time()
        assigned = split(rows, fraction=0.05, **options)
        assert time.process_time() - began < 3 and len(held(assigned)) == 5000
