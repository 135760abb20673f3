"""The card of an adapter: README.md beside its weights, with what its certificate found."""

from pathlib import Path

from trainer.adapter.certificate import ALLOWED, Certificate
from trainer.config.adapter import Thin
from trainer.config.recipe import Recipe

CARD = "README.md"


def card(recipe: Recipe, issued: Certificate, head: str, tokens: bool) -> str:
    """As Markdown with the head that hubs read; `tokens`: whether rows for new tokens are needed first."""
    model = recipe.model
    name = str(model.name)
    # What lies in a folder of somebody's machine is nobody's model.
    front = [] if Path(name).exists() else [f"base_model: {name}"]
    lines = ["---", *front, "library_name: peft", "tags:", f"- {recipe.adapter.kind}", "- shardtune", "---", ""]
    lines += [f"# {recipe.adapter.kind} for {Path(name).name}", "", _what(recipe), ""]
    lines += ["    from peft import PeftModel", f"    from transformers import {head}, AutoTokenizer", ""]
    lines += [f'    model = {head}.from_pretrained("{name}"{_revision(recipe)})']
    if tokens:
        lines += ['    tokenizer = AutoTokenizer.from_pretrained("FOLDER")']
        lines += ["    model.resize_token_embeddings(len(tokenizer))"]
    lines += ['    model = PeftModel.from_pretrained(model, "FOLDER")', "", *_certified(recipe, issued)]
    return "\n".join(lines) + "\n"


def _what(recipe: Recipe) -> str:
    adapter, model = recipe.adapter, recipe.model
    rank = f" of rank {adapter.r}" if isinstance(adapter, Thin) else ""
    stored = f" that lies in {model.quantization}" if model.quantization != "none" else ""
    return f"An adapter ({adapter.kind}{rank}) for {recipe.task.kind}, trained in {model.dtype} on a base{stored}."


def _revision(recipe: Recipe) -> str:
    return f', revision="{recipe.model.revision}"' if recipe.model.revision else ""


def _certified(recipe: Recipe, issued: Certificate) -> list[str]:
    """The figures."""
    found = [
        ("tensors, read back and equal bit by bit", f"{issued.tensors:,}"),
        ("of them nothing but zeros", f"{issued.zeros:,}"),
        ("bytes", f"{issued.nbytes:,}"),
    ]
    if issued.difference is not None:
        allowed = f"{ALLOWED[recipe.model.dtype]:g} is allowed"
        differs = "outputs of another process that loads it, less the run's, as a part of their norm"
        found.append((differs, f"{issued.difference:.1e} ({allowed})"))
    return ["| checked when it was saved | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found)]
