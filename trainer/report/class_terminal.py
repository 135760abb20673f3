"""How well each label is told, on a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.tasks.class_table import ClassTable

MOST_CONFUSED = 5
"""Pairs of labels that are told below the table."""


def show(classes: ClassTable, console: Console) -> None:
    """Prints a line for each label, and what was said most often in its place."""
    table = Table(box=None, pad_edge=False)
    table.add_column("label", overflow="fold")
    for name in ("precision", "recall", "F1", "examples"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, precision, recall, f1, support in classes.rows():
        table.add_row(Text(_flat(label)), f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", f"{support:,}")
    console.print(table)
    for label, said, count in classes.confused()[:MOST_CONFUSED]:
        console.print(Text(f"{_flat(label)} was taken for {_flat(said)} {count:,} time{'' if count == 1 else 's'}"))


def _flat(name: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
