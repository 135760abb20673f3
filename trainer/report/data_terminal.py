"""The report on the data on a terminal."""

import re
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trainer.report.data_facts import Bin, LabelFacts
from trainer.report.data_report import Report
from trainer.report.data_rows import ShownRow

BAR = 40
"""Characters of the longest bar."""
SHOWN_TOKENS = 300
"""Tokens of a row that are shown."""
SHOWN_LABELS = 12
SHOWN_DOUBTS = 5
"""Rows with a doubtful label that are shown."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LEARNED, _SPECIAL = "green", "dim"


def show(report: Report, console: Console) -> None:
    """Prints all of it; where there are no colours, what is learned stands between « and »."""
    console.print(_splits(report))
    console.print(_sources(report))
    console.print(f"[bold]Tokens of the training rows[/] (data.max_length: {report.max_length:,}, {report.too_long})")
    for line in _bars(report.lengths):
        console.print(line)
    for labels in report.labels:
        console.print(_labels(labels, list(report.splits)))
    for sentence in report.sentences():
        _say(console, sentence)
    for doubt in report.review[:SHOWN_DOUBTS]:
        _say(console, f"  {doubt['source']}:{doubt['line']}: {doubt['why']}")
    for row in report.rows:
        console.print(f"\n[bold]{escape(row.where)}[/]  {row.tokens:,} tokens, {escape(_safe(row.lesson()))}")
        console.print(_row(row, marked=console.color_system is None or console.no_color), soft_wrap=True)


def _say(console: Console, sentence: str) -> None:
    console.print(Text(_safe(sentence)), soft_wrap=True)


def _table(title: str, splits: Iterable[str]) -> Table:
    """A table with a column for each split."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(overflow="fold")
    for name in splits:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _splits(report: Report) -> Table:
    """Facts down, splits across, so that it fits a narrow terminal."""
    table = _table("Splits", report.splits)
    splits = list(report.splits.values())
    table.add_row("rows", *(f"{split.rows:,}" for split in splits))
    table.add_row("tokens", *(f"{split.tokens:,}" for split in splits))
    table.add_row("learned", *(f"{split.learned_share:.1%}" for split in splits))
    table.add_row("shortest row", *(f"{split.shortest:,}" for split in splits))
    table.add_row("median row", *(f"{split.median:,}" for split in splits))
    table.add_row("95 % are up to", *(f"{split.p95:,}" for split in splits))
    table.add_row("longest row", *(f"{split.longest:,}" for split in splits))
    table.add_row("rows cut", *(f"{split.cut:,}" for split in splits))
    table.add_row("tokens cut off", *(f"{split.cut_tokens:,}" for split in splits))
    return table


def _sources(report: Report) -> Table:
    table = _table("Rows by source", report.splits)
    for name, by_split in report.sources.items():
        table.add_row(escape(name), *(f"{by_split.get(split, 0):,}" for split in report.splits))
    return table


def _labels(labels: LabelFacts, splits: list[str]) -> Table:
    table = _table(f"Rows by {escape(labels.column)}", splits)
    for name in list(labels.labels)[:SHOWN_LABELS]:
        by_split = labels.labels[name]
        table.add_row(escape(_safe(name)), *(f"{by_split.get(split, 0):,}" for split in splits))
    more = labels.more + max(0, len(labels.labels) - SHOWN_LABELS)
    if more:
        table.caption = f"and {more:,} more"
    return table


def _bars(bins: Iterable[Bin]) -> Iterable[Text]:
    """A bar for each bin; the part of it that is too long stands out."""
    bins = list(bins)
    most, width = max(one.rows for one in bins), len(f"{bins[-1].last:,}")
    for one in bins:
        long = round(BAR * one.rows / most) or (1 if one.rows else 0)
        over = min(long, -(-long * one.over // one.rows)) if one.rows else 0
        text = Text(f"  {one.first:>{width},} - {one.last:>{width},} ")
        text.append("█" * (long - over)).append("░" * over, style="red")
        text.append(f" {one.rows:,}" + (f", {one.over:,} too long" if one.over else ""))
        yield text


def _row(row: ShownRow, *, marked: bool) -> Text:
    """The tokens, what is learned in a colour of its own."""
    text, inside = Text(), False
    for piece in row.pieces[:SHOWN_TOKENS]:
        if marked and piece.learned != inside:
            text.append("«" if piece.learned else "»")
            inside = piece.learned
        styles = [_LEARNED if piece.learned else "", _SPECIAL if piece.special else ""]
        text.append(_safe(piece.text), style=" ".join(filter(None, styles)))
    if inside:
        text.append("»")
    left = len(row.pieces) - SHOWN_TOKENS
    if left > 0:
        text.append(f" … {left:,} more", style="italic")
    return text


def _safe(text: str) -> str:
    """Text that does nothing to a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
