"""`task.kind: multi_task`: several tasks on one body."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainer.config.classify import Classify
from trainer.config.data import Format
from trainer.config.relations import Relations
from trainer.config.section import Section
from trainer.config.token_labels import TokenLabels

Member = Annotated[Classify | TokenLabels | Relations, Field(discriminator="kind")]


class MultiTask(Section):
    """Several tasks, each with rows, a head and metrics of its own, on one shared body."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    headed: ClassVar[bool] = True
    formats: ClassVar[tuple[Format, ...]] = ("text", "pair", "words", "relation")
    arrays: ClassVar[tuple[str, ...]] = ("marks",)
    writes: ClassVar[bool] = False

    kind: Literal["multi_task"]
    """What is learned: several tasks."""
    tasks: dict[str, Member]
    """Each by a name of one's own, which `task` of its sources says too."""
    weights: dict[str, float] = Field(default_factory=dict)
    """What the loss of a task counts, by name; 1 for one that is not named."""
    balance: Literal["fixed", "uncertainty"] = "fixed"
    """Losses are summed as they are, or each is divided by a variance that is learned (Kendall et al. 2018)."""
    sampling: Literal["size", "temperature"] | dict[str, float] = "size"
    """How often an epoch sees the rows of each task: each once; in proportion to the number of rows raised to
    1 / temperature; or in the proportion that stands here, by name. An epoch stays as long as it is."""
    temperature: float = Field(2.0, ge=1.0)
    """1 is as `size`; the larger, the more alike tasks are."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        own = (f"{name}.{metric}" for name, task in self.tasks.items() for metric in task.metrics())
        return ("loss", "mean", *own)

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return tuple(dict.fromkeys(column for task in self.tasks.values() for column in task.columns()))

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return " ".join([self.kind, *(f"{name} {task.rows()}" for name, task in self.tasks.items())])


def main_metric(member: Classify | TokenLabels | Relations) -> str:
    """What a task is judged by, of which more is better: the first metric besides the loss."""
    return member.metrics()[1]
