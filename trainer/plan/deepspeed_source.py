"""The user's own DeepSpeed configuration: a JSON file, a preset of ds_configs/, or a mapping in the recipe."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import assets
from trainer.config.deepspeed_keys import unknown_keys, wrong_sections
from trainer.errors import Problem, RecipeError, did_you_mean

_KEY = "engine.deepspeed"


@dataclass(frozen=True)
class Source:
    """What the user wrote, and where."""

    value: dict[str, Any]
    file: Path | None = None
    """The file that it was read from; None for a mapping in the recipe."""

    def problem(self, path: str, message: str) -> Problem:
        """A problem with the value at a dotted path, at its line where it stands in a file."""
        if self.file is None:
            return Problem(f"{_KEY}.{path}", message)
        return Problem(f"{self.file}:{self._line(path)}", f"{path}: {message}")

    def get(self, path: str) -> Any:
        """The value at a dotted path; None where it is absent or left to us (`auto`)."""
        value: Any = self.value
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value == "auto" else value

    def problems(self) -> list[Problem]:
        """Every key that DeepSpeed does not know, and every value that should be a section."""
        unknown = [self.problem(path, f"no such key of DeepSpeed{hint}") for path, hint in unknown_keys(self.value)]
        wrong = [self.problem(path, f"{self.get(path)!r}: must be a section") for path in wrong_sections(self.value)]
        return unknown + wrong

    def _line(self, path: str) -> int:
        """The line of the last key of the path, each key looked for behind the one before."""
        assert self.file is not None
        text, position = self.file.read_text(encoding="utf-8"), 0
        for key in path.split("."):
            match = re.compile(rf"{re.escape(json.dumps(key))}\s*:").search(text, position)
            position = match.start() if match else position
        return text.count("\n", 0, position) + 1


def presets() -> dict[str, Path]:
    """The presets that ship with the package: name -> file."""
    return {path.stem: path for path in sorted(assets.folder("ds_configs").glob("*.json"))}


def read(setting: str | dict[str, Any] | None) -> Source | None:
    """The configuration behind `engine.deepspeed`; None where the recipe names none.

    Raises:
        RecipeError: there is no such file, or it is not a JSON object.
    """
    if setting is None:
        return None
    if not isinstance(setting, str):
        return Source(setting)
    if setting in presets():
        return Source(_load(presets()[setting]), presets()[setting])
    path = Path(setting).expanduser()
    if not path.is_file():
        message = f"{setting}: neither a JSON file nor a preset{did_you_mean(setting, presets())}"
        raise RecipeError([Problem(_KEY, message)])
    return Source(_load(path), path)


def preset(zero: int) -> dict[str, Any]:
    """The preset of a ZeRO stage; stage 0 shares nothing out and needs none."""
    return _load(presets()[f"zero{zero}"]) if zero else {}


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise RecipeError([Problem(f"{path}:{error.lineno}", f"is not JSON: {error.msg}")]) from None
    except (ValueError, OSError) as error:
        raise RecipeError([Problem(str(path), f"cannot be read: {error}")]) from None
    if not isinstance(value, dict):
        raise RecipeError([Problem(str(path), f"holds a {type(value).__name__} where a JSON object belongs")])
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there twice; keep one")
    return dict(pairs)
