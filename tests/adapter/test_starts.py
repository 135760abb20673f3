"""LoRA that begins with a part of the weights, or with what their quantization lost."""

from pathlib import Path
from typing import Any

import a_model
import a_recipe
import numpy as np
import pytest
import torch
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES
from transformers import AutoModelForCausalLM

from trainer.adapter.methods import METHODS
from trainer.data.batches import Batch
from trainer.errors import RecipeError
from trainer.model import quantize
from trainer.tasks.causal_lm import CausalLM

IDS = torch.arange(3, 60)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


def begun(base: Path, start: str, **model: Any) -> Any:
    settings = {"name": str(base), "dtype": "float32", **model}
    recipe = a_recipe.recipe(model=settings, adapter={"kind": "lora", "r": 4, "alpha": 4, "start": start})
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **quantize.loading(recipe))
    quantize.mend(loaded)
    return METHODS["lora"](loaded, recipe, range(0)).model.eval()


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_part_is_taken_out_and_put_beside(base: Path, start: str) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base)
    model = begun(base, start)

    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, plain(IDS).logits, atol=2e-5)
    layer, whole = model.model.layers[0].mlp.up_proj, plain.model.layers[0].mlp.up_proj.weight
    assert not torch.allclose(layer.base_layer.weight, whole, atol=1e-3)
    if start == "pissa":
        values = torch.linalg.svdvals(whole.double())
        left = torch.linalg.svdvals(layer.base_layer.weight.detach().double())
        assert torch.allclose(left[: len(values) - 4], values[4:], atol=1e-3)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"kind": "lora", "r": 4, "start": "olora"}, r"adapter\.start: peft has no olora for layers that hold"),
        (
            {"kind": "oft", "block": 8},
            r"adapter\.kind: peft has no oft for layers that hold their matrix as \[in, out\]",
        ),
    ],
    ids=str,
)
def test_what_peft_lacks_for_gpt2_is_told(tmp_path: Path, adapter: dict[str, Any], message: str) -> None:
    base = a_model.save(tmp_path / "gpt2", "gpt2")
    recipe = a_recipe.recipe(model={"name": str(base), "dtype": "float32"}, adapter=adapter)

    with pytest.raises(RecipeError, match=message):
        METHODS[adapter["kind"]](AutoModelForCausalLM.from_pretrained(base), recipe, range(0))


def test_loftq_is_nearer_to_the_whole_weights_than_the_quantized_ones_are(base: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        wanted = plain(IDS).logits
        default, loftq = (
            float((begun(base, start, quantization="nf4")(IDS).logits - wanted).norm())
            for start in ("default", "loftq")
        )

    assert loftq < 0.7 * default


def test_eva_begins_with_the_directions_of_what_enters_each_target(base: Path) -> None:
    recipe = a_recipe.recipe(
        model={"name": str(base), "dtype": "float32"}, adapter={"kind": "lora", "r": 4, "start": "eva"}
    )
    adapted = METHODS["lora"](AutoModelForCausalLM.from_pretrained(base), recipe, range(0))
    module = CausalLM(adapted.model)
    entered: dict[str, list[torch.Tensor]] = {}
    for name, layer in module.named_modules():
        if hasattr(layer, "lora_A"):
            keep = entered.setdefault(name, [])
            layer.register_forward_pre_hook(lambda layer, given, keep=keep: keep.append(given[0].flatten(0, -2)))
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, 256, length).astype(np.int32) for length in (30, 40, 20)]
    mask = torch.tensor([[index < len(row) for index in range(40)] for row in rows])
    ids = torch.stack([torch.nn.functional.pad(torch.from_numpy(row).long(), (0, 40 - len(row))) for row in rows])
    places = torch.arange(40).expand(3, -1)
    batch = Batch(ids, places, ids.roll(-1, 1), attention_mask=mask.long(), segments=None, tokens=90)
    assert adapted.look is not None

    adapted.look(module, [batch], torch.device("cpu"))

    assert len(entered) == 14
    for name, given in entered.items():
        _, values, right = torch.linalg.svd(given[0][mask.flatten()].double(), full_matrices=False)
        ours = dict(module.named_modules())[name].lora_A["default"].weight.detach().double()
        assert torch.allclose((ours @ right[:4].T).abs(), torch.eye(4, dtype=torch.float64), atol=1e-3), name
        assert values[3] > values[4]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "zero2"])
def test_a_run_begins_so_on_two_processes_and_goes_on(base: Path, engine: str, tmp_path: Path) -> None:
    model = {"config": None, "tokenizer": None, "name": str(base), "dtype": "float32"}
    adapter = {"kind": "lora", "r": 4, "start": "eva"}
    sections = {"model": model, "adapter": adapter, "optimizer": {"lr": 1e-2}, **ENGINES[engine]}
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = shardtune("train", str(write_recipe(tmp_path / "whole", **sections)))
    assert whole.returncode == 0, whole.stderr
    recipe = str(write_recipe(tmp_path / "cut", **sections))
    for settings in (["train.max_steps=5"], []):
        assert shardtune("train", recipe, *settings).returncode == 0

    losses = [[event["loss"] for event in metrics(tmp_path / name / "run")] for name in ("whole", "cut")]
    assert losses[0] == losses[1]
    assert read_json(tmp_path / "whole" / "run" / "summary.json")["adapter"]["difference"] <= 1e-5
