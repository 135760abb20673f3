"""`train.checkpointing: auto`, decided by a forward pass before the first step."""

from collections.abc import Callable
from typing import Any

from trainer import ranks
from trainer.config.recipe import Recipe
from trainer.data.batches import Window
from trainer.engine.engine import Engine
from trainer.model import checkpointing
from trainer.model.cross_entropy import CHUNK_BYTES
from trainer.plan.batch import most_tokens
from trainer.plan.choices import Choice
from trainer.plan.plan import Plan
from trainer.plan.recompute import Kind, choose


def choose_checkpointing(
    recipe: Recipe, plan: Plan, module: Any, window: Window, engine: Engine, resting: int, say: Callable[[str], None]
) -> Plan:
    """Lets as little be computed again as fits; the plan that says so.

    `resting` are the bytes of this process with the weights alone.
    """
    batch = max(window.batches, key=lambda one: one.input_ids.numel())
    with engine.gathered():
        layers, outside = checkpointing.measure(module, module.model, batch.to(engine.device))
    factor = most_tokens(recipe, plan.manifest) / batch.input_ids.numel()
    state = plan.memory.gradients + plan.memory.optimizer if plan.memory else 0
    weights = plan.memory.weights if plan.memory else 0
    head = module.model.get_output_embeddings().weight.nbytes
    rest = (resting if engine.device.type == "cpu" else weights) + state + outside + max(2 * CHUNK_BYTES, head)
    budget = recipe.train.memory_budget or ranks.device_memory(ranks.local_world_size()) or 2**63
    chosen: tuple[list[Kind], Choice] = ranks.broadcast(
        choose([layer.scaled(factor) for layer in layers], rest, int(budget))
    )
    checkpointing.apply(module.model, chosen[0])
    say(f"Chosen: {chosen[1]}")
    return plan.with_choice(chosen[1])
