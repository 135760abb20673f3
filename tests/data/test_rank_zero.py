import os
import time
from pathlib import Path
from typing import Any

import pytest
from distributed.pair import Pair

from trainer import ranks
from trainer.data import rank_zero
from trainer.data.rank_zero import on_rank_zero, once_a_node
from trainer.errors import DataError, Problem, ShardtuneError


def wait_for(seconds: float) -> tuple[Any, float, list[object]]:
    """What a rank gets of work that takes so long, how long it waited, and what it was told."""
    told: list[object] = []
    broadcast, between = ranks.broadcast, rank_zero.SECONDS

    def noted(value: Any) -> Any:
        told.append(broadcast(value))
        return told[-1]

    ranks.broadcast, rank_zero.SECONDS = noted, 0.05
    began = time.monotonic()
    try:
        result = on_rank_zero(lambda: time.sleep(seconds) or os.getpid())
    finally:
        ranks.broadcast, rank_zero.SECONDS = broadcast, between
    return result, time.monotonic() - began, told


def test_the_others_hear_of_work_that_takes_long(pair: Pair) -> None:
    (result, _, told), (nothing, waited, heard) = pair.run(wait_for, 0.4)

    assert isinstance(result, int) and nothing is None and waited >= 0.2
    assert told == heard and told[-1] is None
    assert 2 <= told.count("at work") == len(told) - 1


def test_a_rank_alone_just_works() -> None:
    assert on_rank_zero(lambda: 5) == 5

    def fail() -> None:
        raise DataError([Problem("a.jsonl:1", "is wrong")])

    with pytest.raises(DataError, match="is wrong"):
        on_rank_zero(fail)


def _as_nodes_of_one(folders: list[str], shared: bool, seconds: float, fails: bool) -> tuple[int | None, str]:
    """Runs on both ranks of a pair, each as the only one of a node of its own."""
    kept = ranks.local_rank, ranks.local_world_size, rank_zero.SECONDS, rank_zero._SEEN_SECONDS
    ranks.local_rank, ranks.local_world_size = (lambda: 0), (lambda: 1)
    rank_zero.SECONDS, rank_zero._SEEN_SECONDS = 0.05, 0.3
    folder = Path(folders[ranks.rank()])

    def work() -> int:
        time.sleep(seconds)
        if fails and ranks.rank():
            raise DataError([Problem("rows:1", "not here")])
        return os.getpid()

    try:
        return once_a_node(work, folder if shared else None), ""
    except ShardtuneError as error:
        return None, str(error)
    finally:
        ranks.local_rank, ranks.local_world_size, rank_zero.SECONDS, rank_zero._SEEN_SECONDS = kept


def test_a_node_that_shares_the_folder_rests(pair: Pair, tmp_path: Path) -> None:
    (first, _), (second, _) = pair.run(_as_nodes_of_one, [str(tmp_path)] * 2, True, 0.0, False)

    assert first is not None and second is None


@pytest.mark.parametrize("shared", [True, False])
def test_a_node_without_the_folder_works_too_however_long(shared: bool, pair: Pair, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for folder in folders:
        Path(folder).mkdir()

    (first, _), (second, _) = pair.run(_as_nodes_of_one, folders, shared, 0.4, False)

    assert first is not None and second is not None and first != second


def test_what_another_node_finds_ends_all(pair: Pair, tmp_path: Path) -> None:
    found = pair.run(_as_nodes_of_one, [str(tmp_path)] * 2, False, 0.2, True)

    assert found[0] == (None, "another node could not do what each node does at the start; it says why")
    assert found[1] == (None, "rows:1: not here")
