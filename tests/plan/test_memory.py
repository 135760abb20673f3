from typing import Any

import pytest

from trainer.config.engine import Offload
from trainer.config.optimizer import Optimizer
from trainer.parameter import parameter
from trainer.plan.memory import StateMemory, state_memory

TOTAL = 1200
"""Parameters, all of which train where nothing else is said."""


@pytest.mark.parametrize(
    ("engine", "zero", "dtype", "master", "weights", "gradients", "optimizer"),
    [
        # Plain torch holds everything on each device: 2 moments, and masters where weights have fewer bits.
        ("torch", 0, "float32", "float32", 4800, 4800, 9600),
        ("torch", 0, "float32", "none", 4800, 4800, 9600),
        ("torch", 0, "bfloat16", "float32", 2400, 2400, 14400),
        ("torch", 0, "bfloat16", "none", 2400, 2400, 4800),
        # Kahan compensation and two moments of 2 bytes each; stochastic rounding keeps the moments alone.
        ("torch", 0, "bfloat16", "kahan", 2400, 2400, 7200),
        ("torch", 0, "bfloat16", "stochastic", 2400, 2400, 4800),
        # DeepSpeed steps a bfloat16 copy of its share.
        ("deepspeed", 2, "bfloat16", "kahan", 2400, 600, 2400),
        # ZeRO on four devices, as in the paper: 2 + 2 + 12 bytes a parameter in bfloat16. Shares of gradients are
        # added up in float32, so they take 4.
        ("deepspeed", 1, "bfloat16", "float32", 2400, 2400, 3600),
        ("deepspeed", 2, "bfloat16", "float32", 2400, 1200, 3600),
        ("deepspeed", 3, "bfloat16", "float32", 600, 1200, 3600),
        # Without masters the copy has the bits of the weights: 2 + 2 + 6.
        ("deepspeed", 2, "bfloat16", "none", 2400, 600, 1800),
        # Stage 0 shares nothing out.
        ("deepspeed", 0, "bfloat16", "float32", 2400, 2400, 14400),
        # DeepSpeed keeps a float32 copy beside float32 weights too: 4 + 4 + 12.
        ("deepspeed", 1, "float32", "float32", 4800, 4800, 3600),
        ("deepspeed", 2, "float32", "float32", 4800, 1200, 3600),
        ("deepspeed", 3, "float32", "float32", 1200, 1200, 3600),
    ],
)
def test_bytes_a_device_of_four(
    engine: str, zero: int, dtype: str, master: str, weights: int, gradients: int, optimizer: int
) -> None:
    memory = state_memory(
        TOTAL,
        TOTAL,
        dtype=dtype,
        optimizer=Optimizer.model_validate({"master": master}),
        engine=engine,
        zero=zero,
        ranks=4,
    )

    assert (memory.weights, memory.gradients, memory.optimizer) == (weights, gradients, optimizer)
    assert memory.total == weights + gradients + optimizer


def test_frozen_parameters_hold_weights_alone() -> None:
    memory = state_memory(1000, 10, dtype="bfloat16", optimizer=Optimizer(), engine="torch", zero=0, ranks=1)

    assert memory == StateMemory(weights=2000, gradients=20, optimizer=120)


@pytest.mark.parametrize(
    ("zero", "offload", "held"),
    [
        # Weights and whole gradients stay; the shares of the optimizer and of the gradients it takes are the host's.
        (1, {"optimizer": "cpu"}, StateMemory(2400, 2400, 0, host=3600 + 2400)),
        # A bucket may hold all gradients of so small a model.
        (2, {"optimizer": "cpu"}, StateMemory(2400, 2400, 0, host=3600 + 1200)),
        (3, {"optimizer": "cpu", "parameters": "cpu"}, StateMemory(0, 2400, 0, host=3600 + 1200 + 600)),
        (3, {"parameters": "cpu"}, StateMemory(0, 1200, 3600, host=600)),
    ],
)
def test_the_host_holds_what_is_offloaded(zero: int, offload: dict[str, Any], held: StateMemory) -> None:
    memory = state_memory(
        TOTAL,
        TOTAL,
        dtype="bfloat16",
        optimizer=Optimizer(),
        engine="deepspeed",
        zero=zero,
        ranks=4,
        offload=Offload.model_validate(offload),
    )

    assert memory == held


def test_no_more_than_a_bucket_of_gradients_waits_on_the_device() -> None:
    memory = state_memory(
        10**9,
        10**9,
        dtype="bfloat16",
        optimizer=Optimizer(),
        engine="deepspeed",
        zero=2,
        ranks=2,
        offload=Offload(optimizer="cpu"),
    )

    assert memory.gradients == 4 * 50_000_000


def test_a_share_is_rounded_up() -> None:
    memory = state_memory(5, 5, dtype="bfloat16", optimizer=Optimizer(), engine="deepspeed", zero=3, ranks=4)

    assert (memory.weights, memory.gradients, memory.optimizer) == (3, 5, 15)


def test_the_json_marks_what_is_not_predicted() -> None:
    assert StateMemory(1, 2, 3).to_json() == {
        "tensors": 6,
        "process": None,
        "low": None,
        "high": None,
        "components": {"weights": 1, "gradients": 2, "optimizer": 3},
    }


MATRIX, SMALL = parameter("model.layers.0.mlp.up_proj.weight", (64, 128)), parameter("model.norm.weight", (100,))
EMBEDDING = parameter("model.embed_tokens.weight", (100, 64))


def test_moments_in_8_bits_are_those_of_large_weights_but_embeddings() -> None:
    trained = [MATRIX, SMALL, EMBEDDING]
    total = sum(one.size for one in trained)

    memory = state_memory(
        total,
        total,
        dtype="float32",
        optimizer=Optimizer(kind="adamw_8bit"),
        engine="torch",
        zero=0,
        ranks=1,
        trained=trained,
    )

    assert memory.optimizer == 2 * (8192 + 4 * 8192 // 256) + 2 * 4 * (100 + 6400)


@pytest.mark.parametrize(("micro_batches", "values"), [(1, 8192), (2, 8292)])
def test_the_largest_gradient_lives_alone_where_weights_are_stepped_in_the_backward_pass(
    micro_batches: int, values: int
) -> None:
    memory = state_memory(
        8292,
        8292,
        dtype="bfloat16",
        optimizer=Optimizer(in_backward=True),
        engine="torch",
        zero=0,
        ranks=1,
        trained=[MATRIX, SMALL],
        micro_batches=micro_batches,
    )

    assert memory.gradients == 2 * values


def test_zero_plus_plus_keeps_a_second_share_of_the_weights() -> None:
    keys: dict[str, Any] = {"dtype": "bfloat16", "optimizer": Optimizer(), "engine": "deepspeed", "zero": 3, "ranks": 4}

    plain, second = (state_memory(TOTAL, TOTAL, **keys, hpz=hpz) for hpz in (None, 2))

    assert (plain.weights, second.weights) == (600, 600 + 1200)
    assert (plain.gradients, plain.optimizer) == (second.gradients, second.optimizer)
