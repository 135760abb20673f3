"""One real rank of many that only seem to be there: `python fake_ranks.py RECIPE` tells what rank 0 holds.

torch's fake backend answers every collective at once, with what this rank has itself: sizes are right, values are not.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch._dynamo  # before zero.Init changes torch.tensor, which it looks at
import torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoConfig, AutoModelForCausalLM

from trainer import prepare, ranks
from trainer.config.model import NewTokenizer
from trainer.engine.deepspeed import DeepSpeedEngine
from trainer.plan import deepspeed_json


class Model(nn.Module):
    """A language model whose forward returns its loss as a term."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.body(input_ids=rows, labels=rows, use_cache=False).loss}


def main() -> None:
    dist.init_process_group("fake", rank=0, world_size=ranks.world_size(), store=FakeStore())
    recipe = prepare.read(Path(sys.argv[1]), ())
    settings = deepspeed_json.build(recipe, zero=3, micro=1, ranks=ranks.world_size(), cuda=False)
    engine = DeepSpeedEngine(torch.device("cpu"), settings)
    config = dict(recipe.model.config or {})
    assert isinstance(recipe.model.tokenizer, NewTokenizer)
    with engine.loading(), deepspeed.zero.Init(config_dict_or_path=settings, dtype=torch.float32):
        body = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config.pop("model_type"), **config, vocab_size=recipe.model.tokenizer.vocab_size)
        )
    module = Model(body)
    engine.prepare(module, recipe.optimizer)
    rows = torch.arange(8)[None]
    times = []
    for _ in range(2):
        began = time.monotonic()
        engine.forward_backward(rows, {"loss": 1.0}, last=True)
        held = _held(engine, module)
        engine.step(1e-4)
        times.append(time.monotonic() - began)
    print(json.dumps({"seconds": times, **held}))


def _held(engine: DeepSpeedEngine, module: nn.Module) -> dict[str, Any]:
    """Numbers that rank 0 holds: shares of weights, of the copies that are stepped, of gradients and of moments."""
    parameters = list(module.parameters())
    inner = engine.engine.optimizer
    copies = inner.fp32_partitioned_groups_flat
    kept = inner.averaged_gradients or {}
    gradients = [share for shares in kept.values() for share in shares or ()]
    moments = [value for state in inner.optimizer.state.values() for value in state.values() if value.numel() > 1]
    return {
        "parameters": sum(parameter.ds_numel for parameter in parameters),
        "weights": sum(parameter.ds_tensor.ds_numel for parameter in parameters),
        "copies": sum(copy.numel() for copy in copies),
        "moments": sum(value.numel() for value in moments),
        "gradients": sum(share.numel() for share in gradients),
    }


if __name__ == "__main__":
    main()
