"""What stands before rows: where it enters, that peft says the same, generation and heads."""

from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BartConfig,
    BertConfig,
    LlamaConfig,
    T5Config,
)

from trainer.adapter.adapted import Adapted
from trainer.adapter.finished import load_finished
from trainer.adapter.methods import METHODS
from trainer.config.recipe import Recipe
from trainer.errors import RecipeError

KINDS: dict[str, dict[str, Any]] = {
    "prompt": {"kind": "prompt", "tokens": 5},
    "prefix": {"kind": "prefix", "tokens": 5},
    "p_tuning": {"kind": "p_tuning", "tokens": 5, "hidden": 7},
}
SMALL = {"vocab_size": 257, "initializer_range": 0.1, "pad_token_id": 0}
BODY = {**SMALL, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = torch.randint(3, 256, (2, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    made = {
        "bert": AutoModelForTokenClassification.from_config(BertConfig(**BODY)),
        "pooled": AutoModelForSequenceClassification.from_config(BertConfig(**BODY)),
        "t5": AutoModelForSeq2SeqLM.from_config(
            T5Config(vocab_size=257, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0)
        ),
        "bart": AutoModelForSeq2SeqLM.from_config(
            BartConfig(
                vocab_size=257,
                d_model=16,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=24,
                decoder_ffn_dim=24,
                max_position_embeddings=64,
                init_std=0.1,
            )
        ),
        "decoder": AutoModelForSequenceClassification.from_config(LlamaConfig(**BODY)),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
    return {
        "llama": a_model.save(folder / "llama", tied=False),
        "gpt2": a_model.save(folder / "gpt2", "gpt2"),
        **{name: folder / name for name in made},
    }


def adapted(base: Path, kind: str, loader: Any, task: dict[str, Any]) -> tuple[Recipe, Adapted]:
    recipe = a_recipe.recipe(
        model={"name": str(base), "dtype": "float32"},
        adapter=KINDS[kind],
        task=task,
        data={
            "max_length": 32,
            "packing": False,
            "train": [{"path": "-", "format": FORMATS.get(task["kind"], "text")}],
        },
    )
    made = METHODS[kind](loader.from_pretrained(base, dtype=torch.float32).eval(), recipe, range(0))
    with torch.no_grad():
        for name, one in made.model.named_parameters():
            if one.requires_grad:
                one.add_(0.3 * torch.randn(one.shape, generator=torch.Generator().manual_seed(len(name))))
    return recipe, made


FORMATS = {"seq2seq": "completion", "token_labels": "words"}


def saved(made: Adapted, folder: Path) -> Path:
    assert made.save is not None
    folder.mkdir()
    state = made.model.state_dict()
    made.save(folder, {name: state[name] for name in made.added})
    made.model.config.save_pretrained(folder)
    return folder


def of_peft(base: Path, folder: Path, loader: Any) -> Any:
    return PeftModel.from_pretrained(loader.from_pretrained(base, dtype=torch.float32), str(folder)).eval()


# peft hands keys and values on under a name that transformers is about to drop.
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", ["llama", "gpt2"])
def test_each_row_says_what_it_says_with_peft(bases: dict[str, Path], base: str, kind: str, tmp_path: Path) -> None:
    recipe, made = adapted(bases[base], kind, AutoModelForCausalLM, {"kind": "causal_lm"})
    wrapped = of_peft(bases[base], saved(made, tmp_path / "adapter"), AutoModelForCausalLM)
    places = MASK.cumsum(dim=1) - 1
    with torch.no_grad():
        ours = made.model(input_ids=IDS, attention_mask=MASK, position_ids=places.clamp(min=0)).logits
        again = load_finished(recipe, tmp_path / "adapter", 257, torch.device("cpu"))(IDS, attention_mask=MASK).logits
        for row, length in enumerate(MASK.sum(dim=1).tolist()):
            theirs = wrapped(input_ids=IDS[row : row + 1, :length]).logits[0, -length:]
            assert torch.allclose(ours[row, :length], theirs, atol=1e-5)
            assert torch.allclose(again[row, :length], theirs, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_the_model_finds_likeliest(bases: dict[str, Path], kind: str) -> None:
    _, made = adapted(bases["llama"], kind, AutoModelForCausalLM, {"kind": "causal_lm"})
    ids, mask = IDS.flip(1), MASK.flip(1)
    more = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    made.model.config.use_cache = True
    written = made.model.generate(input_ids=ids, attention_mask=mask, **more)

    for row, length in enumerate(mask.sum(dim=1).tolist()):
        own = ids[row : row + 1, 9 - length :]
        for _ in range(6):
            with torch.no_grad():
                own = torch.cat([own, made.model(input_ids=own).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        assert own[0, length:].tolist() == written[row, 9:].tolist()


HEADS = {
    "words of an encoder": ("bert", AutoModelForTokenClassification, {"kind": "token_labels"}),
    "an encoder": ("pooled", AutoModelForSequenceClassification, {"kind": "classify"}),
    "a decoder": ("decoder", AutoModelForSequenceClassification, {"kind": "classify"}),
}


@pytest.mark.parametrize("kind", ["prompt", "p_tuning"])
@pytest.mark.parametrize("head", HEADS)
def test_heads_say_what_they_say_with_peft(
    bases: dict[str, Path], head: str, kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    base, loader, task = HEADS[head]
    _, made = adapted(bases[base], kind, loader, task)
    wrapped = of_peft(bases[base], saved(made, tmp_path / "adapter"), loader)
    with torch.no_grad():
        ours = made.model(input_ids=IDS * MASK, attention_mask=MASK).logits
        for row, length in enumerate(MASK.sum(dim=1).tolist()):
            theirs = wrapped(input_ids=IDS[row : row + 1, :length]).logits[0]
            own = ours[row] if theirs.dim() == 1 else ours[row, :length]
            assert torch.allclose(own, theirs if theirs.dim() == 1 else theirs[-length:], atol=1e-5)


@pytest.mark.parametrize("kind", ["prompt", "p_tuning"])
@pytest.mark.parametrize("base", ["t5", "bart"])
def test_a_decoder_sees_what_stands_before_the_row_of_its_encoder(
    bases: dict[str, Path], base: str, kind: str, tmp_path: Path
) -> None:
    _, made = adapted(bases[base], kind, AutoModelForSeq2SeqLM, {"kind": "seq2seq"})
    wrapped = of_peft(bases[base], saved(made, tmp_path / "adapter"), AutoModelForSeq2SeqLM)
    before = torch.tensor([[0, 7, 9], [0, 8, 3]])
    with torch.no_grad():
        ours = made.model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=before).logits
        theirs = wrapped(input_ids=IDS, attention_mask=MASK, decoder_input_ids=before).logits
    assert torch.allclose(ours, theirs, atol=1e-5)

    more = {"max_new_tokens": 5, "do_sample": False}
    one = made.model.generate(input_ids=IDS, attention_mask=MASK, **more)
    other = wrapped.generate(input_ids=IDS, attention_mask=MASK, **more)
    assert torch.equal(one, other)


def test_what_has_no_place_for_it_is_told(bases: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match=r"adapter\.kind: prefix stands before the keys and values of decoders"):
        adapted(bases["t5"], "prefix", AutoModelForSeq2SeqLM, {"kind": "seq2seq"})
    recipe = a_recipe.recipe(
        model={"name": str(bases["gpt2"])}, adapter=KINDS["prompt"], data={"max_length": 125, "packing": False}
    )
    with pytest.raises(RecipeError, match=r"data\.max_length: 125 and the 5 tokens of prompt need 130 places"):
        METHODS["prompt"](AutoModelForCausalLM.from_pretrained(bases["gpt2"]), recipe, range(0))
