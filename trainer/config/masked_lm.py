"""`task.kind: masked_lm`: words that are hidden from an encoder."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.data import Format
from trainer.config.section import Section


class MaskedLM(Section):
    """The tokens of a text that are masked, from those on both sides (Devlin et al. 2019)."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    headed: ClassVar[bool] = False
    formats: ClassVar[tuple[Format, ...]] = ("text", "pair")
    arrays: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = False

    kind: Literal["masked_lm"]
    """What is learned: masked tokens."""
    masking: Literal["token", "whole_word"] = "token"
    """Whether tokens are drawn one by one, or all those of a word together."""
    share: float = Field(0.15, gt=0.0, lt=1.0)
    """The share of a text's tokens that is learned, one at least: 80 % of them become the mask, 10 % any other token,
    and 10 % stay."""
    next_sentence: bool = False
    """Whether the second text of a pair follows the first is learned beside; in every other one, drawn anew in each
    epoch, it is that of another row."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", "perplexity", "accuracy", *(("next_sentence_accuracy",) if self.next_sentence else ()))

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.kind
