"""What only a CUDA device runs: attention kernels and fused losses, forward and backward."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import families
import pytest
import torch
from torch import nn
from torch.nn import functional

from trainer.model import attention, flash_attention, flex_attention, fused_loss, isolation
from trainer.model.attention import SEGMENTS, Asked, Segments
from trainer.model.attention_choice import choose
from trainer.model.cross_entropy import Bend, Loss, linear_cross_entropy
from trainer.model.flash_attention import VARLEN
from trainer.model.flex_attention import FLEX

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
LENGTHS = (5, 1, 300, 64, 700)
flash_is_there = flash_attention.package() or flash_attention.torchs() is not None
needs_flash = pytest.mark.skipif(not flash_is_there, reason="neither flash-attn nor torch's kernel is there")
Heads = tuple[torch.Tensor, ...]


def _heads(dtype: torch.dtype, keys: int = 2, size: int = 64, lengths: tuple[int, ...] = LENGTHS) -> Heads:
    torch.manual_seed(0)
    shapes = [(1, heads, sum(lengths), size) for heads in (6, keys, keys)]
    return tuple(torch.randn(shape, device=CUDA, dtype=dtype, requires_grad=True) for shape in shapes)


def _run(kernel: Any, heads: Heads, asked: Asked, lengths: tuple[int, ...] = LENGTHS) -> list[torch.Tensor]:
    """The output and the gradients of what is asked of the heads, and of the sinks where there are any."""
    output = kernel(*heads, Segments(lengths), asked)
    leaves = [*heads, *([] if asked.sinks is None else [asked.sinks])]
    weights = torch.linspace(-1, 1, output.numel(), device=CUDA).view_as(output).to(output.dtype)
    return [output, *torch.autograd.grad((output * weights).sum(), leaves)]


def _exact(heads: Heads, asked: Asked) -> list[torch.Tensor]:
    """Example by example in float64."""
    doubled = tuple(one.detach().double().requires_grad_() for one in heads)
    sinks = None if asked.sinks is None else asked.sinks.detach().double().requires_grad_()
    return _run(attention.attend, doubled, Asked(**{**vars(asked), "sinks": sinks}))


def _near(ours: list[torch.Tensor], theirs: list[torch.Tensor], allowed: float) -> None:
    for one, exact in zip(ours, theirs, strict=True):
        assert (one.double() - exact.double()).norm() <= allowed * exact.double().norm()


ASKED = {
    "plain": Asked(0.125),
    "window": Asked(0.125, window=50),
    "cap": Asked(0.125, cap=2.0),
    "window and cap": Asked(0.125, window=50, cap=2.0),
    "both ways": Asked(0.125, causal=False),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("keys", [1, 2, 6])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 0.02), (torch.float32, 5e-3)])
def test_flex_is_each_example_alone(asked: str, keys: int, dtype: torch.dtype, allowed: float) -> None:
    heads = _heads(dtype, keys)

    _near(_run(flex_attention.attend, heads, ASKED[asked]), _exact(heads, ASKED[asked]), allowed)


def test_flex_has_sinks_and_their_gradient() -> None:
    heads = _heads(torch.bfloat16)
    asked = Asked(0.125, sinks=torch.linspace(-2, 2, 6, device=CUDA).requires_grad_())

    _near(_run(flex_attention.attend, heads, asked), _exact(heads, asked), 0.02)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("keys", [1, 2, 6])
@pytest.mark.parametrize("kernel", ["package", "torch"])
def test_flash_is_each_example_alone(kernel: str, asked: str, keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(kernel, monkeypatch)
    if kernel == "torch" and ASKED[asked].cap is not None:
        pytest.skip("torch's kernel bends no scores, and refuses to")
    heads = _heads(torch.bfloat16, keys)

    _near(_run(flash_attention.attend, heads, ASKED[asked]), _exact(heads, ASKED[asked]), 0.02)


def _only(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "package" and not flash_attention.package():
        pytest.skip("flash-attn is not installed")
    if kernel == "torch" and flash_attention.torchs() is None:
        pytest.skip("this torch has no kernel of variable lengths")
    monkeypatch.setattr(flash_attention, "package", lambda: kernel == "package")


@pytest.mark.parametrize("kernel", [pytest.param(flash_attention.attend, marks=needs_flash), flex_attention.attend])
def test_what_one_example_says_changes_no_other_output_by_a_bit(kernel: Any) -> None:
    heads = _heads(torch.bfloat16)
    changed = tuple(one.detach().clone() for one in heads)
    for one in changed:
        one[:, :, 6:306] = one[:, :, 6:306].flip(1)

    with torch.no_grad():
        first, second = (
            kernel(*each, Segments(LENGTHS), Asked(0.125)).split(LENGTHS, dim=2) for each in (heads, changed)
        )

    equal = [torch.equal(one, two) for one, two in zip(first, second, strict=True)]
    assert equal == [True, True, False, True, True]


def test_rows_of_one_size_share_a_program_of_flex() -> None:
    torch._dynamo.utils.counters.clear()
    graphs = []
    for lengths in ((1000, 20), (500, 520), (1, 1019), (1024,)):
        _run(flex_attention.attend, _heads(torch.bfloat16, lengths=lengths), Asked(0.125), lengths)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    assert len({*graphs}) == 1


@pytest.mark.parametrize("kernel", [pytest.param(VARLEN, marks=needs_flash), FLEX])
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "qwen3"])
def test_a_model_gives_the_logits_of_its_segments(kind: str, kernel: str) -> None:
    model = families.model(kind, families.PACKED[kind] | {"head_dim": 16}, SEGMENTS).to(CUDA, torch.bfloat16)
    if kernel == VARLEN and kind == "gemma2" and not flash_attention.package():
        pytest.skip("only flash-attn bends scores")
    lengths = (30, 1, 9)
    inputs = {
        "input_ids": torch.randint(3, families.VOCABULARY, (1, 40), device=CUDA),
        "position_ids": torch.cat([torch.arange(length, device=CUDA) for length in lengths])[None],
        "segments": Segments(lengths),
        "use_cache": False,
    }
    isolation.check(model)

    with torch.no_grad():
        wanted = model(**inputs).logits
        model.set_attn_implementation(kernel)
        made = model(**inputs).logits

    _near([made], [wanted], 0.03)


def test_auto_takes_a_kernel_of_the_device() -> None:
    model = families.model("llama", families.PACKED["llama"], SEGMENTS)

    assert choose(model, "auto", torch.bfloat16, cuda=True) == (VARLEN if flash_is_there else FLEX)
    assert choose(model, "auto", torch.float32, cuda=True) == FLEX


@pytest.fixture(params=["liger_kernel", "cut_cross_entropy", "none"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The only one that is there; none for the chunks of our own."""
    name: str = request.param
    if name != "none" and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(fused_loss, "installed", lambda other: other == name)
    yield name


