import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data import hub_server

SHOW = """
import json, sys
from trainer.config.data import Source
from trainer.data import sources
from trainer.errors import DataError

for keys in json.loads(sys.argv[1]):
    source = Source(format="text", **keys)
    found = [
        [item.source, item.line, item.values] if isinstance(item, sources.Row) else str(item)
        for item in sources.read(source)
    ]
    try:
        identity, rows = sources.identity(source), sources.count_rows(source)
    except DataError as error:
        identity = rows = str(error)
    print(json.dumps([found, identity, rows, "torch" in sys.modules]))
"""


def show(folder: Path, sources: list[dict[str, Any]], **environment: str) -> list[Any]:
    """What a process finds in sources: rows or problems, the identity, how many rows, and whether it imported torch."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW, json.dumps(sources)],
        env={**os.environ, "HF_HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with hub_server.hub() as address:
        yield address


def test_a_set_is_streamed_by_configuration_split_and_revision(address: str, tmp_path: Path) -> None:
    name = hub_server.NAME
    plain, old, single = show(
        tmp_path,
        [
            {"path": name, "config": "plain", "split": "train"},
            {"path": name, "config": "plain", "split": "test", "revision": "old"},
            {"path": name, "config": "single"},
        ],
        HF_ENDPOINT=address,
    )
    assert plain[0] == [[f"{name}:train", number + 1, {"text": f"row {number}", "n": number}] for number in range(2500)]
    assert old[0] == [[f"{name}:test", 1, {"text": "old", "n": 0}]]
    assert single[0] == [[f"{name}:train", 1, {"text": "single"}]]
    assert plain[1][-1] == single[1][-1] == hub_server.COMMITS["main"] and old[1][-1] == hub_server.COMMITS["old"]
    assert plain[1] != single[1]
    assert [plain[2], old[2], single[2]] == [2500, 7, 1]
    assert not single[3]


def test_what_the_hub_does_not_have_is_said_with_what_it_has(address: str, tmp_path: Path) -> None:
    name = hub_server.NAME
    sources = [
        ({"config": "plain"}, "has the splits train, test; say which beside the path, such as `split: train`"),
        ({"config": "plain", "split": "trian"}, "has no split trian; did you mean train?"),
        ({}, "Config name is missing. Please pick one among the available configs: ['plain', 'single']"),
        ({"config": "other"}, "BuilderConfig 'other' not found. Available: ['plain', 'single']"),
        ({"revision": "new"}, "has no revision new on the hub"),
        ({"path": "owner/sat"}, "no such file or folder, and no set of the hub that you may read"),
    ]
    found = show(tmp_path, [{"path": name, **keys} for keys, _ in sources], HF_ENDPOINT=address)
    for (keys, said), ([problem], *_) in zip(sources, found, strict=True):
        assert problem.startswith(f"{keys.get('path', name)}: ") and said in problem


@pytest.mark.parametrize("environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_that_cannot_be_asked_is_one_error_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    begun = time.monotonic()
    [[[problem], identity, *_]] = show(tmp_path, [{"path": "owner/set", "split": "train"}], **environment)
    assert time.monotonic() - begun < 20
    assert problem == identity and problem.startswith(
        "owner/set: no such file or folder, and the hub cannot be asked ("
    )
    assert "load_dataset('owner/set').save_to_disk(...)" in problem
