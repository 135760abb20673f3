"""The embedded default rows: the documented functions of Python's own standard library, read from its source files."""

import ast
import functools
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from trainer.errors import DataError, Problem

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
    """Rows {instruction, output}, sorted by module and line, each once; DataError where there are no source files."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = dict.fromkeys(_all_rows(folder)) if folder.is_dir() else {}
    if not found:
        message = f"this Python has no source files of its standard library in {folder}; name a file in data.train"
        raise DataError([Problem("builtin:stdlib", message)])
    return [{"instruction": instruction, "output": output} for instruction, output in found]


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
