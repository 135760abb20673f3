"""DeepSpeed: optimizer state, gradients and weights shared out over processes (ZeRO stages 0 to 3).

The only file that imports deepspeed.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.integrations import HfDeepSpeedConfig

from trainer import ranks
from trainer.config.optimizer import Optimizer
from trainer.data.batches import Batch
from trainer.engine.engine import Terms
from trainer.errors import RunError
from trainer.optim import groups, optimizers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the import itself warns about torch.jit and pkg_resources
    import deepspeed
    from deepspeed.utils import logger

_TAG = "state"


class DeepSpeedEngine:
    """A DeepSpeed engine whose accumulation, rates and loss scaling are ours."""

    def __init__(self, device: torch.device, settings: dict[str, Any]) -> None:
        """`settings` is the whole DeepSpeed JSON."""
        self.device = device
        self.settings = settings
        self.zero = int(settings["zero_optimization"]["stage"])
        logger.setLevel(logging.WARNING)
        # The shared-memory collective serves inference only, and would be compiled for a minute at the first start.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        ranks.ensure_group()
        deepspeed.init_distributed(dist_init_required=False, verbose=False)
        self._transformers: HfDeepSpeedConfig | None = None

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Under ZeRO-3, transformers shares each weight out as it is read."""
        if self.zero == 3:
            self._transformers = HfDeepSpeedConfig(self.settings)
        yield

    def prepare(self, module: nn.Module, settings: Optimizer) -> None:
        """Hands the module and torch's own Adam to DeepSpeed."""
        optimizer = optimizers.build(settings, groups.groups(module, settings.weight_decay))
        self.module = module
        self.engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=self.settings)

    def forward_backward(self, batch: Batch, factors: Mapping[str, float], last: bool) -> Terms:
        """As the protocol says. DeepSpeed averages over ranks, hence the factor `world_size`."""
        self.engine.train()
        self.engine.set_gradient_accumulation_boundary(last)
        terms = self.engine(batch.to(self.device))
        loss = sum(factors[name] * term for name, term in terms.items())
        self.engine.backward(loss * ranks.world_size(), scale_wrt_gas=False)
        return {name: term.detach() for name, term in terms.items()}

    def step(self, lr: float) -> float | None:
        """As the protocol says; DeepSpeed clips by its own `gradient_clipping`."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        own = self._norm() if self.zero == 0 and not self.engine.bfloat16_enabled() else None
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        norm = own if norm is None else norm
        return None if norm is None else float(norm)

    def _norm(self) -> torch.Tensor:
        """The gradient's norm, which DeepSpeed does not tell at stage 0 in float32."""
        return nn.utils.get_total_norm([weight.grad for weight in self.module.parameters() if weight.grad is not None])

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Terms:
        """As the protocol says."""
        self.engine.eval()
        terms: Terms = self.engine(batch.to(self.device))
        return terms

    def save_state(self, folder: Path) -> None:
        """DeepSpeed's own files: each rank writes its shard."""
        self.engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False)

    def load_state(self, folder: Path, *, weights_only: bool = False) -> None:
        """As the protocol says."""
        path, _ = self.engine.load_checkpoint(
            str(folder), tag=_TAG, load_optimizer_states=not weights_only, load_lr_scheduler_states=False
        )
        if path is None:
            raise RunError(f"DeepSpeed found no state in {folder}")

    def gather(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Under ZeRO-3 one tensor at a time is put together."""
        for name, tensor in self.module.state_dict(keep_vars=True).items():
            with self._whole([tensor]):
                yield name, tensor.detach().cpu().clone() if self.zero == 3 else tensor.detach().cpu()

    def gathered(self) -> AbstractContextManager[None]:
        """The whole weights on every rank; under ZeRO-3 they are put together for the while."""
        return self._whole(list(self.module.parameters()))

    def release(self) -> None:
        """As the protocol says; DeepSpeed's hooks are taken off the module too."""
        self.engine.destroy()
        del self.engine, self.module

    def _whole(self, tensors: list[torch.Tensor]) -> AbstractContextManager[None]:
        shared = [tensor for tensor in tensors if hasattr(tensor, "ds_id")]
        return deepspeed.zero.GatheredParameters(shared) if shared else nullcontext()
