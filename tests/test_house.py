"""The habits of the house that a machine can check."""

import ast
import re
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from trainer import assets
from trainer.adapter.methods import METHODS
from trainer.config.adapter import KINDS as ADAPTERS
from trainer.config.engine import Engine
from trainer.config.launch import Launch
from trainer.config.load import load
from trainer.config.schedule import Schedule
from trainer.config.section import Section
from trainer.config.strategy import KINDS
from trainer.config.task import BY_KIND
from trainer.optim.schedule import SHAPES
from trainer.strategy.strategies import STRATEGIES
from trainer.tasks.kinds import TASKS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "trainer"
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES_OF_A_FILE = 300
MOST_LINES_OF_A_FUNCTION = 60
# What is longer, and how long it may be. Entries may be made smaller or be taken out; there shall be no new ones.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}


@cache
def _tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def _name(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def _too_long(lengths: dict[str, int], most: int, allowed: dict[str, int]) -> list[str]:
    over = {name: lines for name, lines in lengths.items() if lines > most}
    grown = [f"{name} has {lines} lines" for name, lines in over.items() if lines > allowed.get(name, 0)]
    gone = [f"{name} is no longer over {most} lines: take it off the list" for name in allowed.keys() - over.keys()]
    return grown + gone


def test_files_stay_short() -> None:
    lengths = {_name(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}

    assert _too_long(lengths, MOST_LINES_OF_A_FILE, LONG_FILES) == []


def test_functions_stay_short() -> None:
    lengths = {
        f"{_name(module)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert _too_long(lengths, MOST_LINES_OF_A_FUNCTION, LONG_FUNCTIONS) == []


def test_a_file_is_named_by_what_it_holds() -> None:
    empty_words = {"utils", "util", "common", "misc", "helpers", "helper"}

    assert [
        _name(module) for module in MODULES if empty_words & {*module.relative_to(PACKAGE).with_suffix("").parts}
    ] == []


def test_folders_are_one_deep() -> None:
    assert [_name(module) for module in MODULES if len(module.relative_to(PACKAGE).parts) > 2] == []


def _kinds(section: type[Section]) -> set[str]:
    """What the recipe takes for `kind`, but `auto`."""
    return set(typing.get_args(section.model_fields["kind"].annotation)) - {"auto"}


def _files(folder: str, *others: str) -> set[str]:
    return {module.stem for module in (PACKAGE / folder).glob("*.py")} - {"__init__", *others}


BESIDE_TASKS = (
    "answer_metrics",
    "answering",
    "class_table",
    "eyes",
    "heads",
    "joint_metrics",
    "joint_model",
    "kg_encoders",
    "kg_model",
    "label_metrics",
    "looks",
    "multi_model",
    "pooled",
    "reader",
    "tag_metrics",
    "tag_model",
    "writing",
)


BESIDE_ADAPTERS = (
    "adapted",
    "before_rows",
    "budget",
    "card",
    "certificate",
    "finished",
    "lora_product",
    "merge",
    "skeleton",
    "starts",
    "stranger",
    "wrap",
)


@pytest.mark.parametrize(
    ("kinds", "table", "files"),
    [
        (
            set(BY_KIND),
            TASKS,
            _files("tasks", "kinds", "objective", *BESIDE_TASKS),
        ),
        (set(ADAPTERS), METHODS, _files("adapter", "methods", *BESIDE_ADAPTERS)),
        (set(KINDS), STRATEGIES, _files("strategy", "strategies", "course", "halves", "layers", "phase", "rates")),
    ],
)
def test_a_kind_is_a_file_and_a_line_of_the_table(kinds: set[str], table: dict[str, object], files: set[str]) -> None:
    assert kinds == set(table)
    assert files == set(table)


def test_a_schedule_is_a_line_of_the_table() -> None:
    assert _kinds(Schedule) == set(SHAPES)


@pytest.mark.parametrize(("section", "folder"), [(Engine, "engine"), (Launch, "launch")])
def test_every_engine_and_launcher_is_a_file(section: type[Section], folder: str) -> None:
    assert _kinds(section) <= _files(folder)


def test_every_launcher_template_belongs_to_a_launcher() -> None:
    stems = {
        path.stem
        for path in assets.folder("launchers").iterdir()
        if path.suffix not in (".md", "") and not path.name.startswith("_")
    }

    assert stems <= _files("launch")


def _imported(module: Path) -> Iterator[str]:
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(module)} imports relatively"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("vendor", "home"),
    [
        ("bitsandbytes", "trainer/kernels/vendor.py"),
        ("cut_cross_entropy", "trainer/model/fused_loss.py"),
        ("deepspeed", "trainer/engine/deepspeed"),
        ("flash_attn", "trainer/model/flash_attention.py"),
        ("liger_kernel", "trainer/model/fused_loss.py"),
        ("peft", "trainer/adapter/"),
        ("tensorboard", "trainer/callbacks/tensorboard.py"),
        ("torch.utils.tensorboard", "trainer/callbacks/tensorboard.py"),
    ],
)
def test_a_vendor_has_one_home(vendor: str, home: str) -> None:
    users = {
        _name(module)
        for module in MODULES
        for name in _imported(module)
        if name == vendor or name.startswith(f"{vendor}.")
    }

    assert [user for user in users if not user.startswith(home)] == []


def test_the_settings_and_the_plan_import_no_torch() -> None:
    light = [module for folder in ("config", "plan", "launch") for module in (PACKAGE / folder).glob("*.py")]

    heavy = {"torch", "transformers", "deepspeed", "tokenizers"}
    assert {_name(module): names for module in light if (names := heavy & {*_imported(module)})} == {}


def test_only_ranks_reads_the_environment_and_only_environment_makes_it() -> None:
    readers = {
        _name(module)
        for module in MODULES
        for node in ast.walk(_tree(module))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in one.name for one in node.names))
    }

    assert readers == {"trainer/ranks.py", "trainer/environment.py"}


