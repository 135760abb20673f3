"""Every adapter with every engine on every kind of base: real runs of a small Llama, each with its certificate.

python benchmarks/adapters.py            runs what is missing, and writes trainer/plan/adapter_pairs.json
python benchmarks/adapters.py --table    prints that file as the table of benchmarks/README.md
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer.plan.adapter_pairs import FILE, Pair, pairs

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "r": 4},
    "lora start=pissa": {"kind": "lora", "r": 4, "start": "pissa"},
    "lora start=olora": {"kind": "lora", "r": 4, "start": "olora"},
    "lora start=loftq": {"kind": "lora", "r": 4, "start": "loftq"},
    "dora": {"kind": "dora", "r": 4},
    "adalora": {"kind": "adalora", "first": 4, "r": 2},
    "ia3": {"kind": "ia3"},
    "vera": {"kind": "vera", "r": 8},
    "oft": {"kind": "oft", "block": 8},
    "prompt": {"kind": "prompt", "tokens": 4},
    "prefix": {"kind": "prefix", "tokens": 4},
    "p_tuning": {"kind": "p_tuning", "tokens": 4, "hidden": 8},
    "peft": {"kind": "peft", "method": "loha", "settings": {"r": 4}},
}
ENGINES: dict[str, dict[str, Any]] = {
    "torch": {"engine": {"kind": "torch"}},
    "torch processes=2": {"engine": {"kind": "torch"}, "launch": {"processes": 2}},
    **{f"zero={zero}": {"engine": {"zero": zero}, "launch": {"processes": 2}} for zero in (1, 2, 3)},
}
STORED = ("none", "nf4", "int8", "fp4")
PACKAGES = ("torch", "deepspeed", "transformers", "peft", "bitsandbytes")
LIMIT = 120
"""Seconds of a run."""


def main() -> None:
    """Runs what is missing, or prints what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table")
    if parser.parse_args().table:
        print(table())
        return
    found = {(one.adapter, one.engine, one.stored): one for one in pairs()}
    with tempfile.TemporaryDirectory() as scratch:
        base = _base(Path(scratch) / "base")
        for stored in STORED:
            for adapter in ADAPTERS:
                for engine in ENGINES:
                    if (adapter, engine, stored) in found:
                        continue
                    pair = _run(Path(scratch), base, adapter, engine, stored)
                    found[adapter, engine, stored] = pair
                    _write([*found.values()])
                    print(f"{adapter}, {engine}, {stored}: {pair.told}", flush=True)


def table() -> str:
    """As Markdown: a row for each adapter, a column for each kind of base."""
    held = {(one.adapter, one.engine, one.stored): one for one in pairs()}
    lines = [f"| adapter | {' | '.join(STORED)} |", "|---" * (len(STORED) + 1) + "|"]
    for adapter in ADAPTERS:
        cells = [_cell({engine: held.get((adapter, engine, stored)) for engine in ENGINES}) for stored in STORED]
        lines.append(f"| `{adapter}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(of: dict[str, Pair | None]) -> str:
    """The engines that work, are refused, and did not run."""
    kinds = {
        "works": [engine for engine, one in of.items() if one is not None and one.works],
        "refused": [engine for engine, one in of.items() if one is not None and not one.works],
        "not run": [engine for engine, one in of.items() if one is None],
    }
    told = {name: engines for name, engines in kinds.items() if engines}
    if len(told) == 1:
        return next(iter(told))
    return "; ".join(f"{name}: {', '.join(engines)}" for name, engines in told.items())


def _base(folder: Path) -> Path:
    """A small Llama in float32 with a tokenizer, as transformers saves it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import a_model

    return a_model.save(folder, tied=False)


def _run(scratch: Path, base: Path, adapter: str, engine: str, stored: str) -> Pair:
    folder = scratch / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = folder / "rows.jsonl"
    asked = ({"prompt": f"What is {a} and {b}?", "completion": f" {a + b}."} for a in range(8) for b in range(6))
    rows.write_text("\n".join(json.dumps(one) for one in asked))
    recipe = {
        "model": {"name": str(base), "dtype": "float32", "quantization": stored},
        "data": {"train": [{"path": str(rows), "format": "completion"}], "max_length": 64, "cache": False},
        "adapter": ADAPTERS[adapter],
        "optimizer": {"lr": 1e-2},
        "batch": {"micro": 2, "global": 8},
        "train": {"max_steps": 4, "threads": 1},
        "launch": {"processes": 1},
        "log": {"tensorboard": False},
        "output": str(folder / "out"),
        **ENGINES[engine],
    }
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "trainer", "train", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return Pair(adapter, engine, stored, works=False, told=f"took more than {LIMIT} seconds")
    if done.returncode != 0:
        return Pair(adapter, engine, stored, works=False, told=_why(done.stderr))
    issued = json.loads((folder / "out" / "summary.json").read_text())["adapter"]
    return Pair(adapter, engine, stored, works=True, told=f"outputs differ by {issued['difference']:.0e}")


def _why(said: str) -> str:
    """The line of an error that names a key, or the first one."""
    # Where the key stands in a file that is gone by then says nothing.
    lines = [re.sub(r" \(\S+, line \d+\)", "", line.strip(" -")) for line in said.splitlines() if line.strip()]
    return next((line for line in lines if ": " in line and "." in line.partition(":")[0]), lines[0] if lines else "")


def _write(found: list[Pair]) -> None:
    content = {
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in PACKAGES},
        "pairs": [one.to_json() for one in found],
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
