"""Numbers as tables and pages show them."""

from collections.abc import Mapping
from typing import Any


def rounded(value: float) -> str:
    """Three digits at least: 12,345 and 1.23 and 0.00123."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def spread(over: Mapping[str, Any]) -> str:
    """A mean and half of its interval: `1.23 ± 0.04`; the mean alone where there is no interval."""
    if over["low"] is None:
        return rounded(over["mean"])
    return f"{rounded(over['mean'])} ± {rounded((over['high'] - over['low']) / 2)}"


def relative(over: Mapping[str, Any]) -> str:
    """The same with half of the interval as a share of the mean: `1,234 ±3%`."""
    if over["low"] is None:
        return rounded(over["mean"])
    half = (over["high"] - over["low"]) / 2 / over["mean"]
    return f"{rounded(over['mean'])} ±{half:.0%}" if half >= 0.01 else f"{rounded(over['mean'])} ±{half:.1%}"


def size(value: float) -> str:
    """Bytes with a unit."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if abs(value) >= factor:
            return f"{value / factor:,.1f} {unit}" if value < 100 * factor else f"{value / factor:,.0f} {unit}"
    return f"{value / 2**10:,.0f} KiB"


def share(value: float) -> str:
    """As a percentage."""
    return f"{value:.1%}"
