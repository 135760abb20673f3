"""`task.kind: seq2seq`: a target after a source."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.data import Format
from trainer.config.section import Section


class Seq2Seq(Section):
    """A target after a source, by an encoder-decoder model: translation, summaries, answers."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = True
    headed: ClassVar[bool] = False
    formats: ClassVar[tuple[Format, ...]] = ("completion",)
    arrays: ClassVar[tuple[str, ...]] = ("parts",)
    writes: ClassVar[bool] = True

    kind: Literal["seq2seq"]
    """What is learned: the tokens of the target."""
    prefix: str = ""
    """What stands before each source, such as `translate English to French: `."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """The share of a target that is spread over the vocabulary."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first; a smoothed one tells no perplexity."""
        return ("loss",) if self.label_smoothing else ("loss", "perplexity")

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "prefix"})
