"""`task.kind: classify`: labels."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.data import Format
from trainer.config.section import Section


class Classify(Section):
    """The label of a text, of several texts or of an image, by the head that transformers has for it."""

    packs: ClassVar[bool] = False
    learns_tokens: ClassVar[bool] = False
    headed: ClassVar[bool] = True
    formats: ClassVar[tuple[Format, ...]] = ("text", "pair", "image")
    arrays: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = False
    measured: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "single": ("accuracy", "macro_f1", "matthews", "auroc"),
        "multiple": ("micro_f1", "macro_f1", "exact_match", "auroc"),
        "ordinal": ("accuracy", "kappa", "spearman", "mae"),
        "regression": ("pearson", "spearman", "rmse"),
    }
    """The metrics of each problem."""

    kind: Literal["classify"]
    """What is learned: labels."""
    label: str = "label"
    """The column of the files that holds the label."""
    problem: Literal["single", "multiple", "ordinal", "regression"] = "single"
    """One label a row, a list of them, one of an order such as grades, or a number."""
    pooling: Literal["auto", "mean"] = "auto"
    """What of a text the head reads: auto, where the head that transformers has looks (the first token of an encoder,
    the last one of a decoder, the end of an encoder-decoder); mean, all tokens alike, by a head of our own."""
    labels: tuple[str, ...] | None = None
    """The labels in the order of the outputs, ordinal ones from the lowest to the highest; null: those of
    the training rows, sorted."""
    threshold: float = Field(0.5, gt=0.0, lt=1.0)
    """The probability from which one of several labels is said; it is saved with the model."""
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
