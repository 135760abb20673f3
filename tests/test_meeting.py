import socket

import pytest

from trainer import meeting
from trainer.errors import RunError


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([], ""),
        ([3], "3"),
        ([0, 1, 2, 7], "0 to 2, 7"),
        (list(range(0, 40, 2)), "0, 2, 4, 6, 8, 10, 12, 14 and 12 more"),
    ],
)
def test_numbers_in_few_words(numbers: list[int], words: str) -> None:
    assert meeting.ranges(numbers) == words


def test_the_interface_to_this_machine_is_the_loopback() -> None:
    assert meeting.interface_to("127.0.0.1", 80) == "lo"
    assert meeting.interface_to("no such host", 80) is None


def test_the_interface_to_elsewhere_is_one_of_this_machine() -> None:
    found = meeting.interface_to("192.0.2.1", 80)

    assert found is None or found in {name for _, name in socket.if_nameindex()} - {"lo"}


@pytest.mark.parametrize(("address", "name"), [("10.0.0.1", False), ("fe80::1", False), ("node1", True), ("no", True)])
def test_a_name_is_no_number(address: str, name: bool) -> None:
    assert meeting.is_name(address) is name


def test_waiting_ends_when_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        meeting.wait_for("127.0.0.1", listener.getsockname()[1], 5)


def test_waiting_in_vain_is_told() -> None:
    with pytest.raises(RunError, match=r"could not reach no\.such\.host\.invalid:1 within 1 seconds"):
        meeting.wait_for("no.such.host.invalid", 1, 1)
