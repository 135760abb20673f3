"""The tasks by their `task.kind`."""

from collections.abc import Callable

from trainer.config.task import Task
from trainer.data.targets import Labels
from trainer.tasks import causal_lm, classify
from trainer.tasks.objective import Objective

TASKS: dict[str, Callable[[Task, Labels], Objective]] = {
    "causal_lm": causal_lm.objective,
    "classify": classify.objective,
}
