"""The commands that ask a finished run, or bring it into another form."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from trainer.errors import Problem, RecipeError

app = typer.Typer(add_completion=False)
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SECTION.KEY=VALUE]...", help="Settings that stand above those of the file.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="The output folder of a finished run.", show_default=False)
]
OfTask = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="Which of several tasks to ask.", show_default=False),
]

PER_LABEL = ("label", "precision", "recall", "f1", "examples")
"""What JSON tells of each label."""


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
        print_json({"rows": name, "targets": found.targets, "metrics": metrics, "labels": told})
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


def print_json(content: Any) -> None:
    """Facts, for programs."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
