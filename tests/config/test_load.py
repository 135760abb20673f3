from pathlib import Path
from typing import Any

import a_recipe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainer.config.load import dump, load, recipe_of
from trainer.config.recipe import Recipe
from trainer.config.yaml_file import parse_value
from trainer.errors import Problem, RecipeError

GOOD = """\
model: {name: some/model}
data:
  train:
    - {path: a.jsonl, format: text}
    - {path: b.jsonl, format: chat}
"""

FORMATS = (
    "completion, instruction, chat, text, pair, table, triples, words, entities, relation, triple, ranking, image, "
    "image_text"
)


def _refused(folder: Path, text: str, *overrides: str) -> list[str]:
    """Every problem of a file, a line each, with the file called `recipe.yaml`."""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load(path, overrides)
    assert caught.value.status == 2
    return [str(problem).replace(str(path), "recipe.yaml") for problem in caught.value.problems]


def _loaded(folder: Path, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return load(path, overrides)


def test_the_least_recipe_has_the_defaults_of_the_contract(tmp_path: Path) -> None:
    recipe = _loaded(tmp_path)

    assert recipe.model_dump(
        include={
            "model": {"name", "dtype", "attention", "add_tokens", "trust_remote_code"},
            "data": {"max_length", "too_long", "packing", "shuffle", "validation"},
            "optimizer": {"kind", "lr", "weight_decay", "master"},
            "schedule": True,
            "batch": {"micro", "global_"},
            "train": {"epochs", "max_steps", "seed", "clip", "precision", "checkpointing"},
            "engine": {"kind", "zero", "offload", "deepspeed"},
            "launch": {"kind", "processes"},
            "checkpoint": True,
            "evaluate": {"every", "metric", "mode", "patience"},
            "log": True,
            "task": {"kind"},
            "adapter": True,
            "strategy": True,
            "output": True,
        }
    ) == {
        "model": {
            "name": "some/model",
            "dtype": "bfloat16",
            "attention": "auto",
            "add_tokens": (),
            "trust_remote_code": False,
        },
        "task": {"kind": "causal_lm"},
        "data": {
            "max_length": 2048,
            "too_long": "cut",
            "packing": True,
            "shuffle": True,
            "validation": {"fraction": 0.05, "stratify": None, "group": None, "time": None},
        },
        "adapter": {"kind": "none"},
        "strategy": {"kind": "full"},
        "optimizer": {"kind": "adamw", "lr": 2e-4, "weight_decay": 0.0, "master": "float32"},
        "schedule": {
            "kind": "linear",
            "warmup": 0.03,
            "floor": 0.0,
            "cycles": 2,
            "power": 2.0,
            "decay": 0.1,
            "decades": 7.0,
        },
        "batch": {"micro": 4, "global_": 64},
        "train": {
            "epochs": 3,
            "max_steps": None,
            "seed": 0,
            "clip": 1.0,
            "precision": "auto",
            "checkpointing": "none",
        },
        "engine": {"kind": "auto", "zero": "auto", "offload": "none", "deepspeed": None},
        "launch": {"kind": "local", "processes": "auto"},
        "checkpoint": {"every": 200, "keep": 2, "save": "all", "certify": True, "resume": "auto"},
        "evaluate": {"every": 200, "metric": "loss", "mode": "min", "patience": None},
        "log": {"every": 10, "tensorboard": True, "profile": None},
        "output": "runs/quickstart",
    }


def test_several_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
model: {name: m, dtyp: float32}
data:
  train:
    - {path: a, format: txt}
    - {format: chat}
optimizer:
  lr: fast
batch:
  micr: 3
engine: {kind: torch, zero: 3}
"""

    assert _refused(tmp_path, text) == [
        "model.dtyp (recipe.yaml, line 1): no such key; did you mean model.dtype?",
        f"data.train.0.format (recipe.yaml, line 4): 'txt' is not one of {FORMATS}; did you mean text?",
        "data.train.1.path: is needed and not there",
        "optimizer.lr (recipe.yaml, line 7): 'fast' is not a number",
        "batch.micr (recipe.yaml, line 9): no such key; did you mean batch.micro?",
        "engine.zero (recipe.yaml, line 10): 3 needs DeepSpeed; set engine.kind: deepspeed, or leave zero out",
    ]


def test_a_misspelt_section_is_named_with_the_known_one(tmp_path: Path) -> None:
    text = "modell: {name: m}\ndata: {train: [{path: a, format: text}]}\nengine: {kind: torch, zero: 3}\n"

    assert _refused(tmp_path, text) == [
        "model: is needed and not there",
        "modell (recipe.yaml, line 1): no such key; did you mean model?",
        "engine.zero (recipe.yaml, line 3): 3 needs DeepSpeed; set engine.kind: deepspeed, or leave zero out",
    ]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("optimizer: {lr: fast}", "optimizer.lr: 'fast' is not a number"),
        ("optimizer: {lr: '1,000'}", "optimizer.lr: '1,000' is not a number"),
        ("optimizer: {lr: -1}", "optimizer.lr: -1 is not greater than 0.0"),
        ("optimizer: {lr: .nan}", "optimizer.lr: nan is not a finite number"),
        ("optimizer: {lr: .inf}", "optimizer.lr: inf is not a finite number"),
        ("optimizer: {lr: [1]}", "optimizer.lr: a list is not a number"),
        ("optimizer: {lr: true}", "optimizer.lr: true and false are not numbers"),
        ("optimizer: {betas: [0.9]}", "optimizer.betas: holds 1 item; it takes 2"),
        ("optimizer: {betas: [0.9, 0.9, 0.9]}", "optimizer.betas: holds 3 items; it takes 2"),
        ("optimizer: {betas: [0.9, fast]}", "optimizer.betas.1: 'fast' is not a number"),
        ("optimizer: {betas: [0.9, 1]}", "optimizer.betas.1: 1 is not less than 1.0"),
        ("optimizer: {betas: [0.9, true]}", "optimizer.betas.1: true and false are not numbers"),
        ("optimizer: {betas: 0.9}", "optimizer.betas: 0.9 is not a list; start each item with `- `"),
        (
            "optimizer: {kind: adamww}",
            "optimizer.kind: 'adamww' is not one of adamw, adam, adamw_8bit, adafactor, lion, sgd, muon, galore; "
            "did you mean adamw?",
        ),
        (
            "optimizer: ",
            "optimizer: null is not a mapping of keys; known: betas, eps, galore, in_backward, kind, layer_decay, lr, "
            "master, momentum, paged, rates, weight_decay",
        ),
        (
            "evaluate: 200",
            "evaluate: 200 is not a mapping of keys; known: answer_seconds, answer_tokens, answered, answers, every, "
            "metric, mode, patience, sample_tokens, samples",
        ),
        ("batch: {micro: 2.5}", "batch.micro: 2.5 is not a whole number"),
        ("batch: {micro: 0}", "batch.micro: 0 is less than 1"),
        ("batch: {global_: 3}", "batch.global_: no such key; did you mean batch.global?"),
        ("batch: {global: two}", "batch.global: 'two' is not a whole number"),
        ("log: {every: yes}", "log.every: true and false are not numbers"),
        ("log: {tensorboard: perhaps}", "log.tensorboard: 'perhaps' is not true or false"),
        ("launch: {processes: two}", "launch.processes: 'two' does not fit; it takes auto or a whole number"),
        ("launch: {processes: true}", "launch.processes: true and false are not numbers"),
        (
            "launch: {time_limit: soon}",
            "launch.time_limit: 'soon' does not fit; it takes seconds, [days-]hours:minutes",
        ),
        ("launch: {account: 'a\n\nb'}", "launch.account: 'a\\nb' is not text in one line, without control characters"),
        ("launch: {exclude: ['a\n\nb']}", "launch.exclude.0: 'a\\nb' is not text in one line"),
        ("launch: {container: {image: 'a\n\nb'}}", "launch.container.image: 'a\\nb' is not text in one line"),
        ("launch: {environment: {a b: c}}", "launch.environment.a b: 'a b' is not a name of letters, digits and _"),
        ("launch: {secrets: {A: 'a\n\nb'}}", "launch.secrets.A: 'a\\nb' is not text in one line"),
        ("launch: {port: 70000}", "launch.port: 70000 is greater than 65535"),
        ("engine: {zero: 4}", "engine.zero: 4 is not one of auto, 0, 1, 2, 3"),
        ("engine: {deepspeed: 3}", "engine.deepspeed: 3 does not fit; it takes text, a mapping or null"),
        ("engine: {deepspeed: [a]}", "engine.deepspeed: a list does not fit; it takes text, a mapping or null"),
        (
            "adapter: {kind: lore}",
            "adapter.kind: 'lore' is not one of none, lora, dora, adalora, ia3, vera, oft, prompt, "
            "prefix, p_tuning, peft; "
            "did you mean lora?",
        ),
        (
            "adapter: {kind: lora, targets: q_proj}",
            "adapter.targets: 'q_proj' does not fit; it takes all_linear, attention, mlp, a list or null",
        ),
        (
            "strategy: {kind: ful}",
            "strategy.kind: 'ful' is not one of full, partial, encoder_only, decoder_only, discriminative, "
            "layerwise, lisa, phases; did you mean full?",
        ),
        ("strategy: {last: 2}", "strategy.last: means nothing with strategy.kind: full; leave it out"),
        ("strategy: {kind: partial, last: 0}", "strategy.last: 0 does not fit; it takes a whole number or null"),
        ("strategy: {kind: partial, lats: 2}", "strategy.lats: no such key; did you mean strategy.last?"),
        ("optimizer: {layer_decay: 1.5}", "optimizer.layer_decay: 1.5 is greater than 1.0"),
        (
            "optimizer: {rates: {heads: 2}}",
            "optimizer.rates.heads: 'heads' is not one of head, embeddings, adapter, lora_b; did you mean head?",
        ),
        ("output: 3", "output: 3 is not text; put it in quotes"),
        ("output: 2024-12-05", "output: 2024-12-05 is not text; put it in quotes"),
        ("output: {a: b}", "output: a mapping is not text"),
        ("4: 5", "4: no such key; known: adapter, batch, checkpoint, data, engine, evaluate, launch, log, model, "),
        (f"train: {{seed: {'9' * 200}}}", "train.seed: a number of so many digits"),
    ],
)
def test_a_wrong_value_is_named_with_what_the_key_takes(tmp_path: Path, section: str, message: str) -> None:
    (problem,) = _refused(tmp_path, f"{GOOD}{section}\n")

    where, _, said = message.partition(": ")
    assert problem.startswith(f"{where} (recipe.yaml, line 6): {said}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{}", "data.train: is needed and not there"),
        ("{train: a.jsonl}", "data.train: 'a.jsonl' is not a list; start each item with `- `"),
        ("{train: {path: a, format: text}}", "data.train: a mapping is not a list; start each item with `- `"),
        ("{train: []}", "data.train: holds 0 items; it takes at least 1"),
        ("{train: [a.jsonl]}", "data.train.0: 'a.jsonl' is not a mapping of keys; known: allow_urls, config"),
        ("{train: [{path: a}]}", "data.train.0.format: is needed and not there"),
        ("{train: [{path: a, format: text, fields: {text: 3}}]}", "data.train.0.fields.text: 3 is not text; put"),
        ("{train: [{path: a, format: text, fields: {3: a}}]}", "data.train.0.fields.3: the key 3 is not text; put"),
        ("{train: [{path: a, format: text}], max_length: 2k}", "data.max_length: '2k' is not a whole number"),
    ],
)
def test_wrong_training_sources_are_named(tmp_path: Path, data: str, message: str) -> None:
    (problem,) = _refused(tmp_path, f"model: {{name: m}}\ndata: {data}\n")

    assert problem.replace(" (recipe.yaml, line 2)", "").startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.validation=0.1", "data.validation: 0.1 does not fit; it takes {fraction: ..., stratify: ..."),
        ("data.validation.fracton=0.1", "data.validation.fracton: no such key; did you mean data.validation.fraction?"),
        ("data.validation.fraction=2", "data.validation.fraction: 2 is not less than 1.0"),
        ("data.validation=[{path: b}]", "data.validation.0.format: is needed and not there"),
        (
            "data.validation=[{path: b, format: tex}]",
            "data.validation.0.format: 'tex' is not one of completion",
        ),
        (
            "data.validation=[{path: b, format: text, x: 1}]",
            "data.validation.0.x: no such key; known: allow_urls, config",
        ),
        ("model.tokenizer=3", "model.tokenizer: 3 does not fit; it takes text, {vocab_size: ...} or null"),
        ("model.tokenizer.vocab_size=3", "model.tokenizer.vocab_size: 3 is less than 300"),
        ("model.tokenizer.vocab=300", "model.tokenizer.vocab: no such key; did you mean model.tokenizer.vocab_size?"),
    ],
)
def test_of_a_key_of_several_types_the_meant_one_is_explained(tmp_path: Path, override: str, message: str) -> None:
    (problem,) = _refused(tmp_path, GOOD, override)

    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optimizer.lr=1e-4", "optimizer", "lr", 1e-4),
        ("batch.global=8", "batch", "global_", 8),
        ("data.validation=null", "data", "validation", None),
        ("optimizer.betas=[0.8, 0.95]", "optimizer", "betas", (0.8, 0.95)),
        ("engine.deepspeed.zero_optimization.stage=2", "engine", "deepspeed", {"zero_optimization": {"stage": 2}}),
        ("model.name=a=b", "model", "name", "a=b"),
        ("train.max_steps=1e3", "train", "max_steps", 1000),
    ],
)
def test_an_argument_stands_above_the_file(tmp_path: Path, override: str, section: str, key: str, value: Any) -> None:
    assert getattr(getattr(_loaded(tmp_path, override), section), key) == value


def test_items_of_a_list_are_named_by_their_number(tmp_path: Path) -> None:
    recipe = _loaded(tmp_path, "data.train.1.path=c.jsonl", "data.train.0={path: d.csv, format: chat}")

    assert [(source.path, source.format) for source in recipe.data.train] == [("d.csv", "chat"), ("c.jsonl", "chat")]


def test_of_two_arguments_for_a_key_the_later_one_counts(tmp_path: Path) -> None:
    assert _loaded(tmp_path, "train.seed=1", "train.seed=2").train.seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=fast", "optimizer.lr: 'fast' is not a number"),
        ("data.train.1.format=tex", f"data.train.1.format: 'tex' is not one of {FORMATS}; did you mean text?"),
        ("data.train.2.path=x", "data.train.2.path: '2' is not an item of the list; items are numbered from 0"),
        ("data.train.-1.path=x", "data.train.-1.path: '-1' is not an item of the list; items are numbered from 0"),
        ("data.train.last=x", "data.train.last: 'last' is not an item of the list; items are numbered from 0"),
        ("optimiser.lr=1", "optimiser: no such key; did you mean optimizer?"),
        ("batch=3", "batch: 3 is not a mapping of keys; known: global, global_tokens, micro, micro_tokens"),
        ("batch.micro", "batch.micro: is not of the form section.key=value"),
        ("=3", "=3: is not of the form section.key=value"),
        ("optimizer..lr=3", "optimizer..lr=3: is not of the form section.key=value"),
        ("optimizer.lr=[1", "optimizer.lr: '[1' is not a YAML value; put it in quotes"),
        ("output=2024-13-45", "output: '2024-13-45' is not a YAML value; put it in quotes"),
        ("output=", "output: null is not text; put it in quotes"),
    ],
)
def test_a_wrong_argument_is_named_without_a_line_of_the_file(tmp_path: Path, override: str, message: str) -> None:
    text = f"{GOOD}optimizer: {{lr: 1}}\noutput: here\n"

    (problem,) = _refused(tmp_path, text, override)

    assert problem.startswith(message)


def test_a_wrong_argument_and_a_wrong_file_are_told_together(tmp_path: Path) -> None:
    problems = _refused(tmp_path, f"{GOOD}optimizer: {{lr: fast}}\n", "nonsense", "batch.micro=0")

    assert problems == [
        "nonsense: is not of the form section.key=value",
        "optimizer.lr (recipe.yaml, line 6): 'fast' is not a number",
        "batch.micro: 0 is less than 1",
    ]


def test_a_rule_between_keys_names_the_line_of_its_key(tmp_path: Path) -> None:
    problems = _refused(tmp_path, f"{GOOD}engine: {{zero: 3}}\n", "engine.kind=torch")

    assert problems == [
        "engine.zero (recipe.yaml, line 6): 3 needs DeepSpeed; set engine.kind: deepspeed, or leave zero out"
    ]


def test_checks_of_higher_floors_join_and_leave_out_wrong_sections(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{GOOD}optimizer: {{lr: fast}}\n", encoding="utf-8")

    def check(recipe: Recipe) -> list[Problem]:
        return [Problem("model.name", f"{recipe.model.name} is not here"), Problem("optimizer.lr", "is a default")]

    with pytest.raises(RecipeError) as caught:
        load(path, checks=[check])

    assert [str(problem) for problem in caught.value.problems] == [
        f"optimizer.lr ({path}, line 6): 'fast' is not a number",
        f"model.name ({path}, line 1): some/model is not here",
    ]


def test_a_mapping_without_a_file_is_refused_in_the_same_words() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of({**a_recipe.LEAST, "data": {"train": [{"path": "a", "format": "tex"}]}, "batch": {"micr": 1}})

    assert [str(problem).partition(";")[0] for problem in caught.value.problems] == [
        f"data.train.0.format: 'tex' is not one of {FORMATS}",
        "batch.micr: no such key",
    ]


def test_a_recipe_does_not_change_after_it_is_read() -> None:
    recipe = a_recipe.recipe()

    for target, key in ((recipe, "output"), (recipe.optimizer, "lr"), (recipe.data.train[0], "path")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(target, key, "other")


_WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10
) | st.sampled_from(["1e-4", "7e10", "true", "null", "~", "2024-01-01", "0x1f", "- a", "a: b", "=", "<<", " x "])
_SOURCES = st.fixed_dictionaries(
    {"path": _WORDS, "format": st.sampled_from(["completion", "chat", "text"])},
    optional={"fields": st.dictionaries(_WORDS, _WORDS, max_size=2)},
)


@settings(max_examples=50, deadline=None)
@given(
    train=st.lists(_SOURCES, min_size=1, max_size=3),
    validation=st.none()
    | st.builds(lambda share: {"fraction": share}, st.floats(0.01, 0.99))
    | st.lists(_SOURCES, min_size=1),
    name=_WORDS,
    revision=st.none() | _WORDS,
    lr=st.floats(1e-12, 1e6),
    warmup=st.floats(0, 1e5),
    zero=st.sampled_from(["auto", 0, 1, 2, 3]),
    deepspeed=st.none() | _WORDS | st.dictionaries(_WORDS, st.booleans() | st.integers() | _WORDS, max_size=3),
    clip=st.none() | st.floats(1e-6, 1e6),
)
def test_a_dumped_recipe_loads_as_the_same_recipe(
    tmp_path_factory: pytest.TempPathFactory,
    train: list[dict[str, Any]],
    validation: Any,
    name: str,
    revision: str | None,
    lr: float,
    warmup: float,
    zero: Any,
    deepspeed: Any,
    clip: float | None,
) -> None:
    recipe = a_recipe.recipe(
        model={"name": name, "revision": revision},
        data={"train": train, "validation": validation},
        optimizer={"lr": lr},
        schedule={"warmup": warmup},
        engine={"zero": zero, "deepspeed": deepspeed},
        train={"clip": clip},
    )
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"

    path.write_text(dump(recipe), encoding="utf-8")

    assert load(path) == recipe
    assert set(parse_value(dump(recipe))) == set(Recipe.model_fields)
