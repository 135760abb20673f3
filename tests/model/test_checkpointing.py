import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from trainer.config.train import Every
from trainer.data.batches import batch_of
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.errors import RecipeError
from trainer.model import checkpointing
from trainer.model.attention import SEGMENTS
from trainer.model.checkpointing import apply, kinds_of, layers_of, measure
from trainer.tasks.causal_lm import CausalLM

CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2,
    ),
    "qwen3": Qwen3Config(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    ),
    "gpt2": GPT2Config(vocab_size=97, n_embd=32, n_layer=4, n_head=4),
}  # fmt: skip
POLICIES = ["full", "selective", Every(every=2)]
LAYOUT = Layout(global_=3, micro=3, packing=True, micro_tokens=64, pad=0)


def a_model(kind: str, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[kind])
    return AutoModelForCausalLM.from_config(config, attn_implementation=SEGMENTS, dtype=torch.float32).to(dtype)


def a_batch():
    rows = [torch.arange(1, length + 1).numpy().astype("int32") % 97 for length in (21, 1, 30)]
    return batch_of([Encoded(row, row >= 0) for row in rows], LAYOUT)


def gradients(model, dropout_seed: int = 7) -> dict[str, torch.Tensor]:
    module = CausalLM(model)
    module.train()
    torch.manual_seed(dropout_seed)
    module(a_batch())["loss"].backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def same(ours: dict[str, torch.Tensor], plain: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == plain.keys() and all(torch.equal(ours[name], plain[name]) for name in plain)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_gradient_is_that_without_it_bit_for_bit(kind: str, policy: object, dtype: torch.dtype) -> None:
    plain = gradients(a_model(kind, dtype))
    model = a_model(kind, dtype)
    apply(model, kinds_of(policy, 4))
    assert same(gradients(model), plain)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_dropout_draws_the_same_masks_twice(policy: object) -> None:
    assert CONFIGS["gpt2"].resid_pdrop > 0
    plain, other = gradients(a_model("gpt2")), gradients(a_model("gpt2"), dropout_seed=8)
    model = a_model("gpt2")
    apply(model, kinds_of(policy, 4))
    assert same(gradients(model), plain)
    assert not same(other, plain)


def test_selective_computes_no_product_of_weights_again() -> None:
    assert products("selective") == products("none")
    # all of a layer but its last product, whose result nothing in the layer needs
    assert products("full") > products("none")


def products(kind: str) -> int:
    model = a_model("llama")
    apply(model, [kind] * 4)
    with Counter() as counter:
        gradients(model)
    return counter.count


class Counter(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts products with weights."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.name() in ("aten::mm", "aten::addmm")
        return function(*args, **(kwargs or {}))


def kept(model) -> int:
    """Bytes that autograd holds after a forward pass, weights left out."""
    own = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    held: dict[int, int] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    module = CausalLM(model)
    module.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        module(a_batch())
    return sum(held.values())


def test_what_is_measured_is_what_autograd_holds() -> None:
    model = a_model("llama")
    layers, outside = measure(CausalLM(model), model, a_batch())
    assert sum(layer.none for layer in layers) + outside == kept(model)
    for layer in layers:
        assert layer.full == 52 * 32 * 4
        assert layer.full < layer.selective < layer.none
    # q, k, v, o, gate, up and down
    assert layers[0].selective - layers[0].full == 52 * 4 * (32 + 16 + 16 + 32 + 48 + 48 + 32)


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = a_model("llama")
    apply(model, kinds_of("full", 4))
    plain = gradients(model)
    model.zero_grad()
    measure(CausalLM(model), model, a_batch())
    assert all(one.grad is None for one in model.parameters())
    assert same(gradients(model), plain)


def test_layers_below_the_lowest_that_trains_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = a_model("llama")
    for name, one in model.named_parameters():
        one.requires_grad_("layers.2" in name or "layers.3" in name)
    apply(model, kinds_of("full", 4))
    runs = []
    for number, layer in enumerate(model.model.layers):
        layer.input_layernorm.register_forward_hook(lambda *_, number=number: runs.append(number))
    gradients(model)
    assert runs == [0, 1, 2, 3, 3, 2]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_encoders_and_encoder_decoders_have_it_too(policy: object) -> None:
    bert = BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48)
    t5 = T5Config(vocab_size=97, d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8, decoder_start_token_id=0)
    tokens = torch.arange(1, 25).view(2, 12)
    for make in (lambda: BertForMaskedLM(bert), lambda: T5ForConditionalGeneration(t5)):
        found = []
        for kinds in (["none"] * 4, kinds_of(policy, 4)):
            torch.manual_seed(0)
            model = make().train()
            apply(model, kinds)
            torch.manual_seed(1)
            model(input_ids=tokens, labels=tokens).loss.backward()
            found.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
        # T5 shares one bias of positions over its layers, whose shares are then added in another order.
        assert found[1].keys() == found[0].keys()
        assert all(torch.allclose(found[1][name], found[0][name], rtol=1e-5, atol=1e-6) for name in found[0])


def test_every_second_layer_is_counted_from_the_first() -> None:
    assert kinds_of(Every(every=2), 5) == ["full", "none", "full", "none", "full"]
    assert kinds_of("selective", 2) == ["selective", "selective"]


def test_a_model_without_marked_layers_is_told() -> None:
    with pytest.raises(RecipeError, match=r"train\.checkpointing: Linear has no repeated layer"):
        layers_of(torch.nn.Linear(2, 2))


def test_kept_operations_are_names_that_torch_knows() -> None:
    known = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith(("aten::", "mkldnn::"))}
    assert {name for name in checkpointing.KEPT if not name.startswith("flash_attn")} <= known
