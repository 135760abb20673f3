"""`task:` what is learned."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section

PACKED = ("causal_lm",)
"""The tasks whose rows are packed unless `data.packing` says otherwise; the others pad."""
METRICS = {
    "single": ("accuracy", "macro_f1", "matthews", "auroc"),
    "multiple": ("micro_f1", "macro_f1", "exact_match", "auroc"),
    "regression": ("pearson", "spearman", "rmse"),
}
"""What `classify` measures besides the loss, by `task.problem`."""
FALLING = ("loss", "rmse")
"""The metrics of which less is better."""


class Task(Section):
    """The objective, its head and its loss."""

    kind: Literal["causal_lm", "classify"] = "causal_lm"
    """causal_lm: the next token, at the positions that the format marks as learned; classify: the label of a text or of
    several texts, by a head on the first token of an encoder or the last one of a decoder."""
    label: str = "label"
    """classify: the column of the files that holds the label."""
    problem: Literal["single", "multiple", "regression"] = "single"
    """classify: one label a row, a list of them, or a number."""
    labels: tuple[str, ...] | None = None
    """classify: the labels in the order of the outputs; null: those of the training rows, sorted."""
    class_weights: Literal["none", "balanced"] | dict[str, float] = "none"
    """classify: what an example counts by its label; balanced: as if all labels were equally frequent."""
    focal: float = Field(0.0, ge=0.0)
    """classify: the exponent of the focal loss (Lin et al. 2017), which counts sure examples less; 0: cross-entropy."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """classify: the share of a target that is spread over all labels."""

    def metrics(self) -> tuple[str, ...]:
        """What validation measures, the loss first."""
        return ("loss", *(METRICS[self.problem] if self.kind == "classify" else ()))
