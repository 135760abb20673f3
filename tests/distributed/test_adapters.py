"""LoRA and new tokens on every engine: the gradient of the plain loop, and a result that peft alone loads."""

from functools import partial
from pathlib import Path
from typing import Any

import a_model
import numpy as np
import pytest
import torch
from distributed import adapted
from distributed.pair import Pair
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TORCH: dict[str, Any] = {"kind": "torch"}
ZERO: dict[int, dict[str, Any]] = {stage: {"kind": "deepspeed", "zero": stage} for stage in (1, 2, 3)}
ENGINES = [
    pytest.param(TORCH, id="torch"),
    *(pytest.param(engine, id=f"zero{stage}") for stage, engine in ZERO.items()),
]


def slow(one: Any) -> Any:
    """The same parameter, in the slow tests."""
    return pytest.param(*one.values, id=one.id, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        "tied": str(a_model.save(folder / "tied")),
        "untied": str(a_model.save(folder / "untied", tied=False)),
        "spare": str(a_model.save(folder / "spare", vocabulary=320)),
        "gpt2": str(a_model.save(folder / "gpt2", "gpt2")),
    }


def reference(base: str, result: dict[str, Any]) -> dict[str, np.ndarray]:
    """The gradient in float64 by plain torch: matrices W + alpha / r B A, one example at a time, all logits."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    values = {
        name: torch.tensor(value, dtype=torch.float64).requires_grad_() for name, value in result["values"].items()
    }
    weights = {name: one.detach() for name, one in model.named_parameters()}
    new = range(*result["new"])
    for name, value in values.items():
        name = name.removeprefix("model.")
        if "lora_A" in name:
            b = values[f"model.{name}".replace("lora_A", "lora_B")]
            target = name.replace(".lora_A.default", "")
            product = 2.0 * b @ value
            weights[target] = weights[target] + (product.T if model.config.model_type == "gpt2" else product)
        elif name.endswith(".rows"):
            target = name.replace(".rows", ".weight")
            weights[target] = torch.cat([weights[target][: new.start], value, weights[target][new.stop :]])
    if model.config.tie_word_embeddings:
        embedding = "model.embed_tokens.weight" if "model.embed_tokens.weight" in weights else "transformer.wte.weight"
        weights["lm_head.weight"] = weights[embedding]
    rows = adapted.rows(new)
    total = int(rows.targets.sum())
    for row in range(len(rows)):
        tokens = torch.from_numpy(rows.tokens(row).astype(np.int64))
        logits = torch.func.functional_call(model, weights, (tokens[None],), tie_weights=False).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        (losses[torch.from_numpy(rows.learned(row))[1:]].sum() / total).backward(retain_graph=True)
    return {name: value.grad.numpy() for name, value in values.items()}


def difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """The largest over all parameters of the norm of the difference over the norm."""
    assert ours.keys() == theirs.keys()
    assert ours
    return max(float(np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name])) for name in theirs)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_give_the_gradient_of_the_plain_loop(
    pair: Pair, bases: dict[str, str], engine: dict[str, Any]
) -> None:
    results = pair.run(adapted.gradient, bases["tied"], engine, adapted.TOKENS)
    expected = reference(bases["tied"], results[0])

    assert [difference(one["gradients"], expected) <= 1e-5 for one in results] == [True, True]


METHODS: dict[str, dict[str, Any]] = {
    "dora": {"kind": "dora", "r": 4, "alpha": 8},
    "ia3": {"kind": "ia3"},
    "rslora": {"kind": "lora", "r": 4, "alpha": 8, "rslora": True, "ranks": {}},
}


def exact(base: str, adapter: dict[str, Any], result: dict[str, Any]) -> dict[str, np.ndarray]:
    """The gradient in float64 by peft's own forward, one example at a time."""
    wanted = adapted.recipe(base, TORCH, adapter=adapter)
    # PiSSA takes no float64 apart.
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32 if "start" in adapter else torch.float64)
    model = adapted.METHODS[wanted.adapter.kind](plain, wanted, range(0)).model.double().eval()
    named = {f"model.{name}": one for name, one in model.named_parameters() if one.requires_grad}
    assert named.keys() == result["values"].keys()
    for name, one in named.items():
        one.data.copy_(torch.tensor(result["values"][name], dtype=torch.float64))
    rows = adapted.rows(range(0))
    total = int(rows.targets.sum())
    for row in range(len(rows)):
        tokens = torch.from_numpy(rows.tokens(row).astype(np.int64))
        losses = torch.nn.functional.cross_entropy(model(tokens[None]).logits[0, :-1], tokens[1:], reduction="none")
        (losses[torch.from_numpy(rows.learned(row))[1:]].sum() / total).backward()
    return {name: one.grad.numpy() for name, one in named.items() if one.grad is not None}


