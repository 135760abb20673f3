from collections.abc import Iterator
from pathlib import Path

import a_model
import pytest
import torch
from torch._dynamo.utils import counters
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedModel

from trainer import ranks
from trainer.model.attention import SEGMENTS, Segments, segments_attention
from trainer.model.compiling import compile_layers


@pytest.fixture
def model(tmp_path: Path) -> Iterator[PreTrainedModel]:
    loaded = AutoModelForCausalLM.from_pretrained(a_model.save(tmp_path), attn_implementation=SEGMENTS)
    yield loaded.train()
    AttentionInterface.register(SEGMENTS, segments_attention)
    torch.compiler.reset()


def gradients(model: PreTrainedModel, lengths: tuple[int, ...]) -> list[torch.Tensor]:
    """The gradient of a number that depends on all logits of a row, for every weight."""
    torch.manual_seed(sum(lengths))
    tokens = torch.randint(0, a_model.TOKENS, (1, sum(lengths)))
    places = torch.cat([torch.arange(length) for length in lengths])[None]
    logits = model(input_ids=tokens, position_ids=places, segments=Segments(lengths), use_cache=False).logits
    return list(torch.autograd.grad(torch.logsumexp(logits, dim=-1).sum(), list(model.parameters())))


# Raised while torch looks at tensors between two graphs, whatever the model does.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.slow
def test_compiled_layers_give_the_same_gradients_and_compile_once(model: PreTrainedModel) -> None:
    rows = [(5, 9), (20, 3, 8), (31,), (2, 2, 2, 2, 40), (17, 6)]
    wanted = [gradients(model, row) for row in rows]
    graphs = []

    assert compile_layers(model) is None
    for row, theirs in zip(rows, wanted, strict=True):
        for ours, exact in zip(gradients(model, row), theirs, strict=True):
            assert (ours - exact).norm() <= 1e-5 * exact.norm()
        graphs.append(counters["stats"]["unique_graphs"])

    assert graphs[0] > 0
    assert graphs[2:] == [graphs[1]] * 3


def test_without_a_compiler_the_layers_stay_as_they_are(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "compiler", lambda: None)
    monkeypatch.setattr(ranks, "accelerators", lambda: 0)

    lacking = compile_layers(model)

    assert lacking is not None
    assert "no C++ compiler" in lacking
    assert all(module._compiled_call_impl is None for module in model.modules())
