"""`adapter:` small trainable modules beside a frozen model."""

from typing import Literal

from trainer.config.section import Section


class Adapter(Section):
    """Which adapter is added to the model."""

    kind: Literal["none"] = "none"
    """none: the model itself trains."""
