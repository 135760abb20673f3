"""What `shardtune why-not` says of combinations."""

import json
from pathlib import Path

import pytest
from runs.command import shardtune

from trainer import why_not
from trainer.errors import RecipeError
from trainer.plan import adapter_pairs

RAN = {
    "date": "2026-01-01",
    "versions": {"torch": "2.0"},
    "pairs": [
        {"adapter": "lora", "engine": "zero=3", "stored": "nf4", "works": True, "told": "outputs differ by 2e-07"},
        {
            "adapter": "lora start=pissa",
            "engine": "torch processes=2",
            "stored": "none",
            "works": False,
            "told": "no",
        },
    ],
}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs.json").write_text(json.dumps(RAN))
    monkeypatch.setattr(adapter_pairs, "FILE", tmp_path / "pairs.json")


@pytest.mark.parametrize(
    ("words", "works", "why"),
    [
        ("lora zero=3 nf4", True, "outputs differ by 2e-07 (zero=3, torch 2.0)"),
        ("lora start=pissa processes=2 torch", False, "no (torch processes=2, torch 2.0)"),
        ("lora zero=3 nf4 partial", False, "strategy.kind: "),
        ("lora zero=1 nf4", None, "nothing forbids it; it is not among what was run"),
        ("adalora zero=2", False, "adapter.kind: adalora looks at whole gradients, which DeepSpeed cuts; set engine"),
        ("nf4", False, "model.quantization: weights in nf4 do not train; set adapter.kind: lora, or quantization to"),
        ("lora start=pissa nf4", False, "adapter.start: pissa needs model.quantization: none, not nf4"),
        ("prefix train.checkpointing=full", False, "train.checkpointing: computes keys again that prefix has put its"),
        ("peft", False, "adapter.method: is needed and not there"),
    ],
)
def test_a_rule_forbids_it_or_it_ran(ran: None, words: str, works: bool | None, why: str) -> None:
    if "partial" in words:
        words, works, why = f"{words} strategy.last=1", None, "nothing forbids it"
    found = why_not.ask(words.split())

    assert found.works is works
    assert found.why[0].startswith(why)


def test_words_that_are_not_known_are_told() -> None:
    with pytest.raises(RecipeError, match="lroa: is no adapter, engine, kind of base, strategy or task; did you"):
        why_not.ask(["lroa"])


def test_the_command_answers_and_ends_with_2_where_it_is_refused() -> None:
    refused, wrong = shardtune("why-not", "adalora", "zero=2"), shardtune("why-not", "lora", "zero=7")

    assert (refused.returncode, wrong.returncode) == (2, 2)
    assert refused.stdout.startswith("refused: adapter.kind: adalora looks at whole gradients")
    assert "engine.zero" in wrong.stdout