def of(base: str, method: str) -> dict[str, Any]:
    """The settings of a method for a model, whose layers have names of their own."""
    own = dict(METHODS[method])
    if "ranks" in own:
        own["ranks"] = {"c_attn": 2} if "gpt2" in base else {"q_proj": 2}
    return own


OTHERS: dict[str, dict[str, Any]] = {
    "pissa": {"kind": "lora", "r": 4, "start": "pissa"},
    "vera": {"kind": "vera", "r": 4},
    "oft": {"kind": "oft", "block": 4},
    "prompt": {"kind": "prompt", "tokens": 3},
    "prefix": {"kind": "prefix", "tokens": 3},
    "p_tuning": {"kind": "p_tuning", "tokens": 3, "hidden": 5},
    "peft": {"kind": "peft", "method": "loha", "settings": {"r": 2}},
}
"""What has no LoRA in it."""


@pytest.mark.parametrize("engine", [*(slow(one) for one in ENGINES[:3]), ENGINES[3]])
@pytest.mark.parametrize(
    "method", [name if name in ("vera", "p_tuning") else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]
)
def test_other_methods_have_the_gradient_of_the_plain_loop(
    pair: Pair, bases: dict[str, str], method: str, engine: dict[str, Any]
) -> None:
    base = bases["untied"]
    if method == "peft" and engine.get("zero") == 3:
        pytest.skip("refused: not all methods of peft know weights that are shared out")
    results = pair.run(partial(adapted.gradient, adapter=OTHERS[method]), base, engine, ())
    expected = exact(base, OTHERS[method], results[0])

    assert [difference(one["gradients"], expected) <= 1e-5 for one in results] == [True, True]


@pytest.mark.parametrize("engine", [ENGINES[0], *(slow(one) for one in ENGINES[1:3]), ENGINES[3]])
@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_the_gradient_of_the_plain_loop(
    pair: Pair, bases: dict[str, str], method: str, engine: dict[str, Any]
) -> None:
    base = bases["untied"]
    results = pair.run(partial(adapted.gradient, adapter=of(base, method)), base, engine, ())
    expected = exact(base, of(base, method), results[0])

    assert [difference(one["gradients"], expected) <= 1e-5 for one in results] == [True, True]