LOSSES = {"plain": Loss(), "smoothed": Loss(smoothing=0.1), "z": Loss(z=1e-3), "both": Loss(smoothing=0.1, z=1e-3)}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", ["nothing", "head", "states"])
def test_a_fused_loss_is_that_of_all_logits(
    package: str, loss: str, cap: float | None, bias: bool, frozen: str
) -> None:
    torch.manual_seed(0)
    head = nn.Linear(128, 1003, bias=bias, device=CUDA, dtype=torch.bfloat16)
    states = torch.randn(300, 128, device=CUDA, dtype=torch.bfloat16, requires_grad=frozen != "states")
    head.requires_grad_(frozen != "head")
    targets = torch.randint(1003, (300,), device=CUDA)
    bend = Bend(cap=cap) if cap else None
    leaves = [one for one in (states, *head.parameters()) if one.requires_grad]
    doubled = [one.detach().double().requires_grad_() for one in (states, *head.parameters())]
    logits = functional.linear(*doubled)
    exact = _loss_in_double(bend(logits) if bend else logits, targets, LOSSES[loss])
    wanted = torch.autograd.grad(exact, doubled)
    kept = {"nothing": wanted, "head": wanted[:1], "states": wanted[1:]}[frozen]

    made = linear_cross_entropy(head, states, targets, 1003, loss=LOSSES[loss], after=bend)

    assert abs(made.double() - exact) <= 2e-3 * exact
    _near(list(torch.autograd.grad(made, leaves)), list(kept), 0.02)


def _loss_in_double(logits: torch.Tensor, targets: torch.Tensor, loss: Loss) -> torch.Tensor:
    total = functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=loss.smoothing)
    return total + loss.z * torch.logsumexp(logits, dim=-1).square().sum()


def test_no_logits_are_held_for_all_positions_on_the_device(package: str) -> None:
    vocabulary, positions = 50_000, 20_000
    head = nn.Linear(256, vocabulary, bias=False, device=CUDA, dtype=torch.bfloat16)
    states = torch.randn(positions, 256, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(vocabulary, (positions,), device=CUDA)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()

    linear_cross_entropy(head, states, targets, vocabulary).backward()

    assert torch.cuda.max_memory_allocated() - before < positions * vocabulary * 2 / 2
