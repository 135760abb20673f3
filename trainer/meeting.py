"""How processes find one another: addresses, interfaces, and who has come."""

import fcntl
import socket
import struct
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from trainer.errors import RunError

_SIOCGIFADDR = 0x8915
_HERE = "here"
_SHOWN = 8
_LOOK_SECONDS = 0.2


def interface_to(address: str, port: int) -> str | None:
    """The network interface of this machine that leads to an address; None where that cannot be told.

    No packet is sent: a datagram socket that is connected knows its own address. IPv4 alone.
    """
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, port))
        own = asking.getsockname()[0]
        if own.startswith("127."):
            return "lo"
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # one without an address
                request = struct.pack("256s", name.encode()[:15])
                held = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)[20:24]
                if socket.inet_ntoa(held) == own:
                    return name
    return None


def listen(address: str, port: int) -> int:
    """The descriptor of a socket that listens on this address alone, for a store to take over; RunError if it cannot.

    torch's own listens on every interface.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family).detach()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot listen on {address}:{port} ({reason}): is it an address of the first node?") from None


def is_name(address: str) -> bool:
    """Whether an address is a name, which each machine may read in its own way."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, address)
            return False
    return True


def wait_for(address: str, port: int, patience: float) -> None:
    """Returns once something listens there; RunError after `patience` seconds, with the last reason."""
    deadline, reason = time.monotonic() + patience, "nothing was tried"
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, port), timeout=max(1.0, min(10.0, patience))).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
        time.sleep(_LOOK_SECONDS)
    raise RunError(
        f"{socket.gethostname()} could not reach {address}:{port} within {patience:.0f} seconds ({reason}): is the "
        "first node up, launch.address its address, and launch.port open between the nodes?"
    )


def gather_all(store: Any, rank: int, ranks: int, place: str, patience: timedelta) -> None:
    """Returns on every rank once all have come to the store at `place`; RunError where some do not."""
    store.set(f"{_HERE}/{rank}", socket.gethostname())
    if rank:
        try:
            # Longer than rank 0 waits, so that it is the one to tell who is missing.
            store.wait([f"{_HERE}/all"], patience + timedelta(seconds=30))
        except RuntimeError:
            raise RunError(f"rank {rank} waited at {place} in vain: rank 0 has left, or not all have come") from None
        return
    deadline = time.monotonic() + patience.total_seconds()
    missing = list(range(ranks))
    while missing := [other for other in missing if not store.check([f"{_HERE}/{other}"])]:
        if time.monotonic() > deadline:
            raise RunError(
                f"{len(missing)} of {ranks} ranks did not come to {place} within {patience.total_seconds():.0f} "
                f"seconds (launch.patience): {ranges(missing)}; look at what started them"
            )
        time.sleep(_LOOK_SECONDS / 4)
    store.set(f"{_HERE}/all", "")


def ranges(numbers: list[int]) -> str:
    """Sorted numbers in few words, such as `0 to 7, 12`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    shown = [str(first) if first == last else f"{first} to {last}" for first, last in spans[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(spans) - _SHOWN} more" if len(spans) > _SHOWN else "")
