import os
import time
from typing import Any

import pytest
from distributed.pair import Pair

from trainer import ranks
from trainer.data import rank_zero
from trainer.data.rank_zero import on_rank_zero
from trainer.errors import DataError, Problem


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
