import pytest
from distributed import trajectory
from distributed.alone import as_only_rank

from trainer.errors import RecipeError


@pytest.mark.parametrize("zero", [1, 3])
def test_a_value_of_the_wrong_type_is_named(monkeypatch: pytest.MonkeyPatch, zero: int) -> None:
    as_only_rank(monkeypatch)
    wanted = trajectory.recipe(
        {"zero": zero, "deepspeed": {"zero_optimization": {"stage": zero, "reduce_bucket_size": "large"}}}
    )

    with pytest.raises(RecipeError) as caught:
        trajectory.prepared(wanted)

    (problem,) = caught.value.problems
    assert problem.where == "engine.deepspeed: reduce_bucket_size"
    assert problem.message.startswith("'large' does not fit (")
