"""From what a recipe names to the files and sets that hold the rows."""

import difflib
import glob
import json
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config.data import Source
from trainer.errors import DataError, Problem, did_you_mean

TEXTS = {
    ".jsonl": "jsonl",
    ".json-lines": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".md": "text",
}
"""The kind of a file of text by its ending; each may be zipped, with .gz after it."""
KINDS = {**TEXTS, ".parquet": "parquet", ".arrow": "arrow"}
BUILTIN = "builtin:"
SUPPORTED = f"{', '.join(KINDS)} (those of text also with .gz after it)"
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_NO_SET = ("names files", "split", "config", "revision")
_WILD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class File:
    """A file with rows."""

    name: str
    """What the recipe calls it, or would."""
    path: Path
    kind: str


@dataclass(frozen=True)
class Builtin:
    """Rows that need no file."""

    name: str
    """`builtin:` and what comes after it."""


@dataclass(frozen=True)
class HubSet:
    """A set on the Hugging Face hub."""

    name: str
    """owner/name."""
    config: str | None
    split: str | None
    revision: str | None


Part = File | Builtin | HubSet


def parts(source: Source) -> list[Part]:
    """What holds the rows of a source, in the order in which they are read; DataError with all that cannot be read.

    The files of a glob or a folder are sorted by name.
    """
    found: list[Part] = []
    problems: list[Problem] = []
    for name in (source.path,) if isinstance(source.path, str) else source.path:
        try:
            found += _parts(name, source)
        except DataError as error:
            problems += error.problems
        except OSError as error:
            problems.append(Problem(name, f"cannot be read: {error.strerror or error}"))
    problems += [Problem(name, "is named twice; name it once") for name in _twice(part.name for part in found)]
    if problems:
        raise DataError(problems)
    return found


def choose_split(name: str, wanted: str | None, known: Sequence[str]) -> str:
    """The split of a set that is read; DataError where it must be named, or is none of those it has."""
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is not None and wanted in known:
        return wanted
    if wanted is None:
        message = f"has the splits {', '.join(known)}; say which beside the path, such as `split: {known[0]}`"
    else:
        message = f"has no split {wanted}{did_you_mean(wanted, known)}"
    raise DataError([Problem(name, message)])


