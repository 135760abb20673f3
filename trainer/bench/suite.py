"""What a suite says: which recipes are measured, how long, how often, and what they are held against."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from trainer.config.section import Section

Overrides = dict[str, Any]
"""Sections of a recipe that stand above those of the suite's recipe, and `rows` above the suite's rows."""
Measure = Literal[
    "seconds_per_step",
    "seconds_per_token",
    "processor_seconds_per_token",
    "memory_above_imports",
    "peak_memory",
    "startup_seconds",
]
"""What growth is fitted to; peak_memory is that of the device, else of the host."""


class Settings(BaseModel):
    """Settings of a suite; as those of a recipe, frozen and closed to unknown keys."""

    model_config = Section.model_config


class Steps(Settings):
    """Optimizer steps of each run."""

    warm_up: int = Field(2, ge=0)
    """The first steps, which are left out."""
    measured: int = Field(10, ge=2)
    """Those after them."""


class MadeRows(Settings):
    """Rows that are made for the suite, of words that nobody speaks."""

    count: int = Field(512, ge=1)
    """Rows."""
    words: int = Field(200, ge=1)
    """Words a row; each becomes one token at least."""
    vocabulary: int = Field(2000, ge=1)
    """Different words, each as often as the others."""
    asked: int = Field(0, ge=0)
    """Words of a row that stand in a question, whose answer has the others and alone is learned: rows of the format
    chat. 0: there is none, and rows are text."""

    @property
    def format(self) -> str:
        """That of the rows."""
        return "chat" if self.asked else "text"


class Sweep(Settings):
    """One size that grows while all others stay, and how cost may grow with it."""

    values: tuple[int, ...] = Field(min_length=2)
    """The sizes."""
    keys: tuple[str, ...] = Field(min_length=1)
    """What takes the size: keys of the recipe, and `rows.count`, `rows.words` and `rows.vocabulary`."""
    overrides: Overrides = Field(default_factory=dict, alias="with")
    """What else holds for these rows."""
    fits: dict[Measure, float] = Field(default_factory=dict)
    """What is fitted as size to the power of an exponent, and the largest exponent that the theory allows."""


class Suite(Settings):
    """One suite."""

    name: str
    """What results are called by."""
    about: str = ""
    """What it measures, in a sentence."""
    recipe: str | dict[str, Any]
    """The recipe that all rows begin with: its sections, a file beside the suite, or a name of `shardtune recipes`."""
    made_model: bool = False
    """Whether the new model of the recipe is made once, by one step, and all rows begin with its weights, which
    adapters need."""
    rows: MadeRows | None = None
    """Rows that are made for it; null: those of the recipe."""
    variants: dict[str, Overrides | None] = Field(default_factory=dict)
    """Rows of the suite by their names."""
    matrix: dict[str, dict[str, Overrides | None]] = Field(default_factory=dict)
    """Axes, each a mapping from a label to overrides; the product of all of them is measured."""
    sweeps: dict[str, Sweep] = Field(default_factory=dict)
    """Sizes that grow, each by itself."""
    reference: str | dict[str, str] | None = None
    """The row that losses and rates are held against; labels of some axes of the matrix: for each row the one that has
    these, and its own of the others; null: none."""
    results: bool = False
    """Whether what each run leaves counts too: it is saved, and told by its validation, its parameters that train and
    its bytes."""
    rounds: int = Field(3, ge=1)
    """How often each row is run; rounds are interleaved, A B C A B C."""
    steps: Steps = Field(default_factory=Steps)
    """How long each run is."""
    threads: int = Field(1, ge=1)
    """Processor threads of each process, which stays on as many cores."""
    limit_seconds: float = Field(900.0, gt=0.0)
    """A run that takes longer is ended and told as such."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of new weights, of the order of rows and of made rows."""
    loss_tolerance: float = Field(1e-3, gt=0.0)
    """How far the loss of a step may lie from that of the reference row, as a share of it."""
    measure_peak: bool = False
    """Whether the rate of matrix products is measured on a processor, where no data sheet gives one; MFU is held
    against it, and marked so."""
