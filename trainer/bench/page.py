"""The result of a suite as one HTML page that needs nothing else: its styles and its plots stand in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.bench import plots, table
from trainer.report import html

TEMPLATE = Path(__file__).with_name("page.html")


def write(result: Mapping[str, Any], path: Path) -> None:
    """Writes the page; RunError where that cannot be done."""
    rows = result["rows"]
    grown = [plots.growth(entry, table.MEASURES[entry["measure"]]) for entry in result["growth"]]
    columns, lines = table.lines(result)
    html.write(
        TEMPLATE,
        path,
        result=result,
        facts=table.facts(result),
        columns=columns,
        lines=lines,
        growth_columns=table.GROWTH,
        growth_lines=table.grown(result),
        peaks=table.peaks(result),
        bars=[
            ("Tokens a second", plots.bars(rows, lambda row: row["tokens_per_second"], "rate")),
            ("Peak memory", plots.bars(rows, lambda row: row["memory"]["peak"], "size")),
        ],
        plots=[plot for plot in (plots.pareto(rows), *grown) if plot is not None],
        at=plots,
    )
