"""Tries the wheel of a folder outside the checkout: `python .ci/wheel.py dist`.

The environment it is installed in is fresh, and sees the other packages of this interpreter through a .pth file, which
brings no editable installation with it.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ASSETS = """
import sys
from pathlib import Path
import trainer
from trainer import assets
home = Path(trainer.__file__).resolve()
assert home.is_relative_to(Path(sys.prefix).resolve()), f"trainer comes from {home}, not from the wheel"
presets = sorted(file.name for file in assets.folder("ds_configs").glob("*.json"))
assert presets, "no DeepSpeed presets in the wheel"
assert assets.folder("launchers").is_dir(), "no launchers in the wheel"
assert "demo" in assets.recipes(), "no demo recipe in the wheel"
assert list(assets.folder("benchmarks/suites").glob("*.yaml")), "no suites in the wheel"
print(f"{len(presets)} DeepSpeed presets and {len(assets.recipes())} recipes are there")
"""


def only_trainer(wheel: Path) -> None:
    """The wheel must not put anything but `trainer` among the user's imports."""
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    strange = {name for name in top if name != "trainer" and not name.endswith(".dist-info")}
    if strange:
        sys.exit(f"{wheel.name} also holds {', '.join(sorted(strange))}")
    print(f"{wheel.name} exposes only trainer")


def try_out(wheel: Path, folder: Path) -> None:
    """Installs the wheel and runs its command, with the folder as the working directory."""
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv/bin/python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(install, check=True)
    site = folder / f"venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = str(folder / "venv/bin/shardtune")
    for line in ([str(python), "-c", ASSETS], [command, "--help"], [command, "recipes"], [command, "bench", "--help"]):
        result = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            sys.exit(f"{' '.join(line[:2])} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        if line[1] == "-c":
            print(result.stdout, end="")
    print("shardtune --help and shardtune recipes work outside the checkout")


def main() -> None:
    """Tries the one wheel of the folder."""
    wheels = sorted(Path(sys.argv[1]).resolve().glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{sys.argv[1]} holds {len(wheels)} wheels, and one is needed")
    only_trainer(wheels[0])
    with tempfile.TemporaryDirectory() as folder:
        try_out(wheels[0], Path(folder))


main()
