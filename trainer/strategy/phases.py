"""Phases that the recipe writes out."""

from trainer.config.strategy import Phases
from trainer.errors import Problem, RecipeError
from trainer.strategy import partial
from trainer.strategy.phase import At, Model, Phase, of_list


def phases(settings: Phases, model: Model) -> At:
    """As they stand there; the head of a task trains in each.

    Raises:
        RecipeError: a key that fits nothing of the model; a phase with nothing to train.
    """
    found, wrong = [], []
    for number, one in enumerate(settings.phases):
        key = f"strategy.phases.{number}"
        try:
            names = model.train(partial.trains(one, model.listed)) | (model.head & model.left)
        except RecipeError as error:
            wrong += [Problem(key + each.where.removeprefix("strategy"), each.message) for each in error.problems]
            continue
        if not names and not model.headed:
            wrong.append(Problem(key, "leaves nothing to train of what the adapter trains; name other layers or parts"))
        found.append(Phase(_called(one.last, one.layers, one.train), names, one.rate, one))
    if wrong:
        raise RecipeError(wrong)
    return of_list(found)


def _called(last: int | None, layers: tuple[int, int] | None, train: tuple[str, ...]) -> str:
    parts = [f"last {last} layers"] if last is not None else []
    parts += [f"layers {layers[0]} to {layers[1]}"] if layers is not None else []
    return ", ".join([*parts, *train])
