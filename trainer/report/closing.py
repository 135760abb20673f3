"""The last words of a run: where the model is, how to look at the curves, and what the model says now."""

import json
import sys
from pathlib import Path
from typing import Any

_SHOWN = 160
"""Characters of a prompt or an answer on the screen."""


def closing(folder: Path) -> str:
    """What a finished run folder has to say."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    lines = ["", _result(folder, summary)]
    first, best = summary["validation"]["first"], summary["best"]
    if best is not None and first is not None:
        [metric] = best.keys() - {"step"}
        ratio = f" ({best[metric] / first:.2f} of the start)" if metric == "loss" else ""
        lines.append(f"Validation {metric}: {first:.4f} before, {best[metric]:.4f} at step {best['step']}{ratio}")
    if (test := summary["test"]) is not None:
        measured = ", ".join(f"{name} {value:.4f}" for name, value in test.items() if name not in ("loss", "targets"))
        over = measured or f"over {test['targets']:,} learned tokens"
        lines.append(f"Test loss: {test['loss']:.4f} of the final model, {over}")
    if (rate := summary["tokens_per_second"]) is not None:
        lines.append(f"Speed: {rate:,.0f} tokens/s; {summary['steps']} steps in {summary['wall_seconds']:.0f} s")
    if (folder / "tensorboard").is_dir():
        lines.append(f"Curves: {_beside_python('tensorboard')} --logdir {folder / 'tensorboard'}")
    samples = folder / "samples.json"
    if samples.exists():
        held = json.loads(samples.read_text(encoding="utf-8"))
        for before, after in zip(held.get("before", []), held.get("after", []), strict=False):
            lines += _side_by_side(before, after)
    return "\n".join(lines)


def _result(folder: Path, summary: dict[str, Any]) -> str:
    """Where the model is, or the adapter and what it belongs to."""
    adapter = folder / "adapter"
    if not adapter.is_dir():
        model = folder / "model"
        return f"Model: {model}" if model.is_dir() else "Nothing was saved, as checkpoint.save says."
    base = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    return f"Adapter: {adapter}, for {base}{_certified(summary.get('adapter'))}"


def _certified(told: dict[str, Any] | None) -> str:
    """What was found when it was read again."""
    if told is None:
        return ""
    size = f"{told['tensors']} tensors, {told['nbytes'] / 2**20:,.1f} MiB"
    if told["difference"] is None:
        return f"; read again: {size}"
    return f"; read again: {size}; another process that loads it says the same (difference {told['difference']:.0e})"


def _beside_python(program: str) -> str:
    """A program of this environment, as it can be typed from here whether the environment is activated or not."""
    path = Path(sys.executable).with_name(program)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _side_by_side(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    rows = (
        ("Prompt", before["prompt"]),
        ("Before", before["answer"]),
        ("After", after["answer"]),
        ("The row", before["reference"]),
    )
    return ["", *(f"{name + ':':9}{_short(text)}" for name, text in rows)]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"