def neighbours(path: Path) -> str:
    """The files beside a path that the user may have meant, as the end of a sentence."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    names = sorted(other.name for other in folder.iterdir() if _kind(other))
    stems = difflib.get_close_matches(path.stem, {Path(other).stem for other in names}, n=3, cutoff=0.6)
    near = [str(folder / other) for other in names if Path(other).stem in stems]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if names:
        return f"; {folder} holds {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
    return f"; {folder.resolve()} holds no file that ends in {SUPPORTED}"


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)


def _parts(name: str, source: Source) -> Sequence[Part]:
    if name.startswith(BUILTIN):
        _refuse(name, source, "is built in", "split", "config", "revision", "encoding")
        return [Builtin(name)]
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(name, path, source)
    if path.exists():
        _refuse(name, source, *_NO_SET)
        return _files([(name, path)], source)
    if _WILD.search(name):
        _refuse(name, source, *_NO_SET)
        # pathlib's own takes hidden files, too.
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
        files = [(str(match), match) for match in matches if not match.is_dir()]
        if not files:
            raise DataError([Problem(name, f"matches no file{neighbours(path)}")])
        return _files(files, source)
    if _HUB_NAME.fullmatch(name) and path.suffix.lower() not in (*KINDS, ".gz"):
        _refuse(name, source, "is no file or folder, so it is a set of the hub", "encoding")
        return [HubSet(name, source.config, source.split, source.revision)]
    raise DataError([Problem(name, f"no such file{neighbours(path)}")])


def _refuse(name: str, source: Source, what: str, *keys: str) -> None:
    """DataError where a key is given that such a source has not."""
    given = [key for key in keys if getattr(source, key) is not None]
    if given:
        raise DataError([Problem(name, f"{what}, and has no {' or '.join(given)}; leave out {', '.join(given)}")])


def _files(named: Iterable[tuple[str, Path]], source: Source) -> list[File]:
    """The files of some names and paths; DataError with all those that cannot be read."""
    found, problems = list[File](), list[Problem]()
    for name, path in named:
        try:
            found.append(_file(name, path, source))
        except DataError as error:
            problems += error.problems
        except OSError as error:
            problems.append(Problem(name, f"cannot be read: {error.strerror or error}"))
    if problems:
        raise DataError(problems)
    return found


def _file(name: str, path: Path, source: Source) -> File:
    """A file by its ending; DataError where it is none that can be read."""
    kind, status = _kind(path), path.stat()
    if not stat.S_ISREG(status.st_mode):
        what = "a pipe" if stat.S_ISFIFO(status.st_mode) else "a device"
        raise DataError([Problem(name, f"is {what}, not a file, and rows are read more than once; write a file first")])
    if kind is None:
        ending = f"ends in {path.suffix}" if path.suffix else "has no ending"
        raise DataError([Problem(name, f"{ending}; the files that can be read end in {SUPPORTED}")])
    if kind not in TEXTS.values():
        _refuse(name, source, f"is a file of the kind {kind}", "encoding")
    if kind != "text" and status.st_size == 0:
        raise DataError([Problem(name, "is empty; it needs at least one row")])
    return File(name, path, kind)


def _kind(path: Path) -> str | None:
    """What a file holds, by its ending; None where nothing is known of it."""
    if path.suffix.lower() == ".gz":
        return TEXTS.get(Path(path.stem).suffix.lower())
    return KINDS.get(path.suffix.lower())


def _folder(name: str, path: Path, source: Source) -> list[File]:
    """The files of one kind below a folder, hidden ones left out; or those of a set that `datasets` saved."""
    if (path / "dataset_dict.json").is_file():
        split = choose_split(name, source.split, _read_names(name, path / "dataset_dict.json", "splits"))
        return _saved(str(Path(name) / split), path / split, source)
    if (path / "state.json").is_file():
        _refuse(name, source, "is one set that `datasets` saved", "split")
        return _saved(name, path, source)
    _refuse(name, source, "is a folder that `datasets` did not save", "split", "config", "revision")
    inside = (other.relative_to(path) for other in path.rglob("*") if _kind(other) and other.is_file())
    files = sorted(other for other in inside if not any(part.startswith(".") for part in other.parts))
    kinds = sorted({str(_kind(file)) for file in files})
    if not files:
        raise DataError([Problem(name, f"is a folder without a file that ends in {SUPPORTED}")])
    if len(kinds) > 1:
        message = f"holds files of {' and '.join(kinds)}; name those of one kind, such as {name}/**/*{files[0].suffix}"
        raise DataError([Problem(name, message)])
    return _files(((str(Path(name) / file), path / file) for file in files), source)


def _saved(name: str, path: Path, source: Source) -> list[File]:
    """The Arrow files of one split that `datasets` saved."""
    _refuse(name, source, "is a folder that `datasets` saved", "config", "revision", "encoding")
    files = _read_names(name, path / "state.json", "_data_files")
    return _files(((str(Path(name) / file), path / file) for file in files), source)


def _read_names(name: str, path: Path, key: str) -> list[str]:
    """A list of names in one of the files with which `datasets` describes what it saved."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    listed = content.get(key) if isinstance(content, dict) else None
    entries = listed if isinstance(listed, list) else [None]
    names = [entry.get("filename") if isinstance(entry, dict) else entry for entry in entries]
    if all(isinstance(entry, str) for entry in names):
        return [str(entry) for entry in names]
    raise DataError([Problem(name, f"is no folder that `datasets` saved: {path.name} holds no list {key} of names")])