def test_nothing_swallows_every_error() -> None:
    swallowers = [
        f"{_name(module)}:{node.lineno}"
        for module in MODULES
        if _name(module) != "trainer/cli.py"
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or "Exception" in {ast.unparse(one) for one in _caught(node.type)})
    ]

    assert swallowers == []


def _caught(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


@pytest.mark.parametrize("name", list(assets.recipes()))
def test_every_recipe_starts_with_its_command_and_loads(name: str) -> None:
    path = assets.recipes()[name]

    command, *overrides = path.read_text(encoding="utf-8").splitlines()[0].split(".yaml")

    assert f"{command}.yaml" == f"# shardtune train {path.relative_to(ROOT).as_posix()}"
    load(path, "".join(overrides).split())


def _own_files() -> Iterator[Path]:
    """The files of the repository: those at the top, and all of its folders but hidden ones that tools make."""
    folders = [ROOT / name for name in ("trainer", "tests", "ds_configs", "launchers", "benchmarks", ".ci", ".github")]
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
    return (path for path in files if path.suffix not in (".pyc", ".png") and path.name != ".git")


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    # Homes and mounts that exist on one machine alone; a slash before or after another word is no such path.
    private = re.compile(r"(?<![\w.~:/*-])/" + r"(?:work|root|home|mnt|Users|data)/" + r"[\w.]")

    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in _own_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if private.search(line)
    ]

    assert found == []


# Tests of something that is no single module: folders of them, and files.
ACROSS = {"distributed", "gpu", "runs"}
WITHOUT_A_MODULE = {"tests/test_house.py", "tests/model/test_against_plain.py"}


def test_tests_mirror_the_modules() -> None:
    mirrored = [path for path in (ROOT / "tests").rglob("test_*.py") if not ACROSS & {*path.parts}]

    astray = {
        path.relative_to(ROOT).as_posix()
        for path in mirrored
        if not (PACKAGE / path.relative_to(ROOT / "tests").with_name(path.name.removeprefix("test_"))).is_file()
    }

    assert astray == WITHOUT_A_MODULE
