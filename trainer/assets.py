"""Finds the files that ship with the package: in a wheel beside it, in a checkout at the top level."""

from pathlib import Path

KINDS = ("ds_configs", "launchers", "benchmarks/suites")

_HERE = Path(__file__).resolve().parent


def folder(kind: str) -> Path:
    """The folder of one kind of asset, such as `ds_configs`."""
    assert kind in KINDS, kind
    installed = _HERE / "_assets" / kind
    return installed if installed.is_dir() else _HERE.parent / kind


def recipes() -> dict[str, Path]:
    """The recipe gallery: name -> file, sorted by name."""
    return {path.stem: path for path in sorted((_HERE / "recipes").glob("*.yaml"))}
