"""Scripts that run on this machine until the run ends, and start what runs on others."""

import subprocess
from pathlib import Path

from trainer.launch.job import Job, Sent
from trainer.launch.watch import Signals


def hand_over(job: Job, script: Path) -> Sent:
    """Runs a script to its end; a signal that reaches this process is the script's."""
    with Signals() as signals:
        # In a session of its own, so that Ctrl-C reaches it once: a second signal would end a run that is saving.
        child = subprocess.Popen(["bash", str(script)], start_new_session=True)
        passed = 0
        while True:
            try:
                status = child.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                for number in signals.received[passed:]:
                    child.send_signal(number)
                passed = len(signals.received)
    return Sent("", status if status >= 0 else 128 - status)
