"""A signal asks the run to save and leave; it is looked at between two optimizer steps."""

import signal
from types import FrameType


class StopRequest:
    """Whether SIGTERM or SIGINT came."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """From now on both signals are noted instead of ending the process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
