"""The commands. Each imports what it needs when it runs, so that `--help` and errors answer at once."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from trainer import __version__
from trainer.bench import command as bench
from trainer.errors import EXIT_DONE, DataError, Problem, ProblemsError, RecipeError, ShardtuneError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Fine-tune language models from one YAML recipe.",
)

app.add_typer(bench.app, name="bench")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The YAML file of the recipe.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SECTION.KEY=VALUE]...", help="Settings that stand above those of the file.", show_default=False
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="The output folder of a finished run.", show_default=False)
]
OfTask = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="Which of several tasks to ask.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]


PER_LABEL = ("label", "precision", "recall", "f1", "examples")
"""What JSON tells of each label."""


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"shardtune {__version__}")
        raise typer.Exit


@app.command(epilog="Example: shardtune train trainer/recipes/demo.yaml train.epochs=2")
def train(
    recipe: RecipePath,
    settings: Overrides = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Try learning rates and draw their losses.")] = False,
) -> None:
    """Fine-tune: plan, start the processes, train, save. Start it again to go on after a stop."""
    from trainer import prepare
    from trainer.launch import lock

    if find_lr:
        from trainer import find_lr as range_test

        range_test.measure(recipe, settings or [], typer.echo)
        return
    wanted = prepare.read(recipe, settings or [])
    typer.echo("Checking the rows ...")
    start = prepare.examine(wanted)
    with lock.hold(start.folder) as held:
        if start.done:
            from trainer.report.closing import closing

            typer.echo(f"{start.folder} holds this run, completed: a larger train.epochs or max_steps goes on.")
            typer.echo(closing(start.folder))
            return
        prepare.write(start, wanted)
        for change in start.changed:
            typer.echo(f"Changed since the run was begun: {change}")
        processes = start.plan.batch.ranks
        typer.echo(f"Starting {processes} process{'es' if processes > 1 else ''} (logs: {start.folder / 'logs'}) ...")
        prepare.run(start, wanted, held)


@app.command(epilog="Example: shardtune plan trainer/recipes/demo.yaml launch.processes=8 engine.zero=3")
def plan(recipe: RecipePath, settings: Overrides = None, as_json: AsJson = False) -> None:
    """Show what a run would do: batch arithmetic, steps, parameters, bytes a device. Starts nothing."""
    from trainer import prepare

    planned = prepare.plan_of(prepare.read(recipe, settings or []))
    if as_json:
        _print_json(planned.to_json())
    else:
        typer.echo(planned.describe())


@app.command(epilog="Example: shardtune data trainer/recipes/demo.yaml --rows 5 --html data.html")
def data(
    recipe: RecipePath,
    settings: Overrides = None,
    as_json: AsJson = False,
    rows: Annotated[int, typer.Option(min=0, help="How many rows to show.")] = 3,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one HTML page.", show_default=False)] = None,
) -> None:
    """Show what the model will see: counts, lengths, labels, what is learned, and rows. Trains nothing."""
    from trainer import prepare

    wanted = prepare.read(recipe, settings or [], to_train=False)
    if not as_json:
        typer.echo("Turning rows into tokens ...")
    from trainer.report import data_page, data_report, data_terminal

    report = data_report.make(wanted, rows)
    if html is not None:
        data_page.write(report, html)
    if as_json:
        _print_json(report.to_json())
    else:
        data_terminal.show(report, Console(highlight=False, emoji=False))
    if report.problems:
        raise DataError(report.problems)


@app.command(epilog="Example: shardtune evaluate runs/headlines --split test")
def evaluate(
    run: RunFolder,
    settings: Overrides = None,
    split: Annotated[
        Literal["validation", "test"] | None,
        typer.Option(help="Its own rows; left out: test where there are any.", show_default=False),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Rows in the format of the training rows.", show_default=False),
    ] = None,
    task: OfTask = None,
    as_json: AsJson = False,
) -> None:
    """Measure a finished run on rows that it has not seen: its own, or those of a file."""
    from trainer import finished

    name, found = finished.measure(finished.open_run(run, settings or []), split, rows, task)
    metrics = {"loss": found.loss, **found.metrics}
    if as_json:
        told = [] if found.classes is None else [dict(zip(PER_LABEL, row, strict=True)) for row in found.classes.rows()]
        _print_json({"rows": name, "targets": found.targets, "metrics": metrics, "labels": told})
        return
    typer.echo(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    if found.classes is not None:
        from trainer.report.class_terminal import show

        show(found.classes, Console(highlight=False, emoji=False))


@app.command(epilog="Example: shardtune predict runs/headlines --input new.jsonl --output said.jsonl")
def predict(
    run: RunFolder,
    rows: Annotated[
        Path,
        typer.Option("--input", metavar="FILE", help="Rows in the format of the training rows.", show_default=False),
    ],
    settings: Overrides = None,
    task: OfTask = None,
    n_best: Annotated[
        int | None,
        typer.Option("--n-best", min=2, help="Answers to each row, as rows that a reranker reads.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write; left out: the terminal.", show_default=False),
    ] = None,
) -> None:
    """Write what a finished run says to each row of a file, as JSON lines."""
    from trainer import finished
    from trainer.plan.files import write_lines

    done = finished.open_run(run, settings or [])
    said = finished.predict(done, rows, task) if n_best is None else finished.n_best(done, rows, n_best)
    lines = (json.dumps(row, ensure_ascii=False) for row in said)
    if output is None:
        for line in lines:
            typer.echo(line)
    else:
        write_lines(output, lines)


@app.command(epilog="Example: shardtune export runs/lora --to merged --out ./merged")
def export(
    run: RunFolder,
    to: Annotated[Literal["merged"], typer.Option(help="merged: the adapter put into its base.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write; left out: `merged` in the run.", show_default=False),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="The type of the weights; left out: `model.dtype`.", show_default=False),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="RUN", help="Another run with LoRA on the same base; again for more of them."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="W,W,...", help="Of RUN and of each --with; left out: equal ones.", show_default=False),
    ] = None,
    combine: Annotated[
        Literal["linear", "cat", "ties", "dare_linear", "dare_ties"],
        typer.Option(help="How peft puts adapters together; cat takes any ranks."),
    ] = "linear",
    density: Annotated[float, typer.Option(min=0.0, max=1.0, help="What ties and dare keep of each adapter.")] = 0.5,
) -> None:
    """Write a finished run in a form that other tools load."""
    from trainer import export as exporting

    others = exporting.Others(tuple(beside or ()), _numbers("--weights", weights), combine, density)
    exporting.merged(run, out, dtype, typer.echo, others)


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    """RecipeError where a list of numbers holds something else."""
    try:
        return tuple(float(one) for one in text.split(",")) if text else ()
    except ValueError:
        raise RecipeError([Problem(option, f"{text!r} is no list of numbers such as 0.7,0.3")]) from None


@app.command(epilog="Example: shardtune schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON Schema of a recipe, which an editor completes from."""
    from trainer.config.schema import schema as recipe_schema

    _print_json(recipe_schema())


