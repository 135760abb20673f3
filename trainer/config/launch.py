"""`launch:` which processes run, and where."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section


class Launch(Section):
    """How the processes of a run are started."""

    kind: Literal["local"] = "local"
    """local: on this machine, watched by the command itself."""
    processes: Literal["auto"] | int = "auto"
    """Processes on each node; auto: one for each CUDA device, one on a machine without."""
    address: str = "127.0.0.1"
    """The address that the processes meet at."""
    port: int | None = Field(None, ge=1, le=65535)
    """The port that the processes meet at; null: any free one."""
