from trainer.plan import recompute
from trainer.plan.recompute import Held, needed

LAYERS = [Held(none=100, selective=40, full=10)] * 4
"""All: 400. Selective: 160 and 90 of the layer that is computed again. Full: 40 and 90."""


def choose(layers: list[Held], rest: int, budget: int):
    return recompute.choose(layers, rest, budget, filled=1.0)


def test_nothing_is_computed_again_where_all_fits() -> None:
    kinds, choice = choose(LAYERS, 1000, 1400)
    assert kinds == ["none"] * 4
    assert choice.value == "none"


def test_products_are_kept_first_and_full_comes_last() -> None:
    found = {budget: choose(LAYERS, 0, budget)[0] for budget in (399, 250, 220, 130)}
    assert found[399] == ["selective"] * 2 + ["none"] * 2
    assert found[250] == ["selective"] * 4
    assert found[220] == ["full", *["selective"] * 3]
    assert found[130] == ["full"] * 4


def test_what_is_chosen_fits_and_less_does_not() -> None:
    for budget in range(130, 420):
        kinds, _ = choose(LAYERS, 0, budget)
        assert needed(LAYERS, kinds) <= budget


def test_layers_that_hold_nothing_stay_as_they_are() -> None:
    frozen = [Held(0, 0, 0)] * 2
    kinds, choice = choose([*frozen, *LAYERS[:2]], 0, 110)
    assert kinds == ["none", "none", "full", "full"]
    assert choice.value == "full in 2 of 4 layers"


def test_the_reason_tells_the_bytes() -> None:
    mib = [Held(*(size * 2**20 for size in (100, 40, 10)))] * 4
    _, choice = choose(mib, 2**30, 2**30 + 260 * 2**20)
    assert choice.value == "selective"
    assert choice.reason == "1.4 GiB would be needed without, 1.2 GiB are so, and 100% of 1.3 GiB may be filled"


def test_too_little_for_anything_is_said_with_the_way_out() -> None:
    kinds, choice = choose(LAYERS, 0, 100)
    assert kinds == ["full"] * 4
    assert "batch.micro" in choice.reason


def test_a_quarter_of_a_budget_is_left_to_gaps() -> None:
    assert recompute.choose(LAYERS, 0, 534)[0] == ["none"] * 4
    assert recompute.choose(LAYERS, 0, 533)[0] != ["none"] * 4
