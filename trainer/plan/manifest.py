"""What the plan needs to know of the data."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Manifest:
    """Counts of the prepared rows; token counts are None until the rows are tokenised."""

    train_rows: int
    validation_rows: int
    train_tokens: int | None = None
    """Tokens of all training rows."""
    train_targets: int | None = None
    """Learned tokens of all training rows."""
    longest: int | None = None
    """Tokens of the longest training row."""
    cut: int = 0
    """Rows that `data.max_length` shortened."""
    dropped: int = 0
    """Rows left out."""

    def to_json(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        return asdict(self)
