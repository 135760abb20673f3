"""How often a language model itself finds the right answer likeliest, on the test rows of a reranking run.

Each candidate stands after the question in the model's own chat template; its log-probability is the mean over its
tokens, or their sum. Prints the accuracy at 1 of both.

python benchmarks/likelihood.py ./SmolLM2-135M-Instruct runs/rerank ranked.jsonl [--rows 20]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.config.load import load
from trainer.data import corpus, tokenizer


def main() -> None:
    """Measures all test rows, or the first ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("run", type=Path)
    parser.add_argument("ranked", type=Path)
    parser.add_argument("--rows", type=int)
    asked = parser.parse_args()
    recipe = load(asked.run / "recipe.yaml")
    held = corpus.prepare(recipe, tokenizer.load(recipe, asked.run), asked.run)
    lines = asked.ranked.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(lines[line - 1]) for line in held.facts("test").line.tolist()][: asked.rows]
    model = AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.bfloat16).eval()
    words = AutoTokenizer.from_pretrained(asked.model)
    right = {"mean a token": 0, "summed": 0}
    for row in rows:
        scores = _scores(model, words, row["query"], row["candidates"])
        for place, name in enumerate(right):
            best = max(range(len(scores)), key=lambda number: scores[number][place])
            right[name] += row["relevance"][best] == max(row["relevance"])
    for name, count in right.items():
        print(f"{name}: {count} of {len(rows)}, {count / len(rows):.3f}")


@torch.inference_mode()
def _scores(model: Any, words: Any, query: str, candidates: Sequence[str]) -> list[tuple[float, float]]:
    """Mean and sum of the log-probabilities of each candidate's tokens."""
    turns = [{"role": "user", "content": query}]
    before = words.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    first = words(before, add_special_tokens=False)["input_ids"]
    found = []
    for candidate in candidates:
        own = words(candidate, add_special_tokens=False)["input_ids"]
        logits = model(input_ids=torch.tensor([first + own])).logits[0, len(first) - 1 : -1].float()
        chances = logits.log_softmax(dim=-1).gather(1, torch.tensor(own)[:, None])
        found.append((float(chances.mean()), float(chances.sum())))
    return found


if __name__ == "__main__":
    main()
