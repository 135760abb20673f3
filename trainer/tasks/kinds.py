"""The tasks by their `task.kind`."""

from trainer.tasks import causal_lm

TASKS = {"causal_lm": causal_lm}
