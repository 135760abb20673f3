import numpy as np
import pytest

from trainer.config.classify import Classify
from trainer.tasks.label_metrics import measure, ordinal

GENERATOR = np.random.default_rng(3)


def test_one_label_by_hand() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 2.0]])
    labels = np.array([0, 1, 1, 1])
    found = measure("single", logits, labels)
    # The third row is wrong: the second label has 2 of its 3 rows, the first one 1 and a false one.
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["matthews"] == pytest.approx((2 * 1 - 0 * 1) / np.sqrt(3 * 2 * 1 * 2))
    # The first row's margin for the second label is -2, and one of the others has it too: (1 + 1 + 1/2) / 3.
    assert found["auroc"] == pytest.approx(2.5 / 3)


def test_several_labels_by_hand() -> None:
    logits = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = measure("multiple", logits, labels)
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["macro_f1"] == pytest.approx((1.0 + 0.0) / 2)


def test_numbers_by_their_formulas() -> None:
    said, labels = GENERATOR.normal(size=(50, 1)), GENERATOR.normal(size=50)
    found = measure("regression", said, labels)
    assert found["rmse"] == pytest.approx(np.sqrt(((said[:, 0] - labels) ** 2).mean()))
    assert found["pearson"] == pytest.approx(np.corrcoef(said[:, 0], labels)[0, 1])
    ranks = [values.argsort().argsort() for values in (said[:, 0], labels)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize(
    ("problem", "logits", "labels", "left_out"),
    [
        ("single", np.zeros((3, 2)), np.zeros(3, dtype=np.int64), {"auroc"}),
        ("multiple", np.zeros((3, 2)), np.zeros((3, 2)), {"auroc"}),
        ("regression", np.zeros((3, 1)), np.arange(3.0), {"pearson", "spearman"}),
    ],
)
def test_what_the_rows_do_not_define_is_left_out(
    problem: str, logits: np.ndarray, labels: np.ndarray, left_out: set[str]
) -> None:
    assert set(measure(problem, logits, labels)) == set(Classify.measured[problem]) - left_out


@pytest.mark.parametrize("problem", Classify.measured)
def test_the_order_of_the_rows_does_not_matter(problem: str) -> None:
    logits = GENERATOR.normal(size=(40, {"regression": 1, "ordinal": 2}.get(problem, 3)))
    labels = {
        "single": GENERATOR.integers(0, 3, 40),
        "multiple": (GENERATOR.random((40, 3)) < 0.5).astype(np.float32),
        "ordinal": GENERATOR.integers(0, 3, 40),
        "regression": GENERATOR.normal(size=40),
    }[problem]
    order = GENERATOR.permutation(40)
    one, other = measure(problem, logits, labels), measure(problem, logits[order], labels[order])
    assert one == pytest.approx(other, rel=1e-12)
    assert set(one) == set(Classify.measured[problem])


def test_ordinal_probabilities_are_products_of_the_answers() -> None:
    chances = np.array([[0.9, 0.5, 0.2], [0.1, 0.9, 0.9]])
    found = ordinal(np.log(chances / (1 - chances)))
    assert found == pytest.approx(np.array([[0.1, 0.45, 0.36, 0.09], [0.9, 0.01, 0.009, 0.081]]))
    assert ordinal(np.full((1, 3), 800.0)) == pytest.approx(np.array([[0.0, 0.0, 0.0, 1.0]]))


def test_ordinal_labels_are_measured_by_their_distance() -> None:
    # Said: 0, 2, 2; right: 0, 1, 0.
    logits = np.array([[-9.0, -9.0], [9.0, 9.0], [9.0, 9.0]])
    found = measure("ordinal", logits, np.array([0, 1, 0]))
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["mae"] == pytest.approx(1.0)
    # Cohen 1968: 1 - (1 + 4) / (expected 4 * 4/3 + 1 * 2/3 + 1 * 1/3 + ...), from the margins of both.
    seen, margins = 1 + 4, sum((a - b) ** 2 for a in (0, 2, 2) for b in (0, 1, 0)) / 3
    assert found["kappa"] == pytest.approx(1 - seen / margins)
