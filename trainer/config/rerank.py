"""`task.kind: rerank`: the best of several candidates."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.data import Format
from trainer.config.section import Section


class Rerank(Section):
    """How well each candidate answers a query, as one number, by the head that transformers has for it."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    headed: ClassVar[bool] = True
    formats: ClassVar[tuple[Format, ...]] = ("ranking",)
    arrays: ClassVar[tuple[str, ...]] = ("parts", "types")
    writes: ClassVar[bool] = False

    kind: Literal["rerank"]
    """What is learned: an order of candidates."""
    relevance: str = "relevance"
    """The column of the files that holds a number for each candidate: 0 for a wrong one, more for a better one."""
    loss: Literal["pointwise", "pairwise", "listwise"] = "listwise"
    """Each candidate by itself (is it right?), pairs of a better and a worse one (RankNet, Burges et al. 2005), or all
    of a query together (ListNet, Cao et al. 2007)."""
    candidates: int | None = Field(None, ge=2)
    """Candidates of a query that a step of training sees: the right ones, and others that are drawn anew in each epoch;
    null: all."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", "mrr", "ndcg_10", "accuracy_at_1")

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return (self.relevance,)

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "relevance"})
