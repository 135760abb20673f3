from typing import Any

import a_recipe
import pytest

from trainer.plan.choices import choose_engine

GIB = 2**30
BILLION = 10**9


def seven_billion(ranks: int) -> Any:
    """Bytes a device of 7e9 parameters in bfloat16 with float32 masters, as the paper on ZeRO counts them."""
    shares = {1: 4 + 12 / ranks, 2: 2 + 14 / ranks, 3: 16 / ranks}
    return lambda engine, zero: int(7 * BILLION * (16 if engine == "torch" else shares[zero]))


@pytest.mark.parametrize(
    ("processes", "room", "expected"),
    [
        # 112 GB of state for torch; ZeRO-1 31.5, ZeRO-2 26.3, ZeRO-3 14 GB on eight.
        (8, 192 * GIB, ("torch", 0)),
        (8, 80 * GIB, ("deepspeed", 1)),
        (8, 44 * GIB, ("deepspeed", 2)),
        (8, 24 * GIB, ("deepspeed", 3)),
        # Nothing fits: stage 3 needs least.
        (8, 16 * GIB, ("deepspeed", 3)),
        # One process has nobody to share with.
        (1, 16 * GIB, ("torch", 0)),
        # The memory of the device is unknown.
        (8, None, ("deepspeed", 2)),
    ],
)
def test_the_lowest_stage_that_fits_is_chosen(processes: int, room: int | None, expected: tuple[str, int]) -> None:
    chosen = choose_engine(a_recipe.recipe(), processes, seven_billion(processes), room)

    assert tuple(choice.value for choice in chosen) == expected


def test_a_model_of_unknown_size_is_shared_out_over_several_processes() -> None:
    chosen = choose_engine(a_recipe.recipe(), 2, None, 80 * GIB)

    assert [choice.value for choice in chosen] == ["deepspeed", 2]


def test_the_reason_names_the_bytes() -> None:
    chosen = choose_engine(a_recipe.recipe(), 8, seven_billion(8), 80 * GIB)

    assert str(chosen[1]) == ("engine.zero: 1 (the lowest stage whose state (35.9 GiB) fits a device of 80.0 GiB well)")


@pytest.mark.parametrize("engine", [{"zero": 2}, {"kind": "deepspeed", "zero": 2}])
def test_what_the_recipe_names_is_not_chosen(engine: dict[str, Any]) -> None:
    chosen = choose_engine(a_recipe.recipe(engine=engine), 2, seven_billion(2), 1000 * GIB)

    assert [choice.value for choice in chosen] == ["deepspeed", 2]
