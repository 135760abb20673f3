import json
from pathlib import Path

from trainer.bench import machine

ROOT = Path(__file__).resolve().parents[2]


def test_the_hardware_is_told_as_json() -> None:
    told = machine.hardware()

    assert told["cores"] >= 1
    assert told["memory_bytes"] > 2**28
    assert json.loads(json.dumps(told)) == told


def test_the_sources_are_those_of_the_checkout() -> None:
    told = machine.sources()

    assert (told["commit"] is not None) == (ROOT / ".git").exists()
    assert told["commit"] is None or len(told["commit"]) == 40
