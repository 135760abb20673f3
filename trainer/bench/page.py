"""The result of a suite as one HTML page that needs nothing else: its styles and its plots stand in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trainer.bench import plots, table
from trainer.errors import RunError

TEMPLATE = "page.html"


def write(result: Mapping[str, Any], path: Path) -> None:
    """Writes the page; RunError where that cannot be done."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = result["rows"]
    grown = [plots.growth(entry, table.MEASURES[entry["measure"]]) for entry in result["growth"]]
    columns, lines = table.lines(result)
    page = environment.get_template(TEMPLATE).render(
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
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
