"""`task.kind: token_labels`: the tag of each word."""

from typing import ClassVar, Literal

from trainer.config.data import Format
from trainer.config.section import Section

OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""


class TokenLabels(Section):
    """The tag of each word, such as those of names, read at the first token of the word."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    headed: ClassVar[bool] = True
    formats: ClassVar[tuple[Format, ...]] = ("words",)
    arrays: ClassVar[tuple[str, ...]] = ("marks",)
    writes: ClassVar[bool] = False

    kind: Literal["token_labels"]
    """What is learned: the tags of words."""
    scheme: Literal["bio", "none"] = "bio"
    """bio: tags are O, B-x at the beginning of an entity x and I-x inside of it; none: each tag stands alone, such as a
    part of speech."""
    labels: tuple[str, ...] | None = None
    """The tags in the order of the outputs; null: those of the training rows, sorted, O first."""
    head: Literal["linear", "crf"] = "linear"
    """Each tag by itself, or all tags of a row together: a conditional random field (Lafferty et al. 2001)."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        own = ("f1", "precision", "recall") if self.scheme == "bio" else ("macro_f1",)
        return ("loss", *own, "accuracy")

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "scheme", "labels"})


def wrong_in(tags: tuple[str, ...]) -> tuple[int, str] | None:
    """The number of the first tag that is not BIO after those before it, and why; None where all are."""
    before = OUTSIDE
    for number, tag in enumerate(tags):
        begin, _, kind = tag.partition("-")
        if tag != OUTSIDE and not (begin in ("B", "I") and kind):
            return number, f"is neither {OUTSIDE} nor B-x or I-x"
        if begin == "I" and before not in (f"B-{kind}", tag):
            return number, f"follows {before}, so no entity {kind} goes on there; begin it with B-{kind}"
        before = tag
    return None
