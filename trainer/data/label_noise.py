"""Rows whose label others contradict: listed for somebody to look at, never changed and never left out.

Two witnesses: rows that say nearly the same and are labelled otherwise; and a linear model of words and pairs of words
that has not seen the row, by confident learning (Northcutt et al. 2021, section 3.1): it contradicts a label where it
gives another class at least the probability that rows of that class get on average.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.duplicates import near_groups, signature_of
from trainer.data.example import Example
from trainer.data.facts import Facts, Numbers
from trainer.data.leakage import asked
from trainer.data.splitting import order_keys
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FOLDS = 5
"""Parts that the rows are cut into; the model of each has seen the others. A label with fewer rows is not judged."""
_HASHES = 1 << 18
"""Numbers that words and pairs of words become, so that memory does not grow with the vocabulary."""
_FEATURES, _WEIGHTS = 50_000, 4_000_000
"""The most of them that the model looks at, the most frequent ones, and the most weights for all labels together."""
# A letter of a script that is written without spaces is a word.
_UNSPACED = r"\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+"


@dataclass(frozen=True)
class Suspect:
    """One row whose label is contradicted."""

    source: str
    line: int
    given: Any
    """Its label."""
    suggested: Any
    """The label that the witness gives."""
    probability: float
    """How sure the witness is: the model's probability, or the share of the rows that say nearly the same."""
    why: str

    def to_json(self) -> dict[str, Any]:
        """One line of review.jsonl."""
        return {
            "source": self.source,
            "line": self.line,
            "given": self.given,
            "suggested": self.suggested,
            "probability": round(self.probability, 3),
            "why": self.why,
        }


def text_of(example: Example) -> str:
    """What a label is given to: what a row asks, and all that it says where it asks nothing; a name of each image."""
    said = " ".join(asked(example)).strip() or " ".join(example.texts())
    return " ".join([said, *(image.digest() for image in example.images)])


def suspects(facts: Facts, texts: Sequence[str], column: str, similarity: float) -> list[Suspect]:
    """The rows whose label in a column is contradicted, the surest first; one with null is not looked at.

    `texts` are those of the rows [N], as `text_of` gives them. RecipeError for lists, or for no label.
    """
    values = facts.columns[column].values if column in facts.columns else ()
    if any(isinstance(value, list) for value in values):
        message = f"takes a column with one label, and {column} holds lists; leave it out"
        raise RecipeError([Problem("data.clean.label_noise", message)])
    if all(value is None for value in values):
        message = f"no row has {column}; name a column that the rows have, or leave the key out"
        raise RecipeError([Problem("data.clean.label_noise", message)])
    labels = np.asarray(facts.columns[column].codes)
    rows = np.flatnonzero(np.array([value is not None for value in values])[labels])
    # The model's parts do not depend on the order of the rows.
    rows = rows[np.argsort(order_keys(facts.digest[rows], 0), kind="stable")]
    said, given = [texts[row] for row in rows.tolist()], labels[rows]
    found: dict[int, _Doubt] = {}
    for doubt in (*_among_alike(said, given, similarity), *_by_model(said, given)):
        found.setdefault(doubt.row, doubt)
    listed = [_suspect(facts, rows, values, doubt) for doubt in found.values()]
    return sorted(listed, key=lambda suspect: (-suspect.probability, suspect.source, suspect.line))


@dataclass(frozen=True)
class _Doubt:
    """What a witness says of the n rows with a label, by their numbers and those of labels."""

    row: int
    given: int
    suggested: int
    probability: float
    """Of the suggested label."""
    own: float
    """Of the given label."""
    alike: int | None
    """A row that says nearly the same and has the suggested label; None where the model speaks."""


def _suspect(facts: Facts, rows: Numbers, values: Sequence[Any], doubt: _Doubt) -> Suspect:
    row = int(rows[doubt.row])
    given, suggested = (json.dumps(values[label], ensure_ascii=False) for label in (doubt.given, doubt.suggested))
    if doubt.alike is not None:
        why = f"{facts.where(int(rows[doubt.alike]))} says nearly the same and is labelled {suggested}"
    else:
        why = f"a model of words gives {suggested} {doubt.probability:.2f} and {given} {doubt.own:.2f}"
    return Suspect(
        source=facts.files[facts.file[row]],
        line=int(facts.line[row]),
        given=values[doubt.given],
        suggested=values[doubt.suggested],
        probability=doubt.probability,
        why=why,
    )


def _among_alike(said: Sequence[str], given: Numbers, similarity: float) -> Iterator[_Doubt]:
    """Rows among near duplicates whose label is not the one that most of them have, or one of several that do."""
    groups = near_groups(np.stack([signature_of(text) for text in said]), similarity)
    order = np.argsort(groups, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        counts = Counter(given[members].tolist())
        if len(counts) == 1:
            continue
        for row in members.tolist():
            own = int(given[row])
            suggested = min(counts.keys() - {own}, key=lambda label: (-counts[label], label))
            if counts[suggested] >= counts[own]:
                alike = int(members[given[members] == suggested][0])
                shares = counts[suggested] / len(members), counts[own] / len(members)
                yield _Doubt(row, own, suggested, *shares, alike)


def _by_model(said: Sequence[str], given: Numbers) -> Iterator[_Doubt]:
    """Rows that a model of the other rows gives another label with confidence."""
    labels, counts = np.unique(given, return_counts=True)
    labels = labels[counts >= FOLDS]
    judged = np.flatnonzero(np.isin(given, labels))
    if len(labels) < 2:
        return
    own = np.searchsorted(labels, given[judged])
    features = _features([said[row] for row in judged.tolist()], len(labels))
    if features is None:
        return
    probabilities = _out_of_fold(features, own, len(labels))
    thresholds = np.array([probabilities[own == label, label].mean() for label in range(len(labels))])
    sure = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = sure.argmax(axis=1)
    for place in np.flatnonzero((sure.max(axis=1) >= 0) & (best != own)).tolist():
        row, label = int(judged[place]), int(best[place])
        shares = float(probabilities[place, label]), float(probabilities[place, own[place]])
        yield _Doubt(row, int(given[row]), int(labels[label]), *shares, None)


def _features(said: Sequence[str], labels: int) -> "csr_array | None":
    """How much each frequent word or pair of words says of each text (TF-IDF), float64 [n, F]; None without words."""
    # Here, because it takes a second to import.
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    words = HashingVectorizer(
        token_pattern=_WORD, ngram_range=(1, 2), n_features=_HASHES, alternate_sign=False, norm=None
    )
    counts = words.transform(said)
    texts = np.bincount(counts.indices, minlength=_HASHES)
    frequent = np.argsort(-texts, kind="stable")[: min(_FEATURES, _WEIGHTS // labels, np.count_nonzero(texts))]
    if len(frequent) == 0:
        return None
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, frequent])


def _out_of_fold(features: "csr_array", own: Numbers, labels: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The probability of each label by a model that has not seen the row, float64 [n, labels]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    part = np.empty(len(own), dtype=np.int64)
    for label in range(labels):
        places = np.flatnonzero(own == label)
        part[places] = np.arange(len(places)) % FOLDS
    probabilities = np.empty((len(own), labels))
    with warnings.catch_warnings():
        # A fit that is cut short is less sure, and no less right.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for fold in range(FOLDS):
            model = LogisticRegression(tol=1e-3).fit(features[part != fold], own[part != fold])
            probabilities[part == fold] = model.predict_proba(features[part == fold])
    return probabilities
