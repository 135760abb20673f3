"""What the plan needs to know of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Manifest:
    """Counts of the prepared rows; token counts are None until the rows are tokenised."""

    train_rows: int | None
    """Training rows; None where they are a stream."""
    validation_rows: int
    train_tokens: int | None = None
    """Tokens of all training rows."""
    train_targets: int | None = None
    """Learned tokens of all training rows."""
    longest: int | None = None
    """Tokens of the longest training row."""
    test_rows: int = 0
    cut: int = 0
    """Rows that `data.max_length` shortened, of all splits."""
    divided: int = 0
    """Rows that `data.max_length` made several of."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""
    epoch_rows: int | None = None
    """Rows of an epoch where sources have weights, rounded; None: each training row once."""
    epoch_steps: tuple[int, ...] | None = None
    """Optimizer steps of each epoch that the run needs; None until the rows are shared out."""

    def losses(self) -> str:
        """What became of rows on the way, as the end of a sentence; empty where each came through whole."""
        parts = [f"{self.test_rows:,} for the test"] if self.test_rows else []
        parts += [f"{self.cut:,} cut"] if self.cut else []
        parts += [f"{self.divided:,} divided"] if self.divided else []
        parts += [f"{count:,} left out ({reason})" for reason, count in self.left_out.items()]
        return f"; {', '.join(parts)}" if parts else ""

    def to_json(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        return asdict(self)


def epoch_rows(weights: Sequence[float], rows: Sequence[float]) -> int | None:
    """Rows of an epoch, from the weights of the training sources and their rows; None where each is seen once."""
    if all(weight == 1 for weight in weights):
        return None
    # What a run has labelled stands after the rows of these sources, and is seen once.
    return round(sum(rows) + sum((weight - 1) * count for weight, count in zip(weights, rows, strict=False)))
