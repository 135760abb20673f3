"""`task.kind: image_text`: answers about images."""

from typing import ClassVar, Literal

from trainer.config.data import Format
from trainer.config.section import Section


class ImageText(Section):
    """The answers of conversations about images, by a model that sees them; what is seen is not learned."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = True
    headed: ClassVar[bool] = False
    formats: ClassVar[tuple[Format, ...]] = ("image_text",)
    arrays: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = True

    kind: Literal["image_text"]
    """What is learned: answers about images."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", "perplexity")

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.kind
