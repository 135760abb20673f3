"""The commands. Each imports what it needs when it runs, so that `--help` and errors answer at once."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from trainer import __version__, commands
from trainer.bench import command as bench
from trainer.commands import AsJson, Overrides, print_json
from trainer.config.launch import Kind
from trainer.errors import EXIT_DONE, DataError, ProblemsError, ShardtuneError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Fine-tune language models from one YAML recipe.",
)

app.add_typer(bench.app, name="bench")
app.add_typer(commands.app)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The YAML file of the recipe.", show_default=False)]


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
    node: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Which of launch.nodes this is: a number, or variables that hold it.", show_default=False
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST", help="Where the nodes meet: the first one.", show_default=False)
    ] = None,
) -> None:
    """Fine-tune: plan, start the processes, train, save. Start it again to go on after a stop."""
    from trainer import prepare
    from trainer.launch import lock

    if find_lr:
        from trainer import find_lr as range_test

        range_test.measure(recipe, settings or [], typer.echo)
        return
    wanted = prepare.read(recipe, settings or [])
    if node is not None:
        prepare.run_node(wanted, prepare.number_of(node), address, typer.echo)
        return
    if wanted.launch.kind != "local":
        _hand_over(recipe, settings or [], None)
        return
    prepare.check_one_machine(wanted)
    typer.echo("Checking the rows ...")
    start = prepare.examine(wanted)
    with lock.hold(start.folder) as held:
        if start.done:
            from trainer.report.closing import closing

            typer.echo(f"{start.folder} holds this run, completed: a larger train.epochs or max_steps goes on.")
            typer.echo(closing(start.folder))
            return
        prepare.write(start.folder, wanted)
        for change in start.changed:
            typer.echo(f"Changed since the run was begun: {change}")
        processes = start.plan.batch.ranks
        typer.echo(f"Starting {processes} process{'es' if processes > 1 else ''} (logs: {start.folder / 'logs'}) ...")
        prepare.run(start, wanted, held)


@app.command(epilog="Example: shardtune launch my.yaml --to slurm --print launch.nodes=4 launch.processes=8")
def launch(
    recipe: RecipePath,
    settings: Overrides = None,
    to: Annotated[
        Kind | None, typer.Option(help="Where to; left out: launch.kind of the recipe.", show_default=False)
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Show what would run, and run nothing.")] = False,
) -> None:
    """Hand a run over to a launcher or a scheduler, and tell how to follow and to stop it."""
    if not only_print:
        _hand_over(recipe, settings or [], to)
        return
    from trainer.hand_over import Rendered

    rendered = Rendered(recipe, settings or [], to)
    sys.stdout.write(rendered.text)
    if rendered.job.open:
        typer.echo(f"Fill in before it runs: {', '.join(rendered.job.open)}", err=True)


def _hand_over(recipe: Path, settings: list[str], to: str | None) -> None:
    from trainer.hand_over import Rendered

    sent = Rendered(recipe, settings, to).send(typer.echo)
    if sent.told:
        typer.echo(sent.told)
    if sent.status:
        raise typer.Exit(sent.status)


@app.command(epilog="Example: shardtune plan trainer/recipes/demo.yaml launch.processes=8 engine.zero=3")
def plan(recipe: RecipePath, settings: Overrides = None, as_json: AsJson = False) -> None:
    """Show what a run would do: batch arithmetic, steps, parameters, bytes a device. Starts nothing."""
    from trainer import prepare

    planned = prepare.plan_of(prepare.read(recipe, settings or []))
    if as_json:
        print_json(planned.to_json())
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
        print_json(report.to_json())
    else:
        data_terminal.show(report, Console(highlight=False, emoji=False))
    if report.problems:
        raise DataError(report.problems)


@app.command("why-not", epilog="Example: shardtune why-not lora zero=3 nf4")
def why_not(
    words: Annotated[
        list[str],
        typer.Argument(metavar="WORD...", help="Kinds, zero=N and other keys of a recipe.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Tell whether an adapter, an engine and a kind of base go together, and why not."""
    from trainer import why_not as combinations

    found = combinations.ask(words)
    if as_json:
        print_json({"works": found.works, "why": found.why})
    else:
        first = {True: "works", False: "refused", None: "unknown"}[found.works]
        typer.echo("\n".join(f"{first}: {line}" for line in found.why))
    if found.works is False:
        raise typer.Exit(2)


@app.command(epilog="Example: shardtune schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON Schema of a recipe, which an editor completes from."""
    from trainer.config.schema import schema as recipe_schema

    print_json(recipe_schema())


@app.command(epilog="Example: shardtune recipes")
def recipes(as_json: AsJson = False) -> None:
    """List the recipes that ship with shardtune; each file starts with the command that runs it."""
    from trainer import assets

    gallery = assets.recipes()
    if as_json:
        print_json({name: str(path) for name, path in gallery.items()})
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
        print_json(checks.to_json(found))
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
