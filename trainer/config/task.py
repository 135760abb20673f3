"""`task:` what is learned; one class a `kind`."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainer.config.data import Format
from trainer.config.section import Section

FALLING = ("loss", "rmse")
"""The metrics of which less is better."""


class CausalLM(Section):
    """The next token, at the positions that the format marks as learned."""

    packs: ClassVar[bool] = True
    """Whether its rows can stand end to end; they do unless `data.packing` says otherwise. The others are padded."""
    learns_tokens: ClassVar[bool] = True
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
        return ("loss",)

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.kind


class Classify(Section):
    """The label of a text, of several texts or of an image, by the head that transformers has for it."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    formats: ClassVar[tuple[Format, ...]] = ("text", "pair", "image")
    arrays: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = False
    measured: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "single": ("accuracy", "macro_f1", "matthews", "auroc"),
        "multiple": ("micro_f1", "macro_f1", "exact_match", "auroc"),
        "regression": ("pearson", "spearman", "rmse"),
    }
    """The metrics of each problem."""

    kind: Literal["classify"]
    """What is learned: labels."""
    label: str = "label"
    """The column of the files that holds the label."""
    problem: Literal["single", "multiple", "regression"] = "single"
    """One label a row, a list of them, or a number."""
    labels: tuple[str, ...] | None = None
    """The labels in the order of the outputs; null: those of the training rows, sorted."""
    class_weights: Literal["none", "balanced"] | dict[str, float] = "none"
    """What an example counts by its label; balanced: as if all labels were equally frequent."""
    focal: float = Field(0.0, ge=0.0)
    """The exponent of the focal loss (Lin et al. 2017), which counts sure examples less; 0: cross-entropy."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """The share of a target that is spread over all labels."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", *self.measured[self.problem])

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return (self.label,)

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "label", "problem", "labels"})


MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
"""Tokens around both entities of a relation: the beginning and the end of its head, then of its tail."""


class Relations(Section):
    """How two marked entities of a text are related, by a head on both start marks (Baldini Soares et al. 2019)."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
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


class Seq2Seq(Section):
    """A target after a source, by an encoder-decoder model: translation, summaries, answers."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = True
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
        """What validation measures, the loss first."""
        return ("loss",)

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.model_dump_json(include={"kind", "prefix"})


class ImageText(Section):
    """The answers of conversations about images, by a model that sees them; what is seen is not learned."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = True
    formats: ClassVar[tuple[Format, ...]] = ("image_text",)
    arrays: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = True

    kind: Literal["image_text"]
    """What is learned: answers about images."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss",)

    def columns(self) -> tuple[str, ...]:
        """The columns of the files that hold what is learned."""
        return ()

    def rows(self) -> str:
        """What decides how a row is read and written."""
        return self.kind


KINDS: tuple[type[CausalLM] | type[Classify] | type[Relations] | type[Seq2Seq] | type[ImageText], ...] = (
    CausalLM,
    Classify,
    Relations,
    Seq2Seq,
    ImageText,
)
BY_KIND = {kind.model_fields["kind"].annotation.__args__[0]: kind for kind in KINDS}  # type: ignore[union-attr]
"""The settings of each `task.kind`."""
DEFAULT = "causal_lm"

Task = Annotated[CausalLM | Classify | Relations | Seq2Seq | ImageText, Field(discriminator="kind")]
