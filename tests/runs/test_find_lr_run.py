"""`shardtune train RECIPE --find-lr` on a small real run."""

from itertools import pairwise
from pathlib import Path

import pytest
from runs.command import metrics, read_json, shardtune, write_recipe


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a recipe, and what the second of two tests said."""
    folder = tmp_path_factory.mktemp("find")
    recipe = write_recipe(folder)
    for _ in range(2):
        done = shardtune("train", str(recipe), "--find-lr")
        assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_each_step_has_a_higher_rate_until_the_loss_explodes(tested: tuple[Path, str]) -> None:
    run = tested[0] / "run-find-lr"
    rates = [step["lr"] for step in metrics(run)]

    assert rates[0] == pytest.approx(1e-7)
    ratios = [high / low for low, high in pairwise(rates)]
    assert ratios == pytest.approx([10 ** (8 / 119)] * len(ratios))
    assert len(rates) == read_json(run / "summary.json")["steps"] <= 120


def test_a_rate_is_suggested_and_drawn(tested: tuple[Path, str]) -> None:
    folder, said = tested
    page = (folder / "run-find-lr" / "find-lr.html").read_text()

    assert "Suggested: optimizer.lr: " in said
    assert f"Page: {folder / 'run-find-lr' / 'find-lr.html'}" in said
    assert "<svg" in page and "falls fastest" in page and "Suggested: optimizer.lr: " in page


def test_nothing_else_is_kept(tested: tuple[Path, str]) -> None:
    folder, said = tested

    assert not (folder / "run").exists()
    assert not any((folder / "run-find-lr" / name).exists() for name in ("model", "checkpoints"))
    assert "Nothing was saved, as checkpoint.save says." in said


def test_phases_have_rates_of_their_own(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, strategy={"kind": "layerwise"})

    done = shardtune("train", str(recipe), "--find-lr")

    assert done.returncode == 2
    assert (
        "strategy.kind: layerwise has a rate for each phase; test one of them, such as strategy={kind: full}"
        in done.stderr
    )
    assert not (tmp_path / "run-find-lr").exists()