@pytest.mark.parametrize("engine", [slow(ENGINES[0]), slow(ENGINES[2]), ENGINES[3]])
@pytest.mark.parametrize("method", METHODS)
def test_peft_loads_what_each_method_leaves(
    pair: Pair, bases: dict[str, str], method: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    base = bases["untied"]
    settings = partial(adapted.saved, adapter=of(base, method))
    results = pair.run(settings, base, engine, () if method == "ia3" else adapted.TOKENS, str(tmp_path / "adapter"))
    logits = load(base, tmp_path / "adapter", tokens=True)[1]

    assert np.abs(results[0] - logits).max() / np.abs(logits).max() <= 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_peft_loads_what_each_method_leaves_of_gpt2(bases: dict[str, str], method: str, tmp_path: Path) -> None:
    base = bases["gpt2"]
    tokens = () if method == "ia3" else adapted.TOKENS
    logits = adapted.saved(base, TORCH, tokens, str(tmp_path / "adapter"), adapter=of(base, method))

    assert np.abs(load(base, tmp_path / "adapter", tokens=True)[1] - logits).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("base", ["untied", "spare", "gpt2"])
def test_other_models_give_it_too_with_activation_checkpointing(bases: dict[str, str], base: str) -> None:
    result = adapted.gradient(bases[base], TORCH, adapted.TOKENS, train={"checkpointing": "full"})

    assert difference(result["gradients"], reference(bases[base], result)) <= 1e-5


def test_what_is_drawn_is_the_same_on_every_rank_and_however_many_there_are(pair: Pair, bases: dict[str, str]) -> None:
    alone = adapted.gradient(bases["tied"], TORCH, adapted.TOKENS)["values"]
    for engine in (TORCH, ZERO[3]):
        results = pair.run(adapted.gradient, bases["tied"], engine, adapted.TOKENS)
        # Under ZeRO-3 rank 0 alone gets what is gathered.
        for values in [result["values"] for result in (results if engine is TORCH else results[:1])]:
            assert all(np.array_equal(value, alone[name]) for name, value in values.items())


def load(base: str, folder: Path, tokens: bool) -> tuple[PeftModel, np.ndarray]:
    """As the README says."""
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokens and len(tokenizer) > model.config.vocab_size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    loaded = PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        return loaded, loaded(adapted.probe(model)).logits.numpy()


@pytest.mark.parametrize(
    ("base", "engine"), [("tied", TORCH), ("tied", ZERO[2]), ("tied", ZERO[3]), ("untied", ZERO[3])]
)
def test_peft_loads_the_adapter_and_gives_the_logits_of_the_run(
    pair: Pair, bases: dict[str, str], base: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    results = pair.run(adapted.saved, bases[base], engine, adapted.TOKENS, str(tmp_path / "adapter"))
    loaded, logits = load(bases[base], tmp_path / "adapter", tokens=True)

    assert np.abs(results[0] - logits).max() / np.abs(logits).max() <= 1e-5
    assert loaded.peft_config["default"].base_model_name_or_path == bases[base]
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
    }


@pytest.mark.slow
@pytest.mark.parametrize("base", ["spare", "gpt2"])
def test_peft_loads_the_adapter_of_other_models(bases: dict[str, str], base: str, tmp_path: Path) -> None:
    logits = adapted.saved(bases[base], TORCH, adapted.TOKENS, str(tmp_path / "adapter"))

    assert np.abs(load(bases[base], tmp_path / "adapter", tokens=True)[1] - logits).max() <= 1e-4


def test_the_entries_are_those_that_peft_saves_itself(bases: dict[str, str], tmp_path: Path) -> None:
    adapted.saved(bases["untied"], TORCH, adapted.TOKENS, str(tmp_path / "ours"))
    loaded, _ = load(bases["untied"], tmp_path / "ours", tokens=True)
    loaded.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    ours, theirs = (load_file(tmp_path / one / "adapter_model.safetensors") for one in ("ours", "theirs"))

    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("base", "engine"), [("tied", TORCH), ("tied", ZERO[3]), ("untied", ZERO[3])])
def test_a_model_trained_in_full_has_its_new_tokens(
    pair: Pair, bases: dict[str, str], base: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    arguments = (bases[base], engine, adapted.TOKENS, str(tmp_path / "model"))
    results = pair.run(adapted.saved_in_full, *arguments)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        logits = model(adapted.probe(model)).logits.numpy()

    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "model")) == a_model.TOKENS + 2
    assert np.abs(results[0] - logits).max() / np.abs(logits).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [pytest.param(TORCH, id="torch"), *(pytest.param(ZERO[z], id=f"zero{z}") for z in (2, 3))]
)
def test_a_resumed_run_ends_with_the_same_bits(
    pair: Pair, bases: dict[str, str], engine: dict[str, Any], tmp_path: Path
) -> None:
    whole = pair.run(adapted.interrupted, bases["tied"], engine, str(tmp_path))[0]
    again = pair.run(adapted.resumed, bases["tied"], engine, str(tmp_path))[0]

    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(ZERO[2], ZERO[3]), (ZERO[3], TORCH)])
def test_another_engine_goes_on(
    pair: Pair, bases: dict[str, str], before: dict[str, Any], after: dict[str, Any], tmp_path: Path
) -> None:
    whole = pair.run(adapted.interrupted, bases["untied"], before, str(tmp_path))[0]
    again = pair.run(adapted.resumed, bases["untied"], after, str(tmp_path))[0]

    assert difference(again, whole) <= 1e-5
