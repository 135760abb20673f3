"""Random numbers that depend on the example alone, and not on the rank or the micro-batch that it stands in."""

import numpy as np

_SPLITS = {"train": 0, "validation": 1, "test": 2}


def generator_of(seed: int, split: str, epoch: int, row: int) -> np.random.Generator:
    """The random numbers of one example in one epoch; those of held-out rows are the same in each."""
    return np.random.default_rng((seed, _SPLITS[split], epoch if split == "train" else 0, row))
