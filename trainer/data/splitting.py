"""Which rows are held out for validation and test: by the seed and by what rows say, never by where they stand."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trainer.config.data import Data, HeldOut
from trainer.data.duplicates import Rows, exact_groups, joined
from trainer.data.facts import Column, Facts, Numbers
from trainer.data.findings import LOOKED_AT, Findings
from trainer.data.labels import labels_of
from trainer.data.shares import Chosen, fill
from trainer.data.stratified import Labelled, choose
from trainer.errors import DataError, Problem, RecipeError

TRAIN, VALIDATION, TEST = 0, 1, 2
_SPARE = 1000
"""Rows that are looked at besides twice as many as are held out."""
_BLOCK = 1 << 18
"""Rows whose keys are made at a time."""
_SHOWN = 5
"""Labels that a sentence names."""

Sides = np.ndarray[tuple[int], np.dtype[np.int8]]


def held_out_size(rows: int, fraction: float, key: str = "data.validation") -> int:
    """How many of the rows are held out: at least one, and at least one stays; DataError where there is only one."""
    if rows < 2:
        side = key.removeprefix("data.")
        message = f"one row cannot be shared out between training and {side}; add rows, or set it to null"
        raise DataError([Problem(key, message)])
    return min(max(1, round(rows * fraction)), rows - 1)


def sizes(rows: int, validation: HeldOut | None, test: HeldOut | None) -> tuple[int, int]:
    """How many rows are held out for validation and for test; fractions are of all rows, and at least one row stays."""
    for_test = held_out_size(rows, test.fraction, "data.test") if test else 0
    if validation is None:
        return 0, for_test
    most = held_out_size(rows - for_test, 1.0)
    return min(held_out_size(rows, validation.fraction), most), for_test


def columns(data: Data) -> list[tuple[str, str]]:
    """The columns that the split goes by, each with its key."""
    return [
        (f"{key}.{name}", column)
        for key, held in (("data.validation", data.validation), ("data.test", data.test))
        if isinstance(held, HeldOut)
        for name, column in (("stratify", held.stratify), ("group", held.group), ("time", held.time))
        if column is not None
    ]


def split(
    facts: Facts, validation: HeldOut | None, test: HeldOut | None, seed: int, groups: Rows | None = None
) -> Sides:
    """The side of each row, int8 [N]: TRAIN, VALIDATION or TEST; test is taken first, and validation of what is left.

    Rows that say the same stand on one side, or those of one `group`, where that is asked for; and those of one of
    `groups` besides (int64 [N]). RecipeError for a column that no row has or that leaves no choice, DataError for
    values that are no time and for too few rows.
    """
    assigned = np.zeros(len(facts), dtype=np.int8)
    for_validation, for_test = sizes(len(facts), validation, test)
    for side, key, held, size in (
        (TEST, "data.test", test, for_test),
        (VALIDATION, "data.validation", validation, for_validation),
    ):
        if held is None:
            continue
        _check_columns(facts, key, held)
        by_more = groups is not None or any((held.group, held.stratify, held.time))
        chosen_rows = None if by_more else _first_by_key(facts.digest, assigned, size, seed)
        if chosen_rows is None:
            rows = np.flatnonzero(assigned == TRAIN)
            units = _units(facts, key, held, rows, groups, order_keys(facts.digest[rows], seed))
            chosen_rows = rows[_choose(facts, key, held, units, size, seed)[units.of_row]]
        assigned[chosen_rows] = side
    return assigned


def _first_by_key(digests: Numbers, assigned: Sides, size: int, seed: int) -> Numbers | None:
    """The rows that are chosen where nothing counts but what rows say; None where all have to be looked at for that.

    Of millions the first ones by their keys are enough, and take little memory: rows that say the same have the same
    key, and of these groups the first that fit are taken.
    """
    share = (2 * size + _SPARE) / len(digests)
    if share >= 1:
        return None
    rows: list[Numbers] = []
    keys: list[Numbers] = []
    for start in range(0, len(digests), _BLOCK):
        found = order_keys(digests[start : start + _BLOCK], seed)
        first = np.flatnonzero((found < np.uint64(share * 2**64)) & (assigned[start : start + _BLOCK] == TRAIN))
        rows.append(start + first)
        keys.append(found[first])
    _, group, counts = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    chosen = np.zeros(len(counts), dtype=np.bool_)
    for number, count in enumerate(counts.tolist()):
        if count <= size:
            chosen[number] = True
            size -= count
            if size == 0:
                return np.concatenate(rows)[chosen[group]]
    return None


def order_keys(digests: Numbers, seed: int) -> Numbers:
    """A number of each row from the seed and from what it says, uint64 [N] (splitmix64, Steele et al. 2014)."""
    return _mixed(np.asarray(digests, dtype=np.uint64) ^ _mixed(np.array([seed % 2**64], dtype=np.uint64)))


def findings(facts: Facts, data: Data, assigned: Sides) -> list[str]:
    """What a user should know of the split that `split` made."""
    validation, test = (held if isinstance(held, HeldOut) else None for held in (data.validation, data.test))
    for_validation, for_test = sizes(len(facts), validation, test)
    said = []
    for key, held, side, size in (
        ("data.validation", validation, VALIDATION, for_validation),
        ("data.test", test, TEST, for_test),
    ):
        rows = int(np.count_nonzero(assigned == side))
        if held is not None and rows != size:
            asked = f"where its fraction asks for {size:,}; what belongs together stays together"
            said.append(f"{key}: {rows:,} rows are held out, {asked}")
        if held is not None and held.stratify is not None:
            labels = labels_of(facts.columns[held.stratify])
            alone = [labels.names[label] for label in np.flatnonzero(labels.counts() == 1)]
            if alone:
                shown = ", ".join(alone[:_SHOWN]) + (" and others" if len(alone) > _SHOWN else "")
                said.append(
                    f"{key}.stratify: {len(alone):,} of its labels stand in a single row, which trains: {shown}"
                )
    return said


@dataclass(frozen=True)
class _Units:
    """Rows that stay together, as G groups in their order of preference."""

    rows: Numbers
    """The rows that are shared out [n]."""
    of_row: Numbers
    """The group of each of them [n]."""
    sizes: Numbers
    """Rows of each group [G]."""


def _units(facts: Facts, key: str, held: HeldOut, rows: Numbers, groups: Rows | None, keys: Numbers) -> _Units:
    """The groups of some rows, whose keys are given [n]."""
    # Rows of many groups may say the same: joined by those too, all groups could become one.
    partitions = [
        exact_groups(facts.digest[rows]) if held.group is None else _groups_of(facts.columns[held.group], rows)
    ]
    if groups is not None:
        partitions.append(exact_groups(groups[rows]))
    _, number = np.unique(joined(partitions), return_inverse=True)
    count = int(number.max()) + 1
    if count == 1 and held.group is not None:
        message = f"all rows belong together by {held.group}, so none can be held out; leave it out"
        raise RecipeError([Problem(f"{key}.group", message)])
    if count == 1:
        raise DataError([Problem(key, "all rows say the same, so none can be held out; add rows, or set it to null")])
    first = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(first, number, keys)
    place = np.empty(count, dtype=np.int64)
    place[np.argsort(first, kind="stable")] = np.arange(count)
    return _Units(rows, place[number], np.bincount(place[number]))


def _groups_of(column: Column, rows: Numbers) -> Rows:
    """The first row with the same value; a row without a value is a group of its own."""
    codes = column.codes[rows].astype(np.int64)
    empty = np.array([value is None for value in column.values])[codes]
    return exact_groups(np.where(empty, len(column.values) + np.arange(len(rows)), codes))


def _choose(facts: Facts, key: str, held: HeldOut, units: _Units, size: int, seed: int) -> Chosen:
    """Which groups are held out [G]."""
    if held.time is not None:
        return _latest(_times(facts, f"{key}.time", held.time, units.rows), units, size)
    if held.stratify is None:
        return fill(units.sizes, size)
    chosen = choose(_labelled(facts, held.stratify, units, size, seed), size)
    if chosen is None:
        message = f"no value of {held.stratify} stands in two rows that may be parted; leave it out"
        raise RecipeError([Problem(f"{key}.stratify", message)])
    return chosen


def _labelled(facts: Facts, name: str, units: _Units, size: int, seed: int) -> Labelled:
    column = facts.columns[name]
    labels = labels_of(Column(column.codes[units.rows], column.values))
    pairs, rows = np.unique(units.of_row[labels.row] * len(labels.names) + labels.label, return_counts=True)
    ties = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in labels.names]
    return Labelled(
        sizes=units.sizes,
        group=pairs // len(labels.names),
        label=pairs % len(labels.names),
        rows=rows,
        shares=labels_of(column).counts() * size / len(facts),
        ties=np.array([int.from_bytes(tie) for tie in ties], dtype=np.uint64),
    )


def _latest(times: Numbers, units: _Units, size: int) -> Chosen:
    """The groups whose last row is latest; every row that stays is earlier than the last row of each held out."""
    last = np.full(len(units.sizes), -np.inf)
    np.maximum.at(last, units.of_row, times)
    order = np.argsort(-last, kind="stable")
    held = np.cumsum(units.sizes[order])[:-1]
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order[: int(np.argmin(np.abs(held - size))) + 1]] = True
    return chosen


def _times(facts: Facts, key: str, name: str, rows: Numbers) -> Numbers:
    """Each row's time as a number, float64 [n]; DataError names the rows that have none."""
    column = facts.columns[name]
    present = np.unique(column.codes[rows]).tolist()
    numbers = {code: _number(column.values[code]) for code in present}
    if any(number is None for number in numbers.values()):
        numbers = {code: _seconds(column.values[code]) for code in present}
    bad = [code for code, number in numbers.items() if number is None]
    problems = Findings()
    for row in rows[np.isin(column.codes[rows], bad)][:LOOKED_AT]:
        value = column.values[column.codes[row]]
        message = (
            f"{name} is {value!r}, which is no time; {key} takes numbers, or ISO dates such as 2024-05-31, in all rows"
        )
        problems.add(facts.files[facts.file[row]], Problem(facts.where(row), message))
    problems.raise_if_any()
    known = np.zeros(len(column.values))
    known[present] = [number for number in numbers.values() if number is not None]
    times: Numbers = known[column.codes[rows]]
    return times


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else np.nan
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _seconds(value: Any) -> float | None:
    """Seconds since 1970; a time without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _check_columns(facts: Facts, key: str, held: HeldOut) -> None:
    """RecipeError where a column that the split goes by is in no row."""
    problems = [
        Problem(f"{key}.{name}", f"no row has {column}; name a column that the rows have, or leave the key out")
        for name, column in (("stratify", held.stratify), ("group", held.group), ("time", held.time))
        if column is not None and not any(value is not None for value in _values(facts, column))
    ]
    if problems:
        raise RecipeError(problems)


def _values(facts: Facts, name: str) -> Iterator[Any]:
    """The values that rows have in a column; none of one that they do not have."""
    if name in facts.columns:
        column = facts.columns[name]
        yield from (column.values[code] for code in np.unique(column.codes))


def _mixed(numbers: Numbers) -> Numbers:
    mixed: Numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
