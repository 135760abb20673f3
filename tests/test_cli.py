import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from trainer import __version__, assets
from trainer.cli import app

ROOT = Path(__file__).resolve().parents[1]
DEMO = str(assets.recipes()["demo"])
COMMANDS = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]

GOOD = """\
model:
  config: {model_type: llama, hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}
  tokenizer: {vocab_size: 300}
data:
  train: [{path: rows.jsonl, format: text}]
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The argument that puts a small file in the place of the recipe's rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text('{"text": "a row"}\n' * 100)
    return f"data.train=[{{path: {path}, format: text}}]"


def _shardtune(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def _fastest(limit: float, *arguments: str) -> float:
    """Processor seconds of the fastest of up to five runs: what a free core would take, on a busy machine too."""
    fastest = float("inf")
    for _ in range(5):
        before = _processor_seconds()
        _shardtune(*arguments)
        fastest = min(fastest, _processor_seconds() - before)
        if fastest < limit:
            break
    return fastest


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _heavy_modules(*arguments: str) -> list[str]:
    """What a command has imported, when it ends, of the modules that take seconds."""
    program = (
        "import atexit, json, sys\n"
        "heavy = ('torch', 'transformers', 'deepspeed', 'tokenizers', 'tensorboard')\n"
        "atexit.register(lambda: print('\\n' + json.dumps([name for name in heavy if name in sys.modules])))\n"
        "from trainer.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    return list(json.loads(ended.stdout.splitlines()[-1]))


def test_help_answers_within_half_a_second() -> None:
    assert _fastest(0.5, "--help") < 0.5


def test_a_bad_recipe_is_refused_within_a_second(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{GOOD}optimizer: {{lr: fast}}\n")

    assert _fastest(1.0, "train", str(recipe)) < 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("schema",),
        ("recipes",),
        ("plan", DEMO),
        ("plan", DEMO, "--json"),
        ("plan", DEMO, "model.config=null", "model.tokenizer=null", "model.name=nobody/has-this"),
        ("train", DEMO, "optimizer.lr=fast"),
        ("train", "missing.yaml"),
        ("bench", "smoke", "rounds=many"),
        ("bench", "compare", "missing", "missing"),
    ],
    ids=" ".join,
)
def test_what_trains_nothing_imports_no_torch(arguments: tuple[str, ...], rows: str) -> None:
    assert _heavy_modules(*arguments, *([rows] if DEMO in arguments else [])) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_an_example_that_names_it(command: str) -> None:
    shown = _shardtune(command, "--help")

    assert shown.returncode == 0
    assert f"Example: shardtune {command}" in shown.stdout


def test_help_lists_every_command() -> None:
    shown = _shardtune("--help").stdout

    assert [command for command in COMMANDS if command not in shown] == []


def test_the_version_is_that_of_the_package() -> None:
    assert _shardtune("--version").stdout == f"shardtune {__version__}\n"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("", (), "recipe.yaml: is empty; a recipe needs at least `model:` and `data:`"),
        (f"{GOOD}optimizer:\n  lr: fast\n", (), "optimizer.lr (recipe.yaml, line 7): 'fast' is not a number"),
        (f"{GOOD}optimiser: {{lr: 1}}\n", (), "optimiser (recipe.yaml, line 6): no such key; did you mean optimizer?"),
        (GOOD, ("engine.kind=torch", "engine.zero=3"), "engine.zero: 3 needs DeepSpeed; set engine.kind: deepspeed"),
        (
            GOOD,
            ("data.packing=false", "batch.global=6"),
            "batch.global: 6 examples a step cannot be shared out as 4 per device on 1 device; it can be 4 or 8",
        ),
        (GOOD, ("batch.micro",), "batch.micro: is not of the form section.key=value"),
        (
            GOOD,
            ("engine.kind=deepspeed", "engine.deepspeed={zero_optimisation: {stage: 2}}"),
            "engine.deepspeed.zero_optimisation: no such key of DeepSpeed; did you mean zero_optimization?",
        ),
    ],
)
@pytest.mark.parametrize("command", ["train", "plan"])
def test_a_wrong_recipe_is_one_message_and_status_2(
    tmp_path: Path, command: str, text: str, overrides: tuple[str, ...], message: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    output = tmp_path / "run"
    given = (*overrides, f"output={output}") if text else overrides

    ended = _shardtune(command, str(recipe), *given)

    assert ended.returncode == 2
    title, *problems = ended.stderr.replace(f"{tmp_path}/", "").splitlines()
    assert title == "The recipe is wrong:"
    assert [problem[2:].startswith(message) for problem in problems] == [True], problems
    assert not output.exists()


def test_a_missing_recipe_is_one_message_and_status_2() -> None:
    ended = _shardtune("train", "missing.yaml")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("The recipe is wrong:\n  missing.yaml: no such file; ")
    assert "Traceback" not in ended.stderr


def test_a_model_folder_without_a_config_is_one_message_and_status_2(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{name: {tmp_path}}}\n{GOOD[GOOD.index('data:') :]}")

    ended = _shardtune("plan", str(recipe))

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"The recipe is wrong:\n  model.name ({recipe}, line 1): ")
    assert "config.json" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_missing_data_is_one_message_and_status_3(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(GOOD)

    ended = _shardtune("train", str(recipe), f"data.train.0.path={tmp_path}/none.jsonl", f"output={tmp_path}/run")

    assert ended.returncode == 3
    assert ended.stderr.startswith(f"The data are wrong:\n  {tmp_path}/none.jsonl: no such file")
    assert not (tmp_path / "run").exists()


def test_words_of_the_user_are_not_taken_for_markup(tmp_path: Path) -> None:
    recipe = tmp_path / "[bold]recipe.yaml"
    recipe.write_text(f"{GOOD}output: [red]\n")

    ended = _shardtune("plan", str(recipe), "optimizer.kind='[/nothing]'")

    assert "[bold]recipe.yaml" in ended.stderr
    assert "'[/nothing]' is not one of adamw, adam" in ended.stderr


def test_the_schema_is_json() -> None:
    assert json.loads(_shardtune("schema").stdout)["title"] == "shardtune recipe"


def test_the_gallery_names_each_file_and_its_command() -> None:
    listed = _shardtune("recipes").stdout
    facts = json.loads(_shardtune("recipes", "--json").stdout)

    assert facts == {name: str(path) for name, path in assets.recipes().items()}
    assert f"demo         shardtune train trainer/recipes/demo.yaml\n             {DEMO}\n" in listed


def test_a_plan_is_told_in_words_and_as_facts(rows: str) -> None:
    words, facts = _shardtune("plan", DEMO, rows), json.loads(_shardtune("plan", DEMO, rows, "--json").stdout)

    assert words.returncode == 0
    assert "DeepSpeed ZeRO-2" in words.stdout
    assert facts["batch"]["ranks"] == 2
    assert f"{facts['steps']:,} steps" in words.stdout
    assert f"{facts['parameters']['total']:,} parameters" in words.stdout


def test_an_unknown_command_is_refused_with_status_2() -> None:
    ended = _shardtune("trian")

    assert ended.returncode == 2
    assert "No such command 'trian'" in ended.stderr
