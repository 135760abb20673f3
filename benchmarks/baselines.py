"""What simple means come to on the test rows of a run, with its own training rows.

python benchmarks/baselines.py runs/classify     texts: TF-IDF of words, marks and their pairs; logistic regression
python benchmarks/baselines.py runs/ner          words: the phrases of the training rows, the longest first
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from trainer.config.load import load
from trainer.data import corpus, tokenizer
from trainer.tasks.tag_metrics import entities, measure


def main() -> None:
    """Prints the metrics of the baseline that fits the run's task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    recipe = load(run / "recipe.yaml")
    held = corpus.prepare(recipe, tokenizer.load(recipe, run), run)
    lines = Path(recipe.data.train[0].path).read_text(encoding="utf-8").splitlines()
    train, test = (
        [json.loads(lines[line - 1]) for line in held.facts(split).line.tolist()] for split in ("train", "test")
    )
    print(json.dumps(_texts(train, test) if recipe.task.kind == "classify" else _words(train, test)))


def _texts(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, float]:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    fitted = LogisticRegression(C=10.0, max_iter=1000).fit(
        words.fit_transform(row["text"] for row in train), [row["label"] for row in train]
    )
    found = fitted.predict(words.transform(row["text"] for row in test))
    return {"accuracy": sum(one == row["label"] for one, row in zip(found, test, strict=True)) / len(test)}


def _words(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, float]:
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for row in train:
        for kind, start, end in entities(row["tags"]):
            counts.setdefault(tuple(row["words"][start:end]), Counter())[kind] += 1
    known = {phrase: count.most_common(1)[0][0] for phrase, count in counts.items()}
    longest = max(map(len, known))
    names = sorted({tag for row in [*train, *test] for tag in row["tags"]})
    numbers = {name: number for number, name in enumerate(names)}
    told = []
    for row in test:
        said, place = ["O"] * len(row["words"]), 0
        while place < len(said):
            sizes = range(min(longest, len(said) - place), 0, -1)
            phrases = (tuple(row["words"][place : place + size]) for size in sizes)
            found = next((phrase for phrase in phrases if phrase in known), ())
            if found:
                said[place : place + len(found)] = [f"B-{known[found]}", *[f"I-{known[found]}"] * (len(found) - 1)]
            place += max(1, len(found))
        told.append(tuple(np.array([numbers.get(tag, numbers["O"]) for tag in tags]) for tags in (said, row["tags"])))
    return measure("bio", names, told)


if __name__ == "__main__":
    main()
