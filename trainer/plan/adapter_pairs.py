"""Which adapters ran with which engines on which bases: what `benchmarks/adapters.py` found, told by `why-not`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("adapter_pairs.json")


@dataclass(frozen=True)
class Pair:
    """One run."""

    adapter: str
    """As `why-not` is asked: the kind, and keys behind it."""
    engine: str
    """torch, torch processes=2, or zero=1 to 3 on two processes."""
    stored: str
    """The value of model.quantization."""
    works: bool
    told: str
    """How far another program's outputs were from the run's, or why there was no run."""

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return asdict(self)


def pairs() -> list[Pair]:
    """All that ran."""
    if not FILE.is_file():
        return []
    return [Pair(**one) for one in json.loads(FILE.read_text(encoding="utf-8"))["pairs"]]


def versions() -> dict[str, str]:
    """Of the packages that they ran with."""
    found: dict[str, str] = json.loads(FILE.read_text(encoding="utf-8"))["versions"]
    return found
