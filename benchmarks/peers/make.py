"""Makes what `shardtune bench peers` needs: an environment for each other trainer, in ~/.cache/shardtune/peers.

python benchmarks/peers/make.py [NAME ...]        all, or some of them; what is there already stays
"""

import argparse
import shutil
import subprocess
import sys
import venv

from trainer.bench.peer import ENVIRONMENTS

TORCH = "torch==2.13.0"
BITSANDBYTES = "bitsandbytes==0.50.2"
PACKAGES = {
    "transformers": ["transformers==5.23.0", "accelerate==1.15.0", "peft==0.21.2", "datasets==5.2.0", BITSANDBYTES],
    "trl": [
        "trl==1.16.0",
        "transformers==5.23.0",
        "accelerate==1.15.0",
        "peft==0.21.2",
        "datasets==5.2.0",
        BITSANDBYTES,
    ],
    "llamafactory": ["llamafactory==0.9.5"],
    "torchtune": ["torchtune==0.6.1", "torchao==0.9.0"],
    "litgpt": ["litgpt==0.5.13", "requests", "jsonargparse[signatures]", "safetensors"],
}
"""What is installed beside torch; torchao from 0.12 on lacks what torchtune imports, or does not load with torch."""
UNWANTED = {"llamafactory": ["torchvision", "torchaudio"]}
"""What comes along from PyPI and does not load beside torch's build for processors."""


def main() -> None:
    """Makes what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(PACKAGES)}")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in PACKAGES]
    if unknown:
        sys.exit(f"{unknown[0]}: no such trainer here; known: {', '.join(PACKAGES)}")
    for name in asked.names or PACKAGES:
        _environment(name)


def _environment(name: str) -> None:
    """One environment, under its name once it is whole."""
    place, unfinished = ENVIRONMENTS / name, ENVIRONMENTS / f".{name}"
    if place.is_dir():
        print(f"{place} is there")
        return
    shutil.rmtree(unfinished, ignore_errors=True)
    print(f"{place} is made: {', '.join(PACKAGES[name])} ...", flush=True)
    venv.create(unfinished, with_pip=True)
    pip = [str(unfinished / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    held = unfinished / "constraints.txt"
    held.write_text(f"{TORCH}\nsetuptools<80\n", encoding="utf-8")
    subprocess.run([*pip, "install", TORCH, "numpy", "setuptools<80", "wheel"], check=True)
    subprocess.run([*pip, "install", "--constraint", str(held), *PACKAGES[name]], check=True)
    for package in UNWANTED.get(name, ()):
        subprocess.run([*pip, "uninstall", "--yes", package], check=True)
    if name == "llamafactory":
        # It imports the package for sound alone, and asks for its version.
        [packages] = unfinished.glob("lib/python*/site-packages")
        (packages / "torchaudio.py").write_text('__version__ = "0.0"\n', encoding="utf-8")
    unfinished.rename(place)


if __name__ == "__main__":
    main()
