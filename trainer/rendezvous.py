"""torchrun, with a c10d rendezvous that listens on the address that it is named alone: `--rdzv-backend=shardtune`.

    python -m trainer.rendezvous [what torchrun takes]

torch's own listens on every interface of the first node.
"""

import socket
from contextlib import suppress
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore, run  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

_BACKEND = "shardtune"
_PORT = 29400
_SECONDS = timedelta(seconds=60)
"""For one answer of the store; nodes wait for one another as long as `join_timeout` says."""


class _Backend(C10dRendezvousBackend):
    """torch's own, by the name that torchrun asked for."""

    @property
    def name(self) -> str:
        """As torchrun compares it."""
        return _BACKEND


def main() -> None:
    """Runs torchrun, which ends the process."""
    rendezvous_handler_registry.register(_BACKEND, _create)
    run.main()


def _create(parameters: RendezvousParameters) -> RendezvousHandler:
    address, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=_PORT)
    store = _store(address, port)
    return create_handler(store, _Backend(store, parameters.run_id), parameters)


def _store(address: str, port: int) -> Any:
    """The store at an address: hosted here where the address is one of this machine and still free."""
    listener = None
    with suppress(OSError):
        listener = socket.create_server((address, port))
    if listener is None:
        return TCPStore(address, port, is_master=False, timeout=_SECONDS)
    port = listener.getsockname()[1]
    # The store closes the descriptor.
    return TCPStore(
        address, port, is_master=True, wait_for_workers=False, timeout=_SECONDS, master_listen_fd=listener.detach()
    )


if __name__ == "__main__":
    main()