@app.command(epilog="Example: shardtune recipes")
def recipes(as_json: AsJson = False) -> None:
    """List the recipes that ship with shardtune; each file starts with the command that runs it."""
    from trainer import assets

    gallery = assets.recipes()
    if as_json:
        _print_json({name: str(path) for name, path in gallery.items()})
        return
    for name, path in gallery.items():
        first = next(
            (line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")), ""
        )
        typer.echo(f"{name:12} {first}\n{'':12} {path}")


@app.command(epilog="Example: shardtune doctor")
def doctor(as_json: AsJson = False) -> None:
    """Tell what this machine has, what is missing, and how to get it."""
    from trainer import doctor as checks

    found = checks.facts()
    if as_json:
        _print_json(checks.to_json(found))
    else:
        checks.render(found, Console())
    if any(not check.ok for check in found if check.required):
        raise typer.Exit(2)


def main() -> None:
    """Runs a command; a ShardtuneError becomes one message on standard error and its exit status."""
    try:
        app()
    except ShardtuneError as error:
        _tell(error)
        sys.exit(error.status)
    sys.exit(EXIT_DONE)


def _tell(error: ShardtuneError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not isinstance(error, ProblemsError):
        console.print(f"[bold]{'Stopped' if error.status == 75 else 'Failed'}:[/] {escape(str(error))}")
        return
    console.print(f"[bold red]{escape(error.title)}:[/]")
    for problem in error.problems:
        console.print(f"  [bold]{escape(problem.where)}[/]: {escape(problem.message)}")


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
