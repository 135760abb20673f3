"""What all tests share: one living pair of ranks, and small real models and rows."""

import signal
from collections.abc import Iterator

import pytest
from distributed.pair import Pair


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokens that an earlier test run left are not found, and none are left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """Two gloo ranks that live as long as the test run."""
    living = Pair()
    yield living
    living.close()


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C reaches what the tests start, also where the tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the work of the known loss curve lies, which is too large for the repository."""
    parser.addoption(
        "--curve", metavar="FOLDER", help="a folder with model/ and data/train.jsonl of the known loss curve"
    )
