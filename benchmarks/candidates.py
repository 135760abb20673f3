"""Rows to rerank, of questions with worked answers: the right answer among seven wrong ones; prints how they were made.

A wrong answer is the right one with numbers of its last steps changed, so that the end does not follow from them or the
question (four), or the answer to another question of about the same length, its last line swapped for a near number
(three). Marks such as <<2*3=6>> are taken out, since a changed number would contradict them.

python benchmarks/candidates.py gsm8k.jsonl ranked.jsonl [--seed 0]
"""

import argparse
import json
import random
import re
from pathlib import Path

CHANGED, OTHERS = 4, 3
_MARK = re.compile(r"<<[^>]*>>")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_END = "#### "


def main() -> None:
    """Writes one row for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    rows = [json.loads(line) for line in asked.questions.read_text(encoding="utf-8").splitlines()]
    answers = [_MARK.sub("", row["answer"]) for row in rows]
    by_length = sorted(range(len(rows)), key=lambda row: len(answers[row]))
    place = {row: number for number, row in enumerate(by_length)}
    with asked.out.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            wrong = _wrong(number, answers, by_length, place, draw)
            candidates = [answers[number], *wrong]
            order = draw.sample(range(len(candidates)), len(candidates))
            ranked = {
                "query": row["question"],
                "candidates": [candidates[one] for one in order],
                "relevance": [int(one == 0) for one in order],
            }
            file.write(json.dumps(ranked, ensure_ascii=False) + "\n")
    print(f"{len(rows)} questions with {1 + CHANGED + OTHERS} candidates each")


def _wrong(
    number: int, answers: list[str], by_length: list[int], place: dict[int, int], draw: random.Random
) -> list[str]:
    right, found = answers[number], set[str]()
    while len(found) < CHANGED:
        made = _changed(right, draw)
        if made != right:
            found.add(made)
    near = by_length[max(0, place[number] - 25) : place[number] + 26]
    while len(found) < CHANGED + OTHERS:
        other = answers[draw.choice([row for row in near if row != number])]
        steps, _, _ = other.rpartition(_END)
        made = f"{steps}{_END}{_near(right.rpartition(_END)[2], draw)}"
        if made != right:
            found.add(made)
    return sorted(found)


def _changed(answer: str, draw: random.Random) -> str:
    """The answer with the number after one equals sign of its second half, and its end, made others."""
    steps, _, end = answer.rpartition(_END)
    wrong = _near(end, draw)
    lines = steps.splitlines()
    last = draw.randrange(len(lines) // 2, len(lines)) if lines else 0
    if lines and "=" in lines[last]:
        before, equals, after = lines[last].rpartition("=")
        lines[last] = before + equals + _NUMBER.sub(lambda _: _near(_NUMBER.findall(after)[0], draw), after, count=1)
    return "\n".join([*lines, f"{_END}{wrong}"])


def _near(number: str, draw: random.Random) -> str:
    """A whole number near another one, and not the same."""
    found = _NUMBER.findall(number)
    value = round(float(found[0].replace(",", ""))) if found else 0
    step = draw.choice([1, 2, 3, 5, 10, max(1, value // 10), max(1, value // 2), value or 4])
    made = value + draw.choice([-1, 1]) * step
    return str(made if made >= 0 else value + step)


if __name__ == "__main__":
    main()
