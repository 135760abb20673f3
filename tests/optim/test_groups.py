import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim.groups import groups, in_words, shown


def _names(module: nn.Module, group: dict[str, object]) -> set[str]:
    members = group["params"]
    assert isinstance(members, list)
    return {name for name, weight in module.named_parameters() if any(weight is one for one in members)}


def test_matrices_decay_and_vectors_do_not() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "embedding": nn.Embedding(5, 4)})

    decayed, others = groups(Optimizer(weight_decay=0.1), module)

    assert (_names(module, decayed), decayed["weight_decay"]) == ({"linear.weight", "embedding.weight"}, 0.1)
    assert (_names(module, others), others["weight_decay"]) == ({"linear.bias", "norm.weight", "norm.bias"}, 0.0)


def test_frozen_parameters_are_in_no_group() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    module[0].requires_grad_(False)

    (only,) = groups(Optimizer(weight_decay=0.1), module)

    assert _names(module, only) == {"1.weight"}


def test_a_shared_weight_is_in_one_group_once() -> None:
    module = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    module["head"].weight = module["embedding"].weight

    (only,) = groups(Optimizer(weight_decay=0.1), module)

    assert len(only["params"]) == 1


def test_a_parameter_that_zero_3_shares_out_counts_by_its_whole_shape() -> None:
    module = nn.Linear(4, 4)
    shapes = {name: weight.shape for name, weight in module.named_parameters()}
    for name, weight in module.named_parameters():
        weight.data = torch.empty(0)
        weight.ds_shape = shapes[name]  # type: ignore[attr-defined]

    decayed, others = groups(Optimizer(weight_decay=0.1), module)

    assert (_names(module, decayed), _names(module, others)) == ({"weight"}, {"bias"})


def test_moments_of_embeddings_and_small_weights_are_not_kept_in_8_bits() -> None:
    module = nn.ModuleDict(
        {
            "embedding": nn.Embedding(100, 64),
            "linear": nn.Linear(64, 64),
            "thin": nn.Linear(64, 3),
            "norm": nn.LayerNorm(5000),
        }
    )

    made = {
        (group["weight_decay"], group["form"]): _names(module, group)
        for group in groups(Optimizer(kind="adamw_8bit", weight_decay=0.1), module)
    }

    assert made == {
        (0.1, "adamw"): {"embedding.weight", "thin.weight"},
        (0.1, "8bit"): {"linear.weight"},
        (0.0, "adamw"): {"linear.bias", "thin.bias"},
        (0.0, "8bit"): {"norm.weight", "norm.bias"},
    }
    assert {group["form"] for group in groups(Optimizer(weight_decay=0.1), module)} == {"adamw"}


def test_each_layer_has_a_rate_of_its_own() -> None:
    layers = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])})
    module = nn.ModuleDict(
        {"embed_tokens": nn.Embedding(5, 4), "model": layers, "lm_head": nn.Linear(4, 5, bias=False)}
    )
    settings = Optimizer(layer_decay=0.5, rates={"head": 10.0, "embeddings": 0.1})

    found = {name: group["scale"] for group in groups(settings, module) for name in _names(module, group)}

    assert found == {
        "lm_head.weight": 10.0,
        **{f"model.layers.2.{name}": 0.5 for name in ("weight", "bias")},
        **{f"model.layers.1.{name}": 0.25 for name in ("weight", "bias")},
        **{f"model.layers.0.{name}": 0.125 for name in ("weight", "bias")},
        "embed_tokens.weight": 0.1 * 0.0625,
    }
    rows = shown(groups(settings, module))
    assert [(row.rate, row.size) for row in rows] == [
        ("head", 20),
        ("layer 2", 20),
        ("layer 1", 20),
        ("layer 0", 20),
        ("embeddings", 20),
    ]
    assert in_words(rows, 100).splitlines()[:2] == [
        "100 of 100 parameters train (100.00%):",
        "  head        20  rate x 10",
    ]


def test_the_b_matrices_of_lora_have_a_rate() -> None:
    layer = nn.ModuleDict(
        {"q_proj": nn.ModuleDict({part: nn.Linear(4, 4, bias=False) for part in ("lora_A", "lora_B")})}
    )
    module = nn.ModuleDict({"layers": nn.ModuleList([layer])})

    made = groups(Optimizer(rates={"lora_b": 16.0}), module)

    assert {(group["scale"], *_names(module, group)) for group in made} == {
        (1.0, "layers.0.q_proj.lora_A.weight"),
        (16.0, "layers.0.q_proj.lora_B.weight"),
    }
