"""A pretrained model as it lies on the disk: its folder, its config.json, and the names and shapes of its weights."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainer.config.model import Model
from trainer.errors import Problem, RecipeError, did_you_mean
from trainer.ranks import hub_cache

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_HOLDS = "a transformers folder holds config.json, model.safetensors and the tokenizer's files"
# Far above any real header; a file whose first bytes say more is damaged.
_LONGEST_HEADER = 100_000_000


def folder(model: Model) -> Path | None:
    """Where the model of `model.name` lies; None where it is a hub id that is not downloaded yet.

    Raises:
        RecipeError: the name is a path without a transformers folder behind it.
    """
    assert model.name is not None, "only a pretrained model has a folder"
    path = Path(model.name).expanduser()
    if (path / _CONFIG).is_file():
        return path
    if path.is_dir():
        raise _wrong(f"{model.name} has no {_CONFIG}; {_HOLDS}{_inside(path)}")
    if path.is_file():
        raise _wrong(f"{model.name} is a file; name the folder around it: {_HOLDS}")
    if model.name.startswith((".", "/", "~")) or model.name.count("/") > 1:
        raise _wrong(f"no such folder: {model.name}; {_HOLDS}{_beside(path)}")
    return _cached(model.name, model.revision or "main")


def settings(path: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        RecipeError: the file is not a JSON object.
    """
    return _json(path / _CONFIG)


def stored(path: Path) -> tuple[str, bool]:
    """How the weights of a folder lie there: none, as a value of `model.quantization`, or a method that is none of
    these; and whether their scales are quantized too.
    """
    told = settings(path).get("quantization_config") or {}
    if not told:
        return "none", False
    if told.get("load_in_8bit"):
        return "int8", False
    if told.get("load_in_4bit"):
        return str(told.get("bnb_4bit_quant_type", "fp4")), bool(told.get("bnb_4bit_use_double_quant"))
    return str(told.get("quant_method", "unknown")), False


def shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Name and shape of every tensor in the model's safetensors files; None where its weights are pickled.

    Only the headers are read, never the weights.

    Raises:
        RecipeError: a weight file is missing or damaged.
    """
    if (path / _INDEX).is_file():
        weight_map = _json(path / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise RecipeError([Problem(str(path / _INDEX), f"has no weight_map; get the folder again, {_HOLDS}")])
        return _headers(path / file for file in sorted(set(weight_map.values())))
    if (path / _SINGLE).is_file():
        return _headers([path / _SINGLE])
    if any((path / name).is_file() for name in _PICKLED):
        return None
    raise _wrong(f"{path} has a {_CONFIG} and no weights; {_HOLDS}")


def vocabulary(path: Path, model: Model) -> int | None:
    """Tokens of the model's tokenizer and those of `model.add_tokens`; None where tokenizer.json does not tell."""
    place = Path(model.tokenizer).expanduser() if isinstance(model.tokenizer, str) else path
    file = place / "tokenizer.json"
    if not file.is_file():
        return None
    content = _json(file)
    try:
        entries = content["model"]["vocab"]
        known = {str(entry if isinstance(entries, dict) else entry[0]) for entry in entries}
        known |= {str(token["content"]) for token in content.get("added_tokens") or ()}
    except (KeyError, TypeError, IndexError):
        return None
    return len(known.union(model.add_tokens))


def _headers(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    problems = []
    for file in files:
        try:
            found.update(_header(file))
        except (OSError, ValueError) as error:
            problems.append(Problem(str(file), f"cannot be read as safetensors ({error}); get the file again"))
    if problems:
        raise RecipeError(problems)
    return found


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in one file; the size of the file is compared with what the header promises."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(size, _LONGEST_HEADER):
            raise ValueError("its header has no sensible length")
        header = json.loads(stream.read(length))
    try:
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        found = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (AttributeError, KeyError, TypeError):
        raise ValueError("its header does not describe tensors") from None
    if size < end:
        raise ValueError(f"it ends after {size} of {end} bytes")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RecipeError(
            [Problem(f"{path}:{error.lineno}", f"is not JSON: {error.msg}; get the file again")]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([Problem(str(path), f"cannot be read: {error}")]) from None
    if not isinstance(value, dict):
        raise RecipeError([Problem(str(path), f"holds a {type(value).__name__} where a JSON object belongs")])
    return value


def _cached(name: str, revision: str) -> Path | None:
    """The snapshot of a hub id in the hub client's cache, or None."""
    home = hub_cache() / f"models--{name.replace('/', '--')}"
    reference = home / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = home / "snapshots" / commit
    return snapshot if (snapshot / _CONFIG).is_file() else None


def _wrong(message: str) -> RecipeError:
    return RecipeError([Problem("model.name", message)])


def _models_in(path: Path) -> list[str]:
    return sorted(entry.parent.name for entry in path.glob(f"*/{_CONFIG}"))


def _inside(path: Path) -> str:
    """`; did you mean X?` where folders below hold models."""
    below = _models_in(path)[:5]
    return f"; did you mean {' or '.join(str(path / name) for name in below)}?" if below else ""


def _beside(path: Path) -> str:
    """What is there in place of a missing folder, as far as its parent exists."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent} either"
    return did_you_mean(path.name, _models_in(path.parent))
