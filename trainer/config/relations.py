"""`task.kind: relations`: how entities of a text are related."""

from typing import ClassVar, Literal

from trainer.config.data import Format
from trainer.config.section import Section

MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
"""Tokens around both entities of a relation: the beginning and the end of its head, then of its tail."""


class Relations(Section):
    """How two marked entities of a text are related, by a head on both start marks (Baldini Soares et al. 2019)."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    headed: ClassVar[bool] = True
    formats: ClassVar[tuple[Format, ...]] = ("relation",)
    arrays: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = False
    problem: ClassVar[Literal["single"]] = "single"

    kind: Literal["relations"]
    """What is learned: relations of entities."""
    label: str = "label"
    """The column of the files that holds the relation."""
    labels: tuple[str, ...] | None = None
    """The relations in the order of the outputs; null: those of the training rows, sorted."""
    no_relation: str | None = None
    """The label of entities that are not related, which F1, precision and recall leave out."""
    class_weights: Literal["none", "balanced"] | dict[str, float] = "none"
    """What an example counts by its label; balanced: as if all labels were equally frequent."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", "f1", "precision", "recall", "macro_f1", "accuracy")

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return (self.label,)

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "label", "labels"})
