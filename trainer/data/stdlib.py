"""The embedded default rows: the documented functions of Python's own standard library, read from its source files."""

import ast
import contextlib
import functools
import hashlib
import inspect
import json
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from trainer.errors import DataError, Problem
from trainer.ranks import cache_folder

LEFT_OUT = frozenset(
    {
        "__pycache__",
        "__phello__",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
"""Folders that are no part of what a user of the library reads."""
LONGEST_SIGNATURE = 160
"""Characters; a longer signature is written without its annotations and defaults."""


@functools.cache
def rows() -> list[dict[str, str]]:
    """Rows {instruction, output}, sorted by module and line, each once; DataError where there are no source files.

    Parsing takes seconds, so the rows are kept in the user's cache for the next process with this Python.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    kept = cache_folder() / f"stdlib-{_version(folder)}.json"
    try:
        found = json.loads(kept.read_bytes())
    except (OSError, ValueError):
        found = _parsed(folder)
        _keep(found, kept)
    return [{"instruction": instruction, "output": output} for instruction, output in found]


def _version(folder: Path) -> str:
    """A hash of what the rows depend on: the library, and how this file reads it."""
    parts = f"{sys.version}\0{folder}\0".encode() + Path(__file__).read_bytes()
    return hashlib.blake2b(parts, digest_size=8).hexdigest()


def _parsed(folder: Path) -> list[tuple[str, str]]:
    found = list(dict.fromkeys(_all_rows(folder))) if folder.is_dir() else []
    if not found:
        message = f"this Python has no source files of its standard library in {folder}; name a file in data.train"
        raise DataError([Problem("builtin:stdlib", message)])
    return found


def _keep(found: list[tuple[str, str]], path: Path) -> None:
    # A cache that cannot be written costs time alone.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(found), encoding="utf-8")
        unfinished.replace(path)


def _all_rows(folder: Path) -> Iterator[tuple[str, str]]:
    files = (path.relative_to(folder) for path in folder.rglob("*.py"))
    for path in sorted(files, key=lambda path: path.parts):
        if LEFT_OUT.isdisjoint(path.parts[:-1]):
            yield from _rows_of_file((folder / path).read_bytes(), _module(path))


def _module(path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _rows_of_file(source: bytes, module: str) -> Iterator[tuple[str, str]]:
    if b'"""' not in source and b"'''" not in source:
        return
    with warnings.catch_warnings():
        # Old escapes such as "\d" in the library's own strings.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            # A template that only looks like a module.
            return
    yield from _rows_of_body(tree.body, module, "function")


def _rows_of_body(body: list[ast.stmt], owner: str, kind: str) -> Iterator[tuple[str, str]]:
    """The public documented functions of a module or class, and those of its classes; not functions in functions."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _rows_of_body(node.body, f"{owner}.{node.name}", "method")
        elif isinstance(node, ast.If | ast.Try):
            yield from _rows_of_body([*node.body, *node.orelse], owner, kind)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(node.name):
            paragraph = _first_paragraph(ast.get_docstring(node, clean=False) or "")
            if paragraph:
                yield f"What does this {kind} of `{owner}` do?\n\n{_signature(node)}", paragraph


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def _first_paragraph(docstring: str) -> str:
    """The first paragraph on one line."""
    return " ".join(inspect.cleandoc(docstring).split("\n\n", maxsplit=1)[0].split())


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """`def name(arguments)`, as the source says it; names only where that is long."""
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    arguments = ast.unparse(node.args)
    if len(arguments) > LONGEST_SIGNATURE:
        arguments = ", ".join(
            argument.arg for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        )
    return f"{prefix} {node.name}({arguments})"
