import a_recipe
import pytest

from trainer.plan.batch import count_steps, plan_batch, steps_per_epoch, the_global_batch_divides
from trainer.plan.manifest import Manifest


@pytest.mark.parametrize(
    ("micro", "ranks", "accumulate", "sentence"),
    [
        (4, 2, 8, "4 per device x 8 accumulate x 2 devices = 64 examples a step"),
        (64, 1, 1, "64 per device x 1 accumulate x 1 device = 64 examples a step"),
        (1, 8, 8, "1 per device x 8 accumulate x 8 devices = 64 examples a step"),
    ],
)
def test_a_padded_step_is_shared_out_evenly(micro: int, ranks: int, accumulate: int, sentence: str) -> None:
    recipe = a_recipe.recipe(data={"packing": False}, batch={"micro": micro, "global": 64})

    plan = plan_batch(recipe, Manifest(1000, 0), ranks)

    assert plan.sentence() == sentence
    assert plan.to_json() == {
        "micro": micro,
        "accumulate": accumulate,
        "accumulate_is_estimate": False,
        "ranks": ranks,
        "global": 64,
        "global_tokens": None,
        "packing": False,
        "micro_tokens": None,
    }


def test_a_packed_step_says_how_many_rows_the_tokens_will_make() -> None:
    recipe = a_recipe.recipe(data={"max_length": 512}, batch={"micro": 4, "global": 64})

    # 64 examples of 100 tokens are 6,400 tokens: two devices with 2,048 tokens a row need two rows each.
    plan = plan_batch(recipe, Manifest(1000, 0, train_tokens=100_000), 2)

    assert plan.accumulate == 2
    assert plan.to_json()["accumulate_is_estimate"] is True
    assert plan.sentence() == (
        "64 examples a step, laid end to end in about 2 rows of at most 2,048 tokens on each of 2 devices"
    )


@pytest.mark.parametrize(("tokens", "rows"), [(1, "about 1 row"), (None, "rows")])
def test_few_tokens_make_one_row_and_unknown_tokens_no_number(tokens: int | None, rows: str) -> None:
    plan = plan_batch(a_recipe.recipe(batch={"micro_tokens": 4096}), Manifest(1000, 0, train_tokens=tokens), 1)

    assert plan.sentence() == (
        f"64 examples a step, laid end to end in {rows} of at most 4,096 tokens on each of 1 device"
    )


@pytest.mark.parametrize(
    ("given", "micro", "ranks", "message"),
    [
        (
            50,
            4,
            2,
            "batch.global: 50 examples a step cannot be shared out as 4 per device on 2 devices; it can be 48 or 56 "
            "(any multiple of 8), or set data.packing: true",
        ),
        (
            12,
            4,
            2,
            "batch.global: 12 examples a step cannot be shared out as 4 per device on 2 devices; it can be 8 or 16 "
            "(any multiple of 8), or set data.packing: true",
        ),
        (
            3,
            4,
            1,
            "batch.global: 3 examples a step cannot be shared out as 4 per device on 1 device; it can be 4 "
            "(any multiple of 4), or set data.packing: true",
        ),
    ],
)
def test_a_padded_step_that_does_not_divide_says_which_can(given: int, micro: int, ranks: int, message: str) -> None:
    recipe = a_recipe.recipe(data={"packing": False}, batch={"micro": micro, "global": given})

    assert str(the_global_batch_divides(recipe, ranks)) == message


@pytest.mark.parametrize(
    ("packing", "given", "ranks"), [(False, 48, 2), (False, 4, 1), (True, 50, 2), (True, 1, 8), (True, 3, 1)]
)
def test_a_step_that_divides_or_is_packed_is_fine(packing: bool, given: int, ranks: int) -> None:
    recipe = a_recipe.recipe(data={"packing": packing}, batch={"micro": 4, "global": given})

    assert the_global_batch_divides(recipe, ranks) is None


@pytest.mark.parametrize(
    ("rows", "epochs", "max_steps", "steps"),
    [
        (640, 1, None, 10),
        (641, 1, None, 11),
        (640, 3, None, 30),
        (641, 3, None, 33),
        (640, 0.5, None, 5),
        (641, 0.5, None, 6),
        (640, 0.1, None, 1),
        (640, 0.3, None, 3),
        (1, 0.01, None, 1),
        (640, 3, 7, 7),
        (640, 3, 100, 30),
    ],
)
def test_steps_follow_from_rows_and_epochs(rows: int, epochs: float, max_steps: int | None, steps: int) -> None:
    recipe = a_recipe.recipe(train={"epochs": epochs, "max_steps": max_steps})

    assert count_steps(recipe, Manifest(rows, 0)) == steps


def test_steps_of_tokens_are_unknown_then_estimated_then_counted() -> None:
    recipe = a_recipe.recipe(batch={"global_tokens": 4096}, train={"epochs": 2.5})

    assert steps_per_epoch(recipe, Manifest(1000, 0)) is None
    assert count_steps(recipe, Manifest(1000, 0)) is None
    assert count_steps(recipe, Manifest(1000, 0, train_tokens=40_000)) == 25
    # Epochs differ in their steps: 11 + 10 and half of 11.
    assert count_steps(recipe, Manifest(1000, 0, epoch_steps=(11, 10, 11))) == 27


def test_weights_make_an_epoch_longer() -> None:
    recipe = a_recipe.recipe(batch={"global": 10}, train={"epochs": 1})
    manifest = Manifest(100, 0, train_tokens=1000, epoch_rows=150)

    assert count_steps(recipe, manifest) == 15
    assert count_steps(a_recipe.recipe(batch={"global_tokens": 2048}, train={"epochs": 100}), manifest) == 100


def test_counted_steps_end_with_max_steps() -> None:
    recipe = a_recipe.recipe(train={"epochs": 3, "max_steps": 7})

    assert count_steps(recipe, Manifest(1, 0, epoch_steps=(5, 5))) == 7


def test_a_stream_is_as_long_as_it_is_told() -> None:
    recipe = a_recipe.recipe(data={"streaming": True, "validation": None}, train={"max_steps": 7})

    assert count_steps(recipe, Manifest(None, 0)) == 7
    assert steps_per_epoch(recipe, Manifest(None, 0)) is None


@pytest.mark.parametrize(
    ("packing", "sentence", "accumulate"),
    [
        (
            True,
            "at most 65,536 tokens a step, laid end to end in about 8 rows of at most 4,096 tokens "
            "on each of 2 devices",
            8,
        ),
        (
            False,
            "at most 65,536 tokens a step, in about 82 micro-batches of at most 4 examples on each of 2 devices",
            82,
        ),
    ],
)
def test_a_step_of_tokens_says_how_many_micro_batches_it_will_make(
    packing: bool, sentence: str, accumulate: int
) -> None:
    recipe = a_recipe.recipe(data={"max_length": 1024, "packing": packing}, batch={"micro": 4, "global_tokens": 65_536})

    plan = plan_batch(recipe, Manifest(1000, 0, train_tokens=100_000), 2)

    assert (plan.sentence(), plan.accumulate) == (sentence, accumulate)
    assert plan.to_json()["accumulate_is_estimate"] is True
    assert (plan.to_json()["global"], plan.to_json()["global_tokens"]) == (None, 65_536)


def test_a_step_of_tokens_divides_whatever_the_devices() -> None:
    recipe = a_recipe.recipe(data={"packing": False}, batch={"micro": 3, "global_tokens": 65_536})

    assert the_global_batch_divides(recipe, 7) is None
