"""A small pretrained model with LoRA and new tokens on this rank; runs in the test process and in the pair's ranks."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import a_recipe
import numpy as np
import torch
from distributed import steps

from trainer import ranks
from trainer.adapter.adapted import Adapted
from trainer.adapter.methods import METHODS
from trainer.checkpoint import folder, resume
from trainer.checkpoint.adapter_weights import save_adapter
from trainer.checkpoint.listing import of_step
from trainer.checkpoint.weights import save_model
from trainer.config.recipe import Recipe
from trainer.data import tokenizer as tokenizers
from trainer.data.batches import Layout, Window, Windows
from trainer.engine import build
from trainer.engine.engine import Engine
from trainer.model import checkpointing
from trainer.model.attention import Segments
from trainer.model.load import load
from trainer.plan import deepspeed_json
from trainer.plan import plan as plans
from trainer.plan.manifest import Manifest
from trainer.tasks import causal_lm

ROWS, MICRO = 16, 4
TOKENS = ("<new>", "<newer>")


def recipe(base: str, engine: dict[str, Any], tokens: tuple[str, ...] = (), **sections: Any) -> Recipe:
    """One step over all rows, packed."""
    deepspeed = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    if engine.get("zero") == 3:
        engine = {**engine, "deepspeed": deepspeed}  # so that small parameters are shared out too
    model = {"name": base, "dtype": "float32", "add_tokens": list(tokens)}
    adapter = sections.pop("adapter", {"kind": "lora", "r": 4, "alpha": 8})
    return a_recipe.recipe(
        model=model,
        adapter=adapter,
        data={"max_length": 25},
        batch={"micro": MICRO, "global": ROWS},
        engine=engine,
        **sections,
    )


class Made:
    """The parts of a run, and what is the same in all tests."""

    def __init__(self, wanted: Recipe) -> None:
        plan = plans.make(wanted, Manifest(ROWS, 0), processes=ranks.world_size())
        settings = None
        if plan.engine == "deepspeed":
            settings = deepspeed_json.build(wanted, zero=plan.zero, micro=MICRO, ranks=plan.batch.ranks, cuda=False)
        self.recipe = wanted
        self.engine: Engine = build.build(wanted, plan, torch.device("cpu"), settings)
        self.tokenizer = tokenizers.load(wanted, Path(wanted.output))
        self.new = tokenizers.new_tokens(wanted, self.tokenizer)
        base = load(wanted, self.tokenizer, self.engine.loading())
        self.adapted: Adapted = METHODS[wanted.adapter.kind](base, wanted, self.new)
        _let_b_be_something(self.adapted.model)
        self.module = causal_lm.CausalLM(self.adapted.model, whole=self.engine.shards.whole)
        checkpointing.set_up(self.adapted.model, wanted.train.checkpointing)
        self.engine.prepare(self.module, wanted.optimizer)

    def window(self) -> Window:
        layout = Layout(global_=ROWS, micro=MICRO, packing=self.recipe.data.packing, micro_tokens=MICRO * 25, pad=0)
        return Windows(rows(self.new), layout, rank=ranks.rank(), ranks=ranks.world_size(), seed=None).window(0)

    def backward(self) -> None:
        window = self.window()
        count = ranks.all_reduce(causal_lm.counts(window.batches))["loss"]
        for index, batch in enumerate(window.batches):
            self.engine.forward_backward(batch, {"loss": 1 / count}, index == len(window.batches) - 1)

    def step(self) -> None:
        self.backward()
        self.engine.step(0.05)

    def trained(self) -> dict[str, np.ndarray]:
        names = [name for name, one in self.module.named_parameters() if one.requires_grad]
        return {name: tensor.float().numpy().copy() for name, tensor in self.engine.gather(names)}

    @torch.no_grad()
    def logits(self) -> np.ndarray:
        self.adapted.model.eval()
        with self.engine.gathered():
            body = self.adapted.model.base_model
            tokens = probe(self.adapted.model)
            one = Segments((tokens.shape[1],))
            hidden = body(tokens, use_cache=False, segments=one).last_hidden_state
            return self.module.head.logits(hidden).numpy()


def rows(new: range) -> steps.Rows:
    """Random rows, in which each tenth token or so is a new one."""
    made = steps.random_rows(ROWS)
    if not new:
        return made
    draw = np.random.default_rng(5)
    held = []
    for row in range(len(made)):
        tokens = made.tokens(row).copy()
        places = draw.random(len(tokens)) < 0.1
        tokens[places] = draw.integers(new.start, new.stop, int(places.sum()))
        held.append(replace(made.example(row), tokens=tokens))
    return steps.Rows(held)


def probe(model: Any) -> torch.Tensor:
    """Tokens [1, 20] that logits are compared on, the new ones among them where there are any."""
    return torch.arange(239, 259)[None] % min(259, model.config.vocab_size)


def _let_b_be_something(model: torch.nn.Module) -> None:
    """B begins as zero, which would hide A's gradient; so do parts of other methods."""
    draw = torch.Generator().manual_seed(11)
    for one in model.parameters():
        if one.requires_grad and one.numel() and not one.any():
            one.data.copy_(0.1 * torch.randn(one.shape, generator=draw))


@contextmanager
def made(wanted: Recipe) -> Iterator[Made]:
    parts = Made(wanted)
    yield parts
    parts.engine.release()
    parts.__dict__.clear()
    gc.collect()  # transformers knows of ZeRO-3 as long as the engine lives


def gradient(base: str, engine: dict[str, Any], tokens: tuple[str, ...], **sections: Any) -> dict[str, Any]:
    """The gradient of one step by name, and the values that it was taken at."""
    with made(recipe(base, engine, tokens, **sections)) as parts:
        values = parts.trained()
        parts.backward()
        named = {name: one for name, one in parts.module.named_parameters() if one.requires_grad}
        gradients = {name: steps._gradient_of(one, engine["kind"]) for name, one in named.items()}
        return {"values": values, "gradients": gradients, "new": (parts.new.start, parts.new.stop)}


def saved(base: str, engine: dict[str, Any], tokens: tuple[str, ...], target: str, **sections: Any) -> np.ndarray:
    """The logits of the run after two steps, whose result lies in `target`."""
    with made(recipe(base, engine, tokens, **sections)) as parts:
        parts.step()
        parts.step()
        if parts.adapted.save is None:
            save_model(Path(target), parts.engine, parts.adapted.model, parts.tokenizer)
        else:
            save_adapter(Path(target), parts.engine, parts.adapted, parts.tokenizer)
        return parts.logits()


def interrupted(base: str, engine: dict[str, Any], run: str) -> dict[str, np.ndarray]:
    """A step, a checkpoint, another step: the weights in the end."""
    with made(recipe(base, engine, TOKENS)) as parts:
        parts.step()
        folder.save(Path(run), parts.engine, {"step": 1})
        parts.step()
        return parts.trained()


def resumed(base: str, engine: dict[str, Any], run: str) -> dict[str, np.ndarray]:
    """The weights after the checkpoint and a step."""
    with made(recipe(base, engine, TOKENS)) as parts:
        resume.load(of_step(Path(run), 1), parts.engine, lambda text: None)
        parts.step()
        return parts.trained()


def saved_in_full(base: str, engine: dict[str, Any], tokens: tuple[str, ...], target: str) -> np.ndarray:
    """The same without an adapter."""
    return saved(base, engine, tokens, target, adapter={"kind": "none"})
