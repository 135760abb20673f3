"""The report on the data as one HTML page that needs nothing else: its styles and its picture stand in it."""

from pathlib import Path

from trainer.report import html
from trainer.report.data_facts import Bin
from trainer.report.data_report import Report

TEMPLATE = Path(__file__).with_name("data_page.html")
HEIGHT, WIDTH = 160, 720
"""Of the histogram, in pixels."""


def write(report: Report, path: Path) -> None:
    """Writes the page; RunError where that cannot be done."""
    html.write(TEMPLATE, path, report=report, bars=bars(report.lengths), height=HEIGHT, width=WIDTH)


def bars(bins: tuple[Bin, ...]) -> list[dict[str, float | str]]:
    """Where the bar of each bin stands in the histogram, and what it tells."""
    most, step = max(one.rows for one in bins), WIDTH / len(bins)
    return [
        {
            "x": round(number * step + 1, 1),
            "width": round(step - 2, 1),
            "height": round(HEIGHT * one.rows / most, 1),
            "over": round(HEIGHT * one.over / most, 1),
            "title": f"{one.first:,} to {one.last:,} tokens: {one.rows:,} rows, {one.over:,} too long",
        }
        for number, one in enumerate(bins)
    ]
