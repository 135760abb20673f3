"""A range test of learning rates: `shardtune train RECIPE --find-lr` (Smith 2017, arXiv 1506.01186, section 3.3).

The run of the recipe with a rate that rises from step to step, in a folder beside its output; nothing of it is kept but
its figures and their page. Nothing here imports torch.
"""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer import prepare
from trainer.bench import plots
from trainer.callbacks.range_test import EXPLODED, Smoothed
from trainer.config.load import load
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError, RunError, Stopped
from trainer.launch import lock
from trainer.report import html

Say = Callable[[str], None]
HIGHEST, DECADES, STEPS = 10.0, 8, 120
"""The rate at the end, the powers of ten that it rises by, and in how many steps."""
PAGE = "find-lr.html"
_OWN = (
    f"optimizer.lr={HIGHEST}",
    f"schedule={{kind: range_test, warmup: 0, decades: {DECADES}}}",
    f"train.max_steps={STEPS}",
    "train.epochs=100000",
    "train.audit=false",
    "data.validation=null",
    "data.test=null",
    "evaluate={}",
    "checkpoint={save: none}",
    "log={every: 1, tensorboard: false}",
)
_LEAST = 20
"""Steps from which something can be said."""
_EDGE = 10
"""Steps at the beginning whose smoothed loss is a mean of too few."""
_LINES, _BAR = 16, 40
"""Of the table on the screen, and the characters of its longest bar."""


@dataclass(frozen=True)
class Found:
    """What a range test says."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]

    @property
    def lowest(self) -> int:
        """The step at which the smoothed loss is lowest."""
        return min(range(_EDGE, len(self.rates)), key=self.smoothed.__getitem__)

    @property
    def steepest(self) -> int:
        """The step before it at which the smoothed loss falls fastest over the rate's logarithm."""
        inside = range(_EDGE, max(_EDGE + 1, self.lowest))
        return min(inside, key=lambda at: self.smoothed[at + 1] - self.smoothed[at - 1])

    @property
    def most(self) -> float:
        """A tenth of the rate of the lowest loss, the highest one that is not at the edge."""
        return self.rates[self.lowest] / 10

    @property
    def shown(self) -> list[int]:
        """The steps before the loss explodes: those that are not far above the first, against how far it fell."""
        least, first = self.smoothed[self.lowest], self.smoothed[_EDGE]
        most = first + 0.3 * max(first - least, 0.05 * first)
        last = next((at for at in range(self.lowest, len(self.rates)) if self.smoothed[at] > most), len(self.rates))
        return list(range(_EDGE, last))

    @property
    def falls(self) -> bool:
        """Whether any rate helped."""
        return self.smoothed[self.lowest] < 0.98 * self.smoothed[_EDGE]

    @property
    def suggested(self) -> float:
        """Half-way between the two, as logarithms go."""
        return math.sqrt(self.rates[self.steepest] * self.most)

    def __str__(self) -> str:
        """What to do with it."""
        if not self.falls:
            return "No rate lets the loss fall in so few steps: nothing is suggested."
        steepest = f"{self.rates[self.steepest]:.1e}, where the loss falls fastest"
        most = f"{self.most:.1e}, a tenth of the rate of the lowest loss"
        return f"Suggested: optimizer.lr: {self.suggested:.1e}, between {steepest}, and {most}."


def measure(path: Path, overrides: Sequence[str], say: Say) -> Found:
    """Runs the test of a recipe, tells what it says, and draws it."""
    recipe = _recipe(path, overrides)
    folder = Path(recipe.output)
    _remove_earlier(folder)
    say("Checking the rows ...")
    start = prepare.examine(recipe)
    with lock.hold(folder) as held:
        prepare.write(start.folder, recipe)
        say(f"Trying rates from {HIGHEST / 10**DECADES:.0e} on, one a step, until the loss explodes ...")
        _run(start, recipe, held)
        found = read(folder / "metrics.jsonl")
        _draw(found, path, folder / PAGE)
    say(table(found))
    say(f"{found}\nPage: {folder / PAGE}")
    return found


def _recipe(path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe with what a range test asks for, and an output of its own."""
    given = prepare.read(path, overrides)
    if given.strategy.kind in ("layerwise", "phases"):
        message = f"{given.strategy.kind} has a rate for each phase; test one of them, such as strategy={{kind: full}}"
        raise RecipeError([Problem("strategy.kind", message)])
    output = f"output={json.dumps(f'{given.output}-find-lr')}"
    return prepare.read(path, [*overrides, *_OWN, output])


def _remove_earlier(folder: Path) -> None:
    """What an earlier test left; anything else in its place is told by `prepare.examine`."""
    kept = folder / "recipe.yaml"
    if kept.is_file() and load(kept).schedule.kind == "range_test":
        shutil.rmtree(folder)


def _run(start: prepare.Start, recipe: Recipe, held: int) -> None:
    """Before the loss explodes it may be no number any more, which ends a run, and this test too."""
    try:
        prepare.run(start, recipe, held)
    except Stopped:
        raise
    except RunError:
        if len(_steps(start.folder / "metrics.jsonl")) < _LEAST:
            raise


def read(metrics: Path) -> Found:
    """What the figures of a run say; RunError where they are too few."""
    steps = _steps(metrics)
    if len(steps) < _LEAST:
        raise RunError(f"the loss exploded in {len(steps)} steps, of which nothing can be learned")
    smooth = Smoothed()
    return Found([rate for rate, _ in steps], [loss for _, loss in steps], [smooth.add(loss) for _, loss in steps])


def _steps(metrics: Path) -> list[tuple[float, float]]:
    """Rate and loss of each step up to the first whose loss is no number."""
    found: list[tuple[float, float]] = []
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else ():
        step = json.loads(line)
        if step["split"] != "train":
            continue
        if step["loss"] is None:
            break
        found.append((step["lr"], step["loss"]))
    return found


def table(found: Found) -> str:
    """Rates and smoothed losses for a terminal; bars begin at the lowest loss."""
    least, most = (end(found.smoothed[at] for at in found.shown) for end in (min, max))
    shown = sorted({*found.shown[:: -(-len(found.shown) // _LINES)], found.steepest, found.lowest})
    words = {found.lowest: "lowest", found.steepest: "falls fastest"}
    lines = ["      rate    smoothed loss"]
    for at in shown:
        bar = "█" * round(_BAR * (found.smoothed[at] - least) / (most - least or 1))
        lines.append(f"  {found.rates[at]:8.1e}  {found.smoothed[at]:8.4f}  {bar} {words.get(at, '')}".rstrip())
    return "\n".join(lines)


def _draw(found: Found, path: Path, page: Path) -> None:
    marks = ((found.steepest, "falls fastest"), (found.lowest, "lowest"))
    marked = {found.shown.index(at): f"{name}: {found.rates[at]:.1e}" for at, name in marks}
    x, y, line = ([one[at] for at in found.shown] for one in (found.rates, found.losses, found.smoothed))
    html.write(
        Path(plots.__file__).with_name("find_lr.html"),
        page,
        recipe=path.name,
        suggestion=str(found),
        plot=plots.curve("Loss by learning rate", x, y, line, marked, "loss"),
        at=plots,
        first=f"{found.rates[0]:.0e}",
        exploded=f"{EXPLODED:g}",
    )
