"""Goes on from a checkpoint, also where other processes or another engine wrote it."""

import shutil
from collections.abc import Callable
from pathlib import Path

from trainer import ranks
from trainer.checkpoint.folder import read_state
from trainer.engine.engine import Engine, Shards
from trainer.errors import RunError


def load(checkpoint: Path, engine: Engine, say: Callable[[str], None]) -> None:
    """Weights and optimizer of a checkpoint into an engine that is prepared; all ranks call it."""
    saved, wanted = Shards(**read_state(checkpoint)["shards"]), engine.shards
    whole = saved.zero == wanted.zero == 0 and saved.engine == wanted.engine
    if saved == wanted or whole:
        engine.load_state(checkpoint)
        return
    # Weights that began in different phases have made different numbers of steps; stage 3, and what reads shares, keep
    # one number for all.
    if read_state(checkpoint).get("phase") and (saved.zero == 3 or wanted.zero > 0):
        message = f"{checkpoint.name} of {saved} is in a later phase of its strategy, which {wanted} does not read"
        raise RunError(f"{message}; go on with the same engine, stage and processes")
    scratch = checkpoint.with_name(f".{checkpoint.name}-universal")
    say(f"Converting {checkpoint.name} of {saved} for {wanted} ...")
    problem = _convert(checkpoint, scratch, saved) if ranks.is_main() else None
    try:
        if problem := ranks.broadcast(problem):
            raise RunError(f"{checkpoint.name} of {saved} could not be converted for {wanted}: {problem}")
        engine.load_universal(scratch)
        ranks.barrier()
    finally:
        if ranks.is_main():
            shutil.rmtree(scratch, ignore_errors=True)


def _convert(checkpoint: Path, scratch: Path, saved: Shards) -> str | None:
    """Fills `scratch`; what went wrong, so that the other ranks need not wait for ever."""
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()
        if saved.engine == "torch":
            from trainer.engine import torch as plain

            plain.convert(checkpoint, scratch)
        else:
            from trainer.engine import deepspeed_convert

            deepspeed_convert.convert(checkpoint, scratch, saved.zero)
    except (OSError, RuntimeError, KeyError, AssertionError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None
