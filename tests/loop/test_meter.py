import time

import numpy as np
import torch

from trainer.data.batches import Batch, batch_of
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.loop.meter import Meter, Sizes, sizes_of
from trainer.loop.state import State


def _batch(*lengths: int, packing: bool) -> Batch:
    rows = [Encoded(np.zeros(length, dtype=np.int32), np.ones(length, dtype=np.bool_)) for length in lengths]
    return batch_of(rows, Layout(global_=8, micro=2, packing=packing, micro_tokens=64, pad=0))


def test_padding_counts_as_positions_and_not_as_tokens() -> None:
    padded, packed = _batch(5, 2, packing=False), _batch(5, 2, packing=True)

    assert sizes_of([padded]) == {" tokens": 7, " positions": 10, " squares": 29}
    assert sizes_of([packed, packed]) == {" tokens": 14, " positions": 14, " squares": 58}


def test_the_sizes_leave_the_counts_of_the_terms() -> None:
    counts = {"loss": 3.0, **sizes_of([_batch(5, 2, packing=True)])}

    assert Sizes.taken(counts) == Sizes(tokens=7, positions=7, squares=29, targets=3)
    assert counts == {"loss": 3.0}


def test_what_happens_in_a_pause_is_left_out() -> None:
    meter = Meter(torch.device("cpu"))
    meter.start()
    meter.add(torch.zeros(()), Sizes(tokens=100, positions=120, squares=5000, targets=50), seconds=0.1)
    with meter.pause():
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
    metrics = meter.report(State(step=1), lr=0.1, grad_norm=None)

    assert (metrics.tokens, metrics.positions, metrics.squares, metrics.targets) == (100, 120, 5000, 50)
    assert 0 <= metrics.processor_seconds < 0.2
    assert metrics.tokens_per_second > 100 / 0.2
