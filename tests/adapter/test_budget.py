"""AdaLoRA's decisions against peft's own, and when ranks are let go."""

import copy
from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest
import torch
from peft.tuners.adalora.layer import RankAllocator
from transformers import AutoModelForCausalLM

from trainer.adapter.adapted import Adapted
from trainer.adapter.methods import METHODS

STEPS = 20
IDS = torch.randint(256, (3, 17), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


def made(base: Path, **keys: Any) -> Adapted:
    adapter = {"kind": "adalora", "first": 6, "r": 3, "targets": "mlp", "begin": 0.2, "end": 0.25, **keys}
    recipe = a_recipe.recipe(model={"name": str(base), "dtype": "float32"}, adapter=adapter)
    adapted = METHODS["adalora"](AutoModelForCausalLM.from_pretrained(base), recipe, range(0))
    with torch.no_grad():
        for name, one in adapted.model.named_parameters():
            if "lora_E" in name:
                one.normal_(generator=torch.Generator().manual_seed(len(name)))
    assert adapted.budget is not None
    adapted.budget.steps = STEPS
    return adapted


def loss(model: Any) -> torch.Tensor:
    return model(input_ids=IDS, labels=IDS).loss


def trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def test_penalty_and_decisions_are_those_of_peft(base: Path) -> None:
    ours, theirs = made(base), made(base)
    budget = ours.budget
    assert budget is not None
    config = copy.deepcopy(theirs.budget and _config(theirs.model))
    config.total_step, config.tinit, config.tfinal, config.target_r, config.deltaT = STEPS, 4, 5, 3, 1
    allocator = RankAllocator(theirs.model, config, "default")
    optimizers = [torch.optim.SGD(trained(one.model).values(), lr=0.05) for one in (ours, theirs)]
    for step in range(1, STEPS + 1):
        loss(ours.model).backward()
        budget.before_step()
        (loss(theirs.model) + 0.5 * _penalty(theirs.model)).backward()
        plain = trained(theirs.model)
        for name, one in trained(ours.model).items():
            assert torch.allclose(one.grad, plain[name].grad, rtol=1e-4, atol=1e-6), (step, name)
        # theirs looks after the step, where the paper looks before; both are told the gradient of the loss alone here
        for one in plain.values():
            one.grad = None
        loss(theirs.model).backward()
        if step < STEPS - 5 + 1:
            allocator.update_ipt(theirs.model)
        for name, one in plain.items():
            one.grad = trained(ours.model)[name].grad.clone()
        for one in optimizers:
            one.step()
        budget.after_step()
        if 4 < step <= STEPS - 5:
            allocator.mask_to_budget(theirs.model, budget.ranks_at(step))
            last = {n: one == 0 for n, one in plain.items() if "lora_E" in n}
        elif step > STEPS - 5:
            with torch.no_grad():
                for name, gone in last.items():
                    plain[name].masked_fill_(gone, 0.0)
        for one in optimizers:
            one.zero_grad()
        for name, one in trained(ours.model).items():
            assert torch.allclose(one, plain[name], rtol=1e-4, atol=1e-6), (step, name)
    assert sum(int((one != 0).sum()) for name, one in plain.items() if "lora_E" in name) == 3 * 6


def _config(model: Any) -> Any:
    return model.peft_config["default"]


def _penalty(model: torch.nn.Module) -> torch.Tensor:
    """As peft adds it to the loss."""
    held = [one for name, one in trained(model).items() if "lora_A" in name or "lora_B" in name]
    products = [one @ one.T if one.shape[0] < one.shape[1] else one.T @ one for one in held]
    return sum(torch.norm(one - torch.eye(len(one)), p="fro") for one in products) / len(held)


def test_ranks_fall_from_the_first_to_the_last(base: Path) -> None:
    budget = made(base).budget
    assert budget is not None

    ranks = [budget.ranks_at(step) for step in range(STEPS + 1)]
    assert ranks[:5] == [36] * 5 and ranks[15:] == [18] * 6
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[10] == 18 + int(18 * (5 / 11) ** 3)


def test_a_checkpoint_holds_what_is_known_of_importance(base: Path) -> None:
    one = made(base)
    assert one.budget is not None
    for _ in range(6):
        loss(one.model).backward()
        one.budget.before_step()
        one.budget.after_step()
    again = made(base)
    again.model.load_state_dict(one.model.state_dict())
    for each in (one, again):
        assert each.budget is not None
        each.model.zero_grad()
        loss(each.model).backward()
        each.budget.before_step()
        each.budget.after_step()

    held = one.model.state_dict()
    assert held["budget_step"] == 7
    assert all(torch.equal(value, held[name]) for name, value in again.model.state_dict().items())
