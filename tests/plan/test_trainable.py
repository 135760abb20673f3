"""What an adapter trains, counted without torch: the same as peft makes of the real model."""

from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest

from trainer.config.adapter import AdaLora
from trainer.config.recipe import Recipe
from trainer.data import tokenizer as tokenizers
from trainer.engine.torch import TorchEngine
from trainer.errors import RecipeError
from trainer.model.load import load
from trainer.parameter import parameter
from trainer.plan import adapter_parameters, parameters, trainable

LLAMA_TARGETS: list[Any] = ["all_linear", "attention", "mlp", ["q_proj", "mlp.down_proj"], ["re:.*[.]1[.].*_proj"]]
GPT2_TARGETS: list[Any] = ["all_linear", "attention", "mlp", ["c_attn", "mlp.c_proj"], ["re:.*[.]h[.]0[.].*"]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {
        "llama": a_model.save(base / "llama"),
        "untied": a_model.save(base / "untied", tied=False),
        "gpt2": a_model.save(base / "gpt2", "gpt2"),
    }


def recipe_of(folder: Path, targets: Any, new: tuple[str, ...] = (), **adapter: Any) -> Recipe:
    aimed = {} if targets is None else {"targets": targets}
    return a_recipe.recipe(
        model={"name": str(folder), "dtype": "float32", "add_tokens": list(new)},
        adapter={**({} if "kind" in adapter else {"kind": "lora", "r": 3}), **adapter, **aimed},
        data={"max_length": 64},
    )


def planned(recipe: Recipe) -> trainable.Counts:
    listed = parameters.of_model(recipe.model, None)
    assert listed is not None
    return trainable.counts(recipe, listed)


def real(recipe: Recipe, folder: Path) -> trainable.Counts:
    import torch

    from trainer.adapter.methods import METHODS

    tokenizer = tokenizers.load(recipe, folder)
    model = load(recipe, tokenizer, TorchEngine(torch.device("cpu"), None).loading())
    new = tokenizers.new_tokens(recipe, tokenizer)
    made = [*METHODS[recipe.adapter.kind](model, recipe, new).model.parameters()]
    return trainable.Counts(
        total=sum(one.numel() for one in made), trainable=sum(one.numel() for one in made if one.requires_grad)
    )


@pytest.mark.parametrize(
    ("kind", "targets"),
    [*(("llama", one) for one in LLAMA_TARGETS), *(("gpt2", one) for one in GPT2_TARGETS), ("untied", ["lm_head"])],
)
def test_the_plan_counts_what_peft_makes(folders: dict[str, Path], kind: str, targets: Any, tmp_path: Path) -> None:
    recipe = recipe_of(folders[kind], targets)

    assert planned(recipe) == real(recipe, tmp_path)


METHODS: list[dict[str, Any]] = [
    {"kind": "dora", "r": 3},
    {"kind": "dora", "r": 3, "targets": "attention", "rslora": True},
    {"ranks": {"q_proj": 5, "c_attn": 5}, "alphas": {"mlp.c_proj": 7, "down_proj": 7}},
    {"ranks": {"re:.*[.]1[.].*": 1}},
    {"kind": "ia3"},
    {"kind": "ia3", "targets": "all_linear"},
    {"kind": "adalora", "first": 4, "r": 2},
    {"kind": "vera", "r": 5, "targets": "mlp"},
    {"kind": "prompt", "tokens": 3},
    {"kind": "prefix", "tokens": 3},
    {"kind": "prefix", "tokens": 3, "hidden": 7},
    {"kind": "p_tuning", "tokens": 3, "hidden": 7},
    {"kind": "p_tuning", "tokens": 3, "hidden": 7, "encoder": "lstm"},
    {"kind": "peft", "method": "hira", "settings": {"r": 2}},
    {"kind": "peft", "method": "vblora", "settings": {"vector_length": 8, "num_vectors": 5}},
]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("adapter", METHODS, ids=str)
def test_the_plan_counts_what_each_method_makes(
    folders: dict[str, Path], kind: str, adapter: dict[str, Any], tmp_path: Path
) -> None:
    known = {"llama": ("q_proj", "down_proj"), "gpt2": ("c_attn", "mlp.c_proj")}[kind]
    own = {
        key: {name: value for name, value in values.items() if name.startswith("re:") or name in known}
        if isinstance(values, dict) and key != "settings"
        else values
        for key, values in adapter.items()
    }
    recipe = recipe_of(folders[kind], **{"targets": None, **own})
    ours, theirs = planned(recipe), real(recipe, tmp_path)

    # peft's AdaLoRA keeps a number beside each target, as a parameter that does not train.
    assert (ours.trainable, ours.total) == (theirs.trainable, theirs.total - _numbers(recipe))


def _numbers(recipe: Recipe) -> int:
    listed = parameters.of_model(recipe.model, None) or []
    return len(adapter_parameters.targets(recipe.adapter, listed)) if isinstance(recipe.adapter, AdaLora) else 0


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"r": 9}, "adapter.r: 9 is more than the smaller side of model.layers.0.self_attn.k_proj, 8; set it lower"),
        ({"ranks": {"v_proj": 9}}, "adapter.ranks: 9 is more than the smaller side of model.layers.0.self_attn.v_proj"),
        ({"alphas": {"q_porj": 2}}, "adapter.alphas.q_porj: 'q_porj' fits the name of no linear layer; did you mean q"),
    ],
    ids=str,
)
def test_ranks_that_do_not_fit_are_told(folders: dict[str, Path], adapter: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(recipe_of(folders["llama"], "all_linear", **adapter))

    assert str(caught.value.problems[0]).startswith(message)


@pytest.mark.parametrize(
    ("kind", "adapter", "message"),
    [
        (
            "llama",
            {"kind": "oft", "block": 6},
            "adapter.block: 6 does not divide the 16 inputs of model.layers.0.",
        ),
        ("llama", {"kind": "adalora"}, "adapter.first: 12 is more than the smaller side of model.layers.0.self_attn.k"),
        (
            "llama",
            {"kind": "peft", "method": "loah"},
            "adapter.method: 'loah' is no method of the installed peft",
        ),
        (
            "llama",
            {"kind": "peft", "method": "oft"},
            "adapter.method: 'oft' is a kind of its own; set adapter",
        ),
        ("llama", {"kind": "peft", "method": "poly"}, "adapter.method: 'poly' learns several tasks at once, which no"),
        (
            "llama",
            {"kind": "peft", "method": "loha", "settings": {"rank": 4}},
            "adapter.settings.rank: is no key of peft's LoHaConfig; known: ",
        ),
        (
            "llama",
            {"kind": "peft", "method": "c3a"},
            "adapter.settings: peft's C3AConfig cannot be put here: The block size should be a factor of the input",
        ),
    ],
    ids=str,
)
def test_methods_that_do_not_fit_are_told(
    folders: dict[str, Path], kind: str, adapter: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(recipe_of(folders[kind], None, **adapter))

    assert str(caught.value.problems[0]).startswith(message)


@pytest.mark.parametrize("kind", ["llama", "untied", "gpt2"])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_new_tokens_are_counted(folders: dict[str, Path], kind: str, adapter: str, tmp_path: Path) -> None:
    recipe = a_recipe.recipe(
        model={"name": str(folders[kind]), "add_tokens": ["<a>", "<b>"]},
        adapter={"kind": "none"} if adapter == "none" else {"kind": adapter, "r": 3},
    )

    assert planned(recipe) == real(recipe, tmp_path)


def test_without_an_adapter_all_parameters_train(folders: dict[str, Path]) -> None:
    recipe = a_recipe.recipe(model={"name": str(folders["llama"])})
    counts = planned(recipe)

    assert counts.total == counts.trainable == planned(recipe_of(folders["llama"], "mlp")).total - 2 * 3 * 3 * 40


def test_targets_that_fit_nothing_are_told_all_at_once_with_near_names(folders: dict[str, Path]) -> None:
    recipe = recipe_of(folders["llama"], ["q_porj", "re:.*[.]5[.]q_proj", "v_proj"])

    with pytest.raises(RecipeError) as caught:
        planned(recipe)

    assert [problem.where for problem in caught.value.problems] == ["adapter.targets.0", "adapter.targets.1"]
    assert "did you mean q_proj?" in caught.value.problems[0].message
    assert list(caught.value.problems) == trainable.problems(recipe)


def test_an_ending_begins_at_a_part_of_the_name(folders: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match="'proj' fits the name of no linear layer"):
        planned(recipe_of(folders["llama"], ["proj"]))


def test_a_model_that_is_not_here_is_not_complained_of() -> None:
    recipe = a_recipe.recipe(model={"name": "somebody/something"}, adapter={"kind": "lora", "targets": ["x"]})

    assert trainable.problems(recipe) == []


@pytest.mark.parametrize(
    ("optimizer", "strategy", "message"),
    [
        (
            {"kind": "galore"},
            {},
            "optimizer.galore.rank: no matrix inside a layer that trains has a smaller side above 128; set it below 64",
        ),
        (
            {"kind": "muon"},
            {"kind": "partial", "train": ["norms"]},
            "optimizer.kind: no matrix inside a layer trains, which muon is for; set it to adamw",
        ),
        ({"kind": "galore", "galore": {"rank": 32}}, {}, None),
        ({"kind": "muon"}, {}, None),
    ],
    ids=str,
)
def test_an_optimizer_for_matrices_finds_one(
    optimizer: dict[str, Any], strategy: dict[str, Any], message: str | None
) -> None:
    listed = [
        parameter("model.embed_tokens.weight", (300, 64)),
        parameter("model.layers.0.mlp.up_proj.weight", (128, 64)),
        parameter("model.layers.0.input_layernorm.weight", (64,)),
        parameter("model.norm.weight", (64,)),
    ]
    wanted = a_recipe.recipe(optimizer=optimizer, strategy=strategy or {"kind": "full"})

    problem = trainable.optimizer_is_used(wanted, listed)

    assert (problem and str(problem)) == message
