"""`task.kind: joint_relations`: the entities of a sentence, and how they are related."""

from typing import ClassVar, Literal

from trainer.config.data import Format
from trainer.config.section import Section

RELATIONS = "relations"
"""What holds the relations of a row: head, tail and label of each, with entities by their number."""


class JointRelations(Section):
    """The entities of a sentence and the relations among them, both at once (Bekoulis et al. 2018)."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    headed: ClassVar[bool] = True
    formats: ClassVar[tuple[Format, ...]] = ("entities",)
    arrays: ClassVar[tuple[str, ...]] = ("marks",)
    writes: ClassVar[bool] = False

    kind: Literal["joint_relations"]
    """What is learned: entities, and relations among them."""
    entities: tuple[str, ...] | None = None
    """The types of entities in the order of the outputs; null: those of the training rows, sorted."""
    relations: tuple[str, ...] | None = None
    """The relations in the order of the outputs; null: those of the training rows, sorted."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        of_entities = ("entity_f1", "entity_precision", "entity_recall")
        return ("loss", "f1", "precision", "recall", "boundaries_f1", *of_entities)

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return (RELATIONS,)

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "entities", "relations"})
