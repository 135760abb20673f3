"""The functions of bitsandbytes, imported when they are first needed, since that takes a second."""

import functools
import logging
from typing import Any


@functools.cache
def bitsandbytes() -> Any:
    """Its module `functional`."""
    # At its import it tells of an optional package for 4-bit products, which no moment needs.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from bitsandbytes import functional

    return functional
