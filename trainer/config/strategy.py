"""`strategy:` what trains, and when."""

from typing import Literal

from trainer.config.section import Section


class Strategy(Section):
    """Which parameters train in which phase."""

    kind: Literal["full"] = "full"
    """full: everything that the adapter left trainable, from the first step to the last."""
