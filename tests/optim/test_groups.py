import torch
from torch import nn

from trainer.optim.groups import groups


def _names(module: nn.Module, group: dict[str, object]) -> set[str]:
    members = group["params"]
    assert isinstance(members, list)
    return {name for name, weight in module.named_parameters() if any(weight is one for one in members)}


def test_matrices_decay_and_vectors_do_not() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "embedding": nn.Embedding(5, 4)})

    decayed, others = groups(module, 0.1)

    assert (_names(module, decayed), decayed["weight_decay"]) == ({"linear.weight", "embedding.weight"}, 0.1)
    assert (_names(module, others), others["weight_decay"]) == ({"linear.bias", "norm.weight", "norm.bias"}, 0.0)


def test_frozen_parameters_are_in_no_group() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    module[0].requires_grad_(False)

    (only,) = groups(module, 0.1)

    assert _names(module, only) == {"1.weight"}


def test_a_shared_weight_is_in_one_group_once() -> None:
    module = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    module["head"].weight = module["embedding"].weight

    (only,) = groups(module, 0.1)

    assert len(only["params"]) == 1


def test_a_parameter_that_zero_3_shares_out_counts_by_its_whole_shape() -> None:
    module = nn.Linear(4, 4)
    shapes = {name: weight.shape for name, weight in module.named_parameters()}
    for name, weight in module.named_parameters():
        weight.data = torch.empty(0)
        weight.ds_shape = shapes[name]  # type: ignore[attr-defined]

    decayed, others = groups(module, 0.1)

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
        (group["weight_decay"], group["eight_bit"]): _names(module, group)
        for group in groups(module, 0.1, eight_bit=True)
    }

    assert made == {
        (0.1, False): {"embedding.weight", "thin.weight"},
        (0.1, True): {"linear.weight"},
        (0.0, False): {"linear.bias", "thin.bias"},
        (0.0, True): {"norm.weight", "norm.bias"},
    }
    assert {group["eight_bit"] for group in groups(module, 0.1)} == {False}
