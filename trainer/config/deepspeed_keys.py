"""Every key that DeepSpeed reads from its JSON.

DeepSpeed itself takes a misspelt top-level section (`zero_optimisation`) in silence and runs as stage 0, so its JSON is
checked here. The table beside this file, deepspeed_keys.json, is generated: a section is a mapping of its keys, null is
a value or a section whose keys DeepSpeed leaves open. This writes it again from the installed DeepSpeed, and the test
of the same name compares the two:

    python tests/config/test_deepspeed_keys.py
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import did_you_mean


@functools.cache
def _table() -> dict[str, Any]:
    return dict(json.loads(Path(__file__).with_name("deepspeed_keys.json").read_text(encoding="utf-8")))


def unknown_keys(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Dotted path of every key that DeepSpeed does not read, and what to do about it."""
    return list(_unknown(mapping, _table()["keys"], _table()["removed"], ""))


def wrong_sections(mapping: Mapping[str, Any]) -> list[str]:
    """Dotted path of every section that holds a plain value where DeepSpeed reads keys; `auto` and null are none."""
    return list(_wrong(mapping, _table()["keys"], ""))


def _unknown(
    mapping: Mapping[str, Any], known: dict[str, Any], removed: dict[str, Any], stem: str
) -> Iterator[tuple[str, str]]:
    for key, value in mapping.items():
        path = f"{stem}{key}"
        if key not in known:
            gone = key in removed and removed[key] is None
            yield path, "; DeepSpeed has removed it: leave it out" if gone else did_you_mean(str(key), known)
        elif isinstance(value, Mapping) and known[key] is not None:
            yield from _unknown(value, known[key], removed.get(key) or {}, f"{path}.")


def _wrong(mapping: Mapping[str, Any], known: dict[str, Any], stem: str) -> Iterator[str]:
    for key, value in mapping.items():
        section = known.get(key)
        if section is None or value is None or value == "auto":
            continue
        if isinstance(value, Mapping):
            yield from _wrong(value, section, f"{stem}{key}.")
        else:
            yield f"{stem}{key}"
