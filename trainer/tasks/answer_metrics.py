"""What is measured of written answers beside the references: by sacrebleu and rouge-score, and as SQuAD does."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

Texts = Sequence[str]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def measure(names: Sequence[str], answers: Texts, references: Texts) -> dict[str, float]:
    """The metrics of these names over N answers and references; bleu and chrf are from 0 to 100."""
    return {name: _METRICS[name](answers, references) for name in names}


def _bleu(answers: Texts, references: Texts) -> float:
    from sacrebleu.metrics import BLEU

    return float(BLEU().corpus_score(list(answers), [list(references)]).score)


def _chrf(answers: Texts, references: Texts) -> float:
    from sacrebleu.metrics import CHRF

    return float(CHRF().corpus_score(list(answers), [list(references)]).score)


def _rouge(kind: str) -> Callable[[Texts, Texts], float]:
    def score(answers: Texts, references: Texts) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([kind], use_stemmer=False)
        pairs = zip(references, answers, strict=True)
        return _mean([float(scorer.score(*pair)[kind].fmeasure) for pair in pairs])

    return score


def _exact_match(answers: Texts, references: Texts) -> float:
    """Equal in SQuAD's normal form (Rajpurkar 2016): lower case, no punctuation, no articles, single spaces."""
    return _mean([float(_normal(one) == _normal(other)) for one, other in zip(answers, references, strict=True)])


def _token_f1(answers: Texts, references: Texts) -> float:
    """The harmonic mean of precision and recall over the words of that form, as a multiset (Rajpurkar 2016)."""
    return _mean([_overlap(one, other) for one, other in zip(answers, references, strict=True)])


def _final_number(answers: Texts, references: Texts) -> float:
    """The share of answers whose last number is that of the reference (Cobbe 2021); without one they are wrong."""
    pairs = [(_last_number(one), _last_number(other)) for one, other in zip(answers, references, strict=True)]
    return _mean([float(one is not None and one == other) for one, other in pairs])


_METRICS: dict[str, Callable[[Texts, Texts], float]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "rouge1": _rouge("rouge1"),
    "rouge2": _rouge("rouge2"),
    "rougeL": _rouge("rougeL"),
    "exact_match": _exact_match,
    "token_f1": _token_f1,
    "final_number": _final_number,
}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _normal(text: str) -> str:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _overlap(answer: str, reference: str) -> float:
    one, other = _normal(answer).split(), _normal(reference).split()
    if not one or not other:
        return float(one == other)
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other))


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
