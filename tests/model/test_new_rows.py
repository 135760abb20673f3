"""Rows for new tokens: alike everywhere, trained alone, and invisible to what was there before."""

from pathlib import Path

import a_model
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.errors import RecipeError
from trainer.model.new_rows import let_train, make_room

BEFORE = a_model.TOKENS


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(a_model.save(tmp_path / "model", tied=request.param))


def test_a_new_row_is_the_mean_of_the_old_ones(model: PreTrainedModel) -> None:
    before = model.get_input_embeddings().weight.detach().clone()

    make_room(model, BEFORE + 3)

    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert weight.shape[0] == BEFORE + 3
        assert torch.allclose(weight[BEFORE:], weight[:BEFORE].mean(dim=0))
    assert torch.equal(model.get_input_embeddings().weight[:BEFORE], before)
    assert model.config.vocab_size == BEFORE + 3


def test_rows_to_spare_are_used_as_they_are(model: PreTrainedModel) -> None:
    before = model.get_input_embeddings().weight.detach().clone()

    make_room(model, BEFORE - 5)

    assert torch.equal(model.get_input_embeddings().weight, before)


@pytest.mark.parametrize("first", [BEFORE - 2, 40])
def test_rows_that_train_change_no_logits_before_they_do(model: PreTrainedModel, first: int) -> None:
    tokens = torch.arange(BEFORE - 60, BEFORE)[None]
    expected = model(tokens).logits

    let_train(model, first, 2)

    assert torch.allclose(model(tokens).logits, expected, atol=1e-6)


def test_only_the_new_rows_get_a_gradient_and_it_is_theirs(model: PreTrainedModel) -> None:
    tokens = torch.arange(BEFORE - 60, BEFORE)[None]
    torch.nn.functional.cross_entropy(model(tokens).logits[0, :-1], tokens[0, 1:]).backward()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    expected = [weight.grad[-2:] for weight in {id(one): one for one in (embedding, head)}.values()]
    model.zero_grad()

    model.requires_grad_(False)
    names = let_train(model, BEFORE - 2, 2)
    torch.nn.functional.cross_entropy(model(tokens).logits[0, :-1], tokens[0, 1:]).backward()

    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert [*trained] == [f"{name}.rows" for name in names]
    assert all(
        torch.allclose(one.grad, wanted, atol=1e-6) for one, wanted in zip(trained.values(), expected, strict=True)
    )


def test_a_head_with_a_bias_is_refused() -> None:
    from transformers import PhiConfig, PhiForCausalLM

    config = PhiConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(RecipeError, match="this model's head has one"):
        let_train(PhiForCausalLM(config), 30, 2)
