"""The recipe: all that the user said, in one frozen object."""

from typing import Any

from pydantic import Field, model_validator

from trainer.config import adapter as adapters
from trainer.config import strategy as strategies
from trainer.config.adapter import Adapter, NoAdapter
from trainer.config.batch import Batch
from trainer.config.causal_lm import CausalLM
from trainer.config.checkpoint import Checkpoint
from trainer.config.data import Data
from trainer.config.engine import Engine
from trainer.config.evaluate import Evaluate
from trainer.config.launch import Launch
from trainer.config.log import Log
from trainer.config.model import Model
from trainer.config.optimizer import Optimizer
from trainer.config.relations import MARKERS
from trainer.config.schedule import Schedule
from trainer.config.section import Section
from trainer.config.strategy import Full, Strategy
from trainer.config.task import BY_KIND, DEFAULT, Task
from trainer.config.train import Train


class Recipe(Section):
    """One fine-tuning run."""

    model: Model
    """Which model is trained, and how its weights are stored."""
    task: Task = Field(default_factory=CausalLM)
    """What is learned."""
    data: Data
    """The rows, and what the model sees of them."""
    adapter: Adapter = Field(default_factory=NoAdapter)
    """Small trainable modules beside a frozen model."""
    strategy: Strategy = Field(default_factory=Full)
    """What trains, and when."""
    optimizer: Optimizer = Field(default_factory=Optimizer)
    """How a gradient becomes a new weight."""
    schedule: Schedule = Field(default_factory=Schedule)
    """The learning rate over the run."""
    batch: Batch = Field(default_factory=Batch)
    """How many examples make a step."""
    train: Train = Field(default_factory=Train)
    """How long, from which seed, in which precision."""
    engine: Engine = Field(default_factory=Engine)
    """How a step is computed over processes."""
    launch: Launch = Field(default_factory=Launch)
    """Which processes run, and where."""
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    """What is saved on the way."""
    evaluate: Evaluate = Field(default_factory=Evaluate)
    """Validation while training."""
    log: Log = Field(default_factory=Log)
    """What is told while training."""
    output: str = "runs/quickstart"
    """The run folder."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_task(cls, content: Any) -> Any:
        """The kind of a task, an adapter or a strategy that names none; padded rows for what does not pack, where the
        user says nothing; the marks of entities as tokens of their own.
        """
        for name, default in (("adapter", adapters.DEFAULT), ("strategy", strategies.DEFAULT)):
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                content = {**content, name: {"kind": default, **content[name]}}
        if isinstance(content, dict) and _stands_before_rows(content.get("adapter")):
            content = _padded(content)
        task = content.get("task") if isinstance(content, dict) else None
        if not isinstance(task, dict):
            return content
        task = {"kind": DEFAULT, **task}
        if _marks_entities(task) and isinstance(content.get("model"), dict):
            added = content["model"].get("add_tokens", ())
            # What is no list is told where it stands.
            if isinstance(added, list | tuple):
                missing = [marker for marker in MARKERS if marker not in added]
                content = {**content, "model": {**content["model"], "add_tokens": [*added, *missing]}}
        settings = BY_KIND.get(task["kind"]) if isinstance(task["kind"], str) else None
        content = {**content, "task": task}
        return content if settings is None or settings.packs else _padded(content)


def _padded(content: dict[str, Any]) -> dict[str, Any]:
    """With padded rows, where the user says nothing of them."""
    data = content.get("data")
    if not isinstance(data, dict) or "packing" in data:
        return content
    return {**content, "data": {**data, "packing": False}}


def _stands_before_rows(adapter: Any) -> bool:
    """Whether an adapter takes places of a row."""
    return isinstance(adapter, dict) and adapter.get("kind") in adapters.BEFORE_ROWS


def _marks_entities(task: dict[str, Any]) -> bool:
    """Whether relations are learned, alone or among several tasks."""
    members = task.get("tasks")
    held = members.values() if task["kind"] == "multi_task" and isinstance(members, dict) else ()
    return any(isinstance(one, dict) and one.get("kind") == "relations" for one in (task, *held))
