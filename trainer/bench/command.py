"""`shardtune bench`: a suite by its name or file, and the comparison of two results."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

SUITE = "run-suite"
"""The command behind `shardtune bench SUITE`, which has no word of its own."""


class _Group(TyperGroup):
    """Takes a first word that is no command for a suite."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Puts the command before its suite."""
        words = [word for word in args if not word.startswith("-")]
        asks = any(word in ("--help", "-h") for word in args)
        if words and words[0] not in self.commands:
            args = [SUITE, *args]
        elif not words and not asks:
            args = ["--help"]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    rich_markup_mode="rich",
    subcommand_metavar="SUITE [KEY=VALUE]... | compare A B",
    epilog="Example: shardtune bench smoke --out runs/smoke",
    help="Measure a suite: real runs, in interleaved rounds, with throughput, memory and losses as JSON, Markdown and "
    "a page of plots. SUITE is a YAML file or the name of one that ships with shardtune; "
    "`shardtune bench SUITE --help` shows its options.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
Result = Annotated[Path, typer.Argument(help="The folder of a measured suite, or its result.json.", show_default=False)]


@app.command(SUITE, hidden=True, epilog="Example: shardtune bench smoke rounds=1 --out runs/smoke")
def run_suite(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="The name or the YAML file of a suite.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings that stand above those of the file, such as rounds=1 or recipe.model.dtype=float32.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where results go; left out: runs/bench-NAME.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run every row of a suite in interleaved rounds; started again, a stopped one goes on row by row."""
    from rich.console import Console

    from trainer.bench import measure, reading, table
    from trainer.bench.measured import COMPLETED
    from trainer.errors import RunError

    wanted = reading.read(reading.find(suite), settings or [])
    folder = out or Path("runs") / f"bench-{wanted.suite.name}"
    told = Console(stderr=as_json, highlight=False, emoji=False)

    def say(text: str) -> None:
        told.print(text, markup=False, soft_wrap=True)

    rows, rounds = len(wanted.rows), wanted.suite.rounds
    say(f"{wanted.suite.name}: {rows} row{'s' if rows > 1 else ''}, {rounds} round{'s' if rounds > 1 else ''}")
    words = [suite, *(settings or []), *(["--out", str(out)] if out else [])]
    result = measure.measure(wanted, folder, shlex.join(["shardtune", "bench", *words]), say)
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        table.show(result, told)
    if not any(row["status"] == COMPLETED for row in result["rows"]):
        raise RunError(f"no row of {wanted.suite.name} completed; what each said stands above")
    for name in (measure.RESULT, measure.TABLE, measure.PAGE):
        say(str(folder / name))


@app.command(epilog="Example: shardtune bench compare runs/before runs/after --threshold 0.05")
def compare(
    before: Result,
    after: Result,
    threshold: Annotated[
        float, typer.Option(min=0.0, help="The share by which a row may become worse before it is a regression.")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Say which differences between two results are larger than the noise; exit status 1 on a regression."""
    from rich.console import Console

    from trainer.bench import compare_terminal, measure
    from trainer.bench.compare import compare as compared

    found = compared(measure.load(before), measure.load(after), threshold)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        compare_terminal.show(found, Console(highlight=False, emoji=False))
    if found.regressed:
        raise typer.Exit(1)
