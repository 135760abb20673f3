"""`task.kind: kg_completion`: what is missing of a triple."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.data import Format
from trainer.config.section import Section


class KgCompletion(Section):
    """The tail of a head and a relation, and the head of a tail, among all entities of a graph, by their texts."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    formats: ClassVar[tuple[Format, ...]] = ("triple",)
    arrays: ClassVar[tuple[str, ...]] = ("parts", "types")
    writes: ClassVar[bool] = False

    kind: Literal["kg_completion"]
    """What is learned: links of entities."""
    encoder: Literal["bi", "cross"] = "bi"
    """bi: an entity and a question about it are encoded apart and compared (SimKGC, Wang et al. 2022); cross: each
    triple is read as one text (KG-BERT, Yao et al. 2019), which takes as many forwards as there are entities for each
    question."""
    head: str = "head"
    """The column of the files that holds the entity that the relation starts from."""
    relation: str = "relation"
    """The column of the files that holds the relation."""
    tail: str = "tail"
    """The column of the files that holds the entity that the relation leads to."""
    temperature: float = Field(0.05, gt=0.0)
    """What similarities are divided by; bi alone."""
    negatives: int = Field(5, ge=1)
    """Wrong entities for each right one, drawn anew in each epoch; cross alone: bi compares with all of the step."""

    @property
    def headed(self) -> bool:
        """Whether a head of its own is learned."""
        return self.encoder == "cross"

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", "mrr", "hits_1", "hits_3", "hits_10")

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return (self.head, self.relation, self.tail)

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "head", "relation", "tail"})
