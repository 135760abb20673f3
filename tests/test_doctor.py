"""What the environment check finds, on this machine and in prepared environments."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from trainer import doctor
from trainer.doctor import Check

MISSING = Check("torch", None, False, "all computing", 'pip install "torch<3,>=2.9"', required=True)
WANTED = Check("ninja", None, False, "compiled ops of DeepSpeed", "pip install ninja")
THERE = Check("cores", "2", True, "processes and data", "")


def install(folder: Path, name: str, version: str, *lines: str) -> None:
    """A distribution's metadata, as an installer leaves them."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines]
    (info / "METADATA").write_text("\n".join(head) + "\n")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that stands before the real ones."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def found(name: str) -> Check:
    return next(check for check in doctor.facts() if check.name == name)


def test_a_package_that_is_not_there_is_required_and_says_how_to_get_it(environment: Path) -> None:
    install(environment, "shardtune", "9", "Requires-Python: >=3.11", "Requires-Dist: no-such-package<2,>=1")
    check = found("no-such-package")
    assert (check.found, check.ok, check.required) == (None, False, True)
    assert check.how == 'pip install "no-such-package<2,>=1"'


def test_a_package_outside_its_range_names_its_version_and_the_range(environment: Path) -> None:
    install(environment, "shardtune", "9", "Requires-Python: >=3.11", "Requires-Dist: torch>=2.9")
    install(environment, "torch", "2.1.0+cpu")
    check = found("torch")
    assert (check.found, check.ok) == ("2.1.0+cpu (not >=2.9)", False)


def test_a_local_build_of_a_version_is_in_range(environment: Path) -> None:
    install(environment, "shardtune", "9", "Requires-Python: >=3.11", "Requires-Dist: torch<3,>=2.9")
    install(environment, "torch", "2.13.0+cpu")
    assert found("torch").ok


def test_packages_of_extras_are_not_asked_for(environment: Path) -> None:
    install(environment, "shardtune", "9", "Requires-Python: >=3.11", 'Requires-Dist: nothing; extra == "dev"')
    assert "nothing" not in [check.name for check in doctor.facts()]


def test_an_older_python_than_ours_is_named(environment: Path) -> None:
    install(environment, "shardtune", "9", "Requires-Python: >=99")
    assert not found("python").ok


def test_the_unrelated_package_called_trainer_is_a_conflict(environment: Path) -> None:
    install(environment, "shardtune", "9", "Requires-Python: >=3.11")
    install(environment, "trainer", "0.0.36")
    check = found("import trainer")
    assert check.found == "also trainer 0.0.36 of PyPI"
    assert not check.ok and check.how.startswith("pip uninstall trainer")


def test_locks_of_killed_builds_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "fused_adam").mkdir()
    (tmp_path / "fused_adam/lock").touch()
    check = found("build locks")
    assert not check.ok and str(tmp_path / "fused_adam/lock") in check.how


def test_a_missing_compiler_is_not_a_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    check = found("C++ compiler")
    assert (check.found, check.ok, check.required) == (None, False, False)


def test_the_exit_status_tells_whether_something_required_is_missing() -> None:
    assert doctor.status([THERE, WANTED]) == 0
    assert doctor.status([THERE, WANTED, MISSING]) == 2


def test_the_facts_are_json() -> None:
    facts = json.loads(json.dumps(doctor.to_json([THERE, MISSING])))
    assert facts["ok"] is False
    assert facts["checks"][0]["found"] == "2"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_tells_what_to_do(width: int) -> None:
    screen = io.StringIO()
    doctor.render([THERE, WANTED, MISSING], Console(width=width, file=screen))
    text = screen.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "Not ready" in text and 'torch: pip install "torch<3,>=2.9"' in text and "ninja: pip install ninja" in text


def test_no_package_is_imported_to_tell() -> None:
    heavy = "{'torch', 'deepspeed', 'transformers', 'numpy', 'tensorboard'}"
    code = f"import sys; from trainer import doctor; doctor.facts(); sys.exit(bool({heavy} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
