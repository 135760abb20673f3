"""What is measured of labels: by scikit-learn and SciPy, from the logits [N, L] of all examples and their labels."""

import warnings
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]


def measure(problem: str, logits: Numbers, labels: Numbers) -> dict[str, float]:
    """The metrics of `task.problem`; one that the rows do not define is left out, such as the AUROC of one label."""
    with warnings.catch_warnings():
        # Of rows with one label alone, which the values tell.
        warnings.filterwarnings("ignore", message="A single label was found", category=UserWarning)
        found = _MEASURES[problem](logits, labels)
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _single(logits: Numbers, labels: Numbers) -> dict[str, float]:
    from scipy.special import log_softmax
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    chosen = logits.argmax(axis=1)
    return {
        "accuracy": accuracy_score(labels, chosen),
        "macro_f1": f1_score(labels, chosen, average="macro", zero_division=0.0),
        "matthews": matthews_corrcoef(labels, chosen),
        "auroc": _mean_auroc(log_softmax(logits, axis=1), labels[:, None] == np.arange(logits.shape[1])),
    }


def _multiple(logits: Numbers, labels: Numbers) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    # A logit above 0 is a probability above one half.
    chosen, labels = logits > 0, labels > 0.5
    return {
        "micro_f1": f1_score(labels, chosen, average="micro", zero_division=0.0),
        "macro_f1": f1_score(labels, chosen, average="macro", zero_division=0.0),
        "exact_match": accuracy_score(labels, chosen),
        "auroc": _mean_auroc(logits, labels),
    }


def _mean_auroc(scores: Numbers, labels: Numbers) -> float:
    """The mean over the labels, each against all others [N, L], of those that some rows have and some have not."""
    from sklearn.metrics import roc_auc_score

    both = [place for place in range(labels.shape[1]) if 0 < labels[:, place].sum() < len(labels)]
    return float(np.mean([roc_auc_score(labels[:, place], scores[:, place]) for place in both])) if both else np.nan


def ordinal(logits: Numbers) -> Numbers:
    """The probability of each of L ordered labels [N, L], of N answers to "is it above this one?" [N, L - 1].

    The chance to be above a label is the product of the answers up to it (CORN, Shi, Cao and Raschka 2021, equation 5).
    """
    from scipy.special import expit

    above = np.cumprod(expit(logits.astype(np.float64)), axis=1)
    ones, zeros = np.ones((len(above), 1)), np.zeros((len(above), 1))
    return -np.diff(np.hstack([ones, above, zeros]), axis=1)


def _ordinal(logits: Numbers, labels: Numbers) -> dict[str, float]:
    from scipy.stats import spearmanr
    from sklearn.metrics import accuracy_score, cohen_kappa_score, mean_absolute_error

    said = ordinal(logits).argmax(axis=1)
    found = {"accuracy": accuracy_score(labels, said), "mae": mean_absolute_error(labels, said)}
    # With one label alone there is no chance to agree by, and no order.
    if np.ptp(said) > 0 or np.ptp(labels) > 0:
        found["kappa"] = cohen_kappa_score(labels, said, weights="quadratic")
    if np.ptp(said) > 0 and np.ptp(labels) > 0:
        found["spearman"] = spearmanr(said, labels).statistic
    return found


def _regression(logits: Numbers, labels: Numbers) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    said = logits[:, 0].astype(np.float64)
    found = {"rmse": float(np.sqrt(np.mean((said - labels) ** 2)))}
    # A line through equal numbers has no slope.
    if np.ptp(said) > 0 and np.ptp(labels) > 0:
        found |= {"pearson": pearsonr(said, labels).statistic, "spearman": spearmanr(said, labels).statistic}
    return found


_MEASURES = {"single": _single, "multiple": _multiple, "ordinal": _ordinal, "regression": _regression}
