"""`evaluate:` validation while training."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section


class Evaluate(Section):
    """When the validation rows are looked at, and what counts as better."""

    every: int = Field(200, ge=1)
    """Optimizer steps between two validations; there is one before the first and one after the last step."""
    metric: str = "loss"
    """What the best checkpoint is chosen by: the loss, or a metric of the task."""
    mode: Literal["min", "max"] = "min"
    """Whether a lower or a higher metric is better."""
    patience: int | None = Field(None, ge=1)
    """Validations without a better value after which training ends; null: never."""
    answers: tuple[
        Literal["bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact_match", "token_f1", "final_number"], ...
    ] = ()
    """What the answers that the model writes to validation rows are measured by; none: it writes none."""
    answered: int | None = Field(100, ge=1)
    """Validation rows that are answered, evenly spread; null: all."""
    answer_tokens: int = Field(128, ge=1)
    """Tokens of the longest such answer."""
    answer_seconds: float = Field(600.0, gt=0.0)
    """Seconds of a validation after which no more answers are begun; those that are there are measured."""
    samples: int = Field(0, ge=0)
    """Validation prompts that the model answers before and after training, for samples.json."""
    sample_tokens: int = Field(48, ge=1)
    """Tokens of the longest such answer."""
