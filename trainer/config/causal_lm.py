"""`task.kind: causal_lm`: the next token."""

from typing import ClassVar, Literal

from trainer.config.data import Format
from trainer.config.section import Section


class CausalLM(Section):
    """The next token, at the positions that the format marks as learned."""

    packs: ClassVar[bool] = True
    """Whether its rows can stand end to end; they do unless `data.packing` says otherwise. The others are padded."""
    learns_tokens: ClassVar[bool] = True
    headed: ClassVar[bool] = False
    """Whether a row without a learned token is of no use; else rows end as the tokenizer ends a text."""
    formats: ClassVar[tuple[Format, ...]] = ("completion", "instruction", "chat", "text", "pair", "table", "triples")
    """The formats of its rows."""
    arrays: ClassVar[tuple[str, ...]] = ()
    """What is kept of each token besides what always is, as `data/chunk.py` names it."""
    writes: ClassVar[bool] = True
    """Whether the model writes answers."""

    kind: Literal["causal_lm"] = "causal_lm"
    """What is learned: the next token."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", "perplexity")

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.kind
