"""A comparison of two results on a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.bench.compare import TEST, Comparison, Difference
from trainer.bench.numbers import rounded, size

_STYLES = {"better": "green", "mended": "green", "worse": "yellow", "regression": "bold red", "broken": "bold red"}


def show(comparison: Comparison, console: Console) -> None:
    """Prints a line for each measure of each row, and the verdict."""
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(("row", "measure", "before", "after", "change", "p", "verdict")):
        table.add_column(name, justify="right" if 2 <= index <= 5 else "left", overflow="fold")
    for one in comparison.differences:
        style = _STYLES.get(one.verdict, "")
        p = "" if one.p is None else "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
        change = "" if one.change is None else f"{one.change:+.1%}"
        cells = (one.row, one.measure, _value(one, one.before), _value(one, one.after), change, p, one.verdict)
        table.add_row(*(Text(cell, style) for cell in cells))
    console.print(table)
    for warning in comparison.warnings:
        console.print(Text(f"Mind: {warning}.", "yellow"), soft_wrap=True)
    if any(one.verdict == "unknown" for one in comparison.differences):
        console.print("unknown: one round tells nothing of the noise; measure with rounds=3.", soft_wrap=True)
    console.print(f"{TEST}; a regression is worse by more than {comparison.threshold:.0%}.", soft_wrap=True)


def _value(one: Difference, value: float | None) -> str:
    if value is None:
        return ""
    return size(value) if "memory" in one.measure else rounded(value)
