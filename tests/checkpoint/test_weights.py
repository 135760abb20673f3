import json
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed import trajectory
from distributed.pair import Pair
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from trainer.checkpoint import weights
from trainer.errors import RunError

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS = {
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "untied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
    # The model holds the experts of a layer in one tensor, its files one by one.
    "experts": lambda: MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=3)),
}


class Held:
    """An engine that holds every tensor."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def gather(self, names: list[str]) -> Any:
        state = self.model.state_dict()
        return ((name, state[name.removeprefix("model.")]) for name in names)


@pytest.mark.parametrize("kind", MODELS)
def test_the_files_hold_what_transformers_would_write(tmp_path: Path, kind: str) -> None:
    model = MODELS[kind]()
    model.save_pretrained(tmp_path / "theirs")

    weights.save_model(tmp_path / "ours", Held(model), model, trajectory.NoTokenizer())  # type: ignore[arg-type]

    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("kind", MODELS)
def test_a_large_model_lies_in_numbered_files_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", 16_000)
    model = MODELS[kind]()

    weights.save_model(tmp_path / "ours", Held(model), model, trajectory.NoTokenizer())  # type: ignore[arg-type]

    files = sorted((tmp_path / "ours").glob("*.safetensors"))
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    for path in files:
        held = load_file(path).values()
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held) <= 16_000
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "engine",
    [
        {"kind": "torch"},
        {"kind": "deepspeed", "zero": 2},
        # Without a threshold, small parameters stay on every rank.
        {
            "kind": "deepspeed",
            "zero": 3,
            "deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}},
        },
    ],
    ids=["torch", "zero2", "zero3"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_ranks_write_the_trained_weights_one_by_one(
    pair: Pair, tmp_path: Path, engine: dict[str, Any], dtype: str
) -> None:
    results = pair.run(trajectory.written, engine, str(tmp_path / "model"), dtype)

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=getattr(torch, dtype))
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter.float(), torch.from_numpy(results[0]["weights"][name]))
    if engine.get("zero") == 3:
        # When a tensor is handed over, nothing of the model stands whole on any rank any more.
        assert [result["whole"] for result in results] == [0, 0]


def test_a_full_disk_is_told_and_leaves_the_former_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["tied"]()
    weights.save_model(tmp_path / "model", Held(model), model, trajectory.NoTokenizer())  # type: ignore[arg-type]
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    monkeypatch.setattr(weights, "save_file", _full)

    with pytest.raises(RunError, match="No space left on device"):
        weights.save_model(tmp_path / "model", Held(model), model, trajectory.NoTokenizer())  # type: ignore[arg-type]

    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def _full(*_: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
