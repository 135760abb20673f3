"""DeepSpeed: optimizer state, gradients and weights shared out over processes (ZeRO stages 0 to 3)."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from transformers.integrations import HfDeepSpeedConfig

from trainer import ranks
from trainer.adapter.budget import Budget
from trainer.config.optimizer import Optimizer
from trainer.data.batches import Batch
from trainer.engine import carry, shares, universal
from trainer.engine.deepspeed_convert import NAMES, ONE_LAYOUT
from trainer.engine.engine import Shards, Terms
from trainer.errors import Problem, RecipeError, RunError
from trainer.model import quantize
from trainer.optim import optimizers
from trainer.optim.groups import NO_PHASES
from trainer.optim.stepper import EIGHT_BIT, Stepper
from trainer.strategy.course import Since

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the import itself warns about torch.jit and pkg_resources
    import deepspeed
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
    from deepspeed.utils import logger

_TAG = universal.FOLDER


def _validate(settings: dict[str, Any]) -> None:
    """RecipeError where DeepSpeed does not take a value; asked first, because ZeRO-3 reads it while weights load."""
    try:
        DeepSpeedConfig(copy.deepcopy(settings))
    except ValidationError as error:
        problems = []
        for detail in error.errors(include_url=False):
            key = ".".join(map(str, detail["loc"]))
            message = f"{detail['input']!r} does not fit ({detail['msg']}; {error.title} of DeepSpeed)"
            problems.append(Problem(f"engine.deepspeed: {key}", message))
        raise RecipeError(problems) from None
    except (DeepSpeedConfigError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError([Problem("engine.deepspeed", f"DeepSpeed does not take it: {reason}")]) from None


class DeepSpeedEngine:
    """A DeepSpeed engine whose accumulation, rates and loss scaling are ours."""

    def __init__(self, device: torch.device, settings: dict[str, Any], seed: int = 0) -> None:
        """`settings` is the whole DeepSpeed JSON."""
        self.device = device
        self.seed = seed
        self.budget: Budget | None = None
        self.settings = settings
        self.zero = int(settings["zero_optimization"]["stage"])
        logger.setLevel(logging.WARNING)
        # The shared-memory collective serves inference only, and would be compiled for a minute at the first start.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        ranks.ensure_group()
        deepspeed.init_distributed(dist_init_required=False, verbose=False)
        _validate(settings)
        self._transformers: HfDeepSpeedConfig | None = None

    @property
    def shards(self) -> Shards:
        """As the protocol says."""
        return Shards("deepspeed", self.zero, ranks.world_size())

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Under ZeRO-3, transformers shares each weight out as it is read."""
        if self.zero == 3:
            self._transformers = HfDeepSpeedConfig(self.settings)
        yield

    def prepare(self, module: nn.Module, settings: Optimizer, since: Since = NO_PHASES) -> None:
        """Hands the module and its optimizer to DeepSpeed."""
        # Shares are disjoint, and so should be their random bits; the replicas of stage 0 are equal.
        seed = self.seed + (ranks.rank() if self.zero else 0)
        optimizer = optimizers.build_shared(settings, module, seed, since)
        self.module = module
        self.fixed = bool(quantize.entries(module))
        names = {parameter: name for name, parameter in module.named_parameters()}
        self.weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.names = [names[weight] for weight in self.weights]
        self.constants = [{**group, "params": None} for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        self.engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=self.settings)
        # Stage 0 makes the moments by a step without gradients, which would count as the first one.
        optimizer.state.clear()

    def rebuild(self, settings: Optimizer, since: Since) -> None:
        """As the protocol says: DeepSpeed shares out anew."""
        module = self.module
        kept = carry.keep(self.weights, self.engine.optimizer, self.zero)
        self.release()
        carry.let_go(module)
        self.prepare(module, settings, since)
        carry.put(kept, self.weights, self.engine.optimizer, self.zero)

    def begin(self, lr: float) -> None:
        """Nothing: `step` sets the rate."""

    @torch.no_grad()
    def look(self, batch: Batch) -> Terms:
        """As the protocol says."""
        self.engine.train()
        seen: Terms = self.engine(batch.to(self.device))
        return seen

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
        for group, constants in zip(self.engine.optimizer.param_groups, self.constants, strict=True):
            group["lr"] = lr * constants["scale"]
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

    def watched(self) -> Iterator[tuple[str, bool, list[torch.Tensor]]]:
        """As the protocol says: of what is shared out, this process's part."""
        return shares.watched(self.module, self.weights, self.engine.optimizer, self.zero)

    def save_state(self, folder: Path) -> None:
        """DeepSpeed's own files: each rank writes its shard."""
        self.engine.save_checkpoint(
            str(folder),
            tag=_TAG,
            client_state={NAMES: self.names},
            save_latest=False,
            exclude_frozen_parameters=self.fixed,
        )

    def copy_state(self) -> None:
        """None: DeepSpeed's own writer reads the state where it is, on all ranks together."""

    def load_state(self, folder: Path) -> None:
        """As the protocol says."""
        path, _ = self.engine.load_checkpoint(
            str(folder), tag=_TAG, load_lr_scheduler_states=False, load_module_strict=not self.fixed
        )
        if path is None:
            raise RunError(f"DeepSpeed found no state in {folder}")
        self._keep_constants()

    def load_universal(self, folder: Path) -> None:
        """As the protocol says; DeepSpeed reads its shares of the whole tensors."""
        if self.zero == 0:
            universal.load(folder, zip(self.names, self.weights, strict=True), self._optimizer())
            return
        if any(group.get("form") == EIGHT_BIT for group in self.constants):
            raise RunError(ONE_LAYOUT)
        if ranks.is_main():
            self._complete(folder)
        ranks.barrier()
        self.engine._config.load_universal_checkpoint = True
        try:
            self.load_state(folder)
        finally:
            self.engine._config.load_universal_checkpoint = False
        # Stage 3 lets all its pieces share one count, which each of them would then raise.
        optimizer = self._optimizer()
        for share, state in optimizer.state.items():
            state["step"] = torch.as_tensor(state["step"]).clone()
            if isinstance(optimizer, Stepper):
                optimizer.complete(share)

    def _complete(self, folder: Path) -> None:
        """What DeepSpeed's readers want beside the tensors, alike for every source."""
        step = torch.load(universal.place(folder, self.names[0]) / "step.pt", weights_only=True)
        groups = {"param_groups": self.constants}
        common = {
            "ds_version": deepspeed.__version__,
            "optimizer_state_dict": {"state": {0: {"step": step}}, **groups},
            **groups,
        }
        torch.save(common, universal.place(folder, "optimizer_state.pt"))
        counts = {"dp_world_size": ranks.world_size(), "mp_world_size": 1, "global_steps": int(step)}
        name = "zero_pp_rank_0_mp_rank_00_model_states.pt" if self.zero == 3 else "mp_rank_00_model_states.pt"
        torch.save({"module": {}, "global_samples": 0, "skipped_steps": 0, **counts}, folder / _TAG / name)

    def _keep_constants(self) -> None:
        """Constants of the groups are the recipe's; stage 3 would give all groups those of the first."""
        for group, constants in zip(self._optimizer().param_groups, self.constants, strict=True):
            group.update({key: value for key, value in constants.items() if key != "params"})

    def _optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of torch inside DeepSpeed's wrapper, where there is one."""
        return carry.inner(self.engine.optimizer)

    def gather(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Under ZeRO-3 one tensor at a time is put together, and let go before the next."""
        state = self.module.state_dict(keep_vars=True)
        for name in names:
            with self._whole([state[name]]):
                tensor = state[name].detach().cpu()
                if self.zero == 3:
                    tensor = tensor.clone() if ranks.is_main() else torch.empty(0)
            yield name, tensor

    def gathered(self) -> AbstractContextManager[None]:
        """The whole weights on every rank; under ZeRO-3 they are put together for the while."""
        return self._whole(list(self.module.parameters()))

    def release(self) -> None:
        """As the protocol says; DeepSpeed's hooks are taken off the module too."""
        self.engine.destroy()
        del self.engine, self.module, self.weights

    def _whole(self, tensors: list[torch.Tensor]) -> AbstractContextManager[None]:
        shared = [tensor for tensor in tensors if hasattr(tensor, "ds_id")]
        return deepspeed.zero.GatheredParameters(shared) if shared else nullcontext()
