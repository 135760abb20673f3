import pytest

from trainer.config.evaluate import Evaluate
from trainer.tasks.answer_metrics import measure

ANSWERS = ["The cat sat on the mat.", "It is 1,200 dollars", "no"]
REFERENCES = ["A cat sat on a mat", "He pays 1200.0", "yes, 3"]


def one(name: str, answer: str, reference: str) -> float:
    return measure([name], [answer], [reference])[name]


def test_every_name_of_the_recipe_is_measured() -> None:
    (names,) = [field.annotation.__args__[0].__args__ for field in [Evaluate.model_fields["answers"]]]
    found = measure(names, ANSWERS, REFERENCES)
    assert list(found) == list(names)
    assert all(0.0 <= value <= 100.0 for value in found.values())


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact_match", "token_f1"])
def test_the_reference_itself_is_best(name: str) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    assert one(name, text, text) == pytest.approx(100.0 if name in ("bleu", "chrf") else 1.0)
    assert one(name, "nothing alike", text) < 0.2 * one(name, text, text)


def test_the_normal_form_is_that_of_squad() -> None:
    assert one("exact_match", "The Cat!", "a cat") == 1.0
    assert one("exact_match", "cats", "cat") == 0.0
    # "cat sat mat" and "cat mat mat": two words shared of three and three.
    assert one("token_f1", "the cat sat, mat", "cat mat mat") == pytest.approx(2 / 3)
    assert one("token_f1", "the", "a") == 1.0
    assert one("token_f1", "", "cat") == 0.0


def test_the_final_number_decides() -> None:
    assert one("final_number", "5 + 6 = 11\n#### 1,200", "so 1200.00") == 1.0
    assert one("final_number", "#### -3", "#### 3") == 0.0
    assert one("final_number", "none", "none") == 0.0


def test_corpus_scores_are_those_of_sacrebleu() -> None:
    from sacrebleu import corpus_bleu, corpus_chrf

    found = measure(["bleu", "chrf"], ANSWERS, REFERENCES)
    assert found["bleu"] == corpus_bleu(ANSWERS, [REFERENCES]).score
    assert found["chrf"] == corpus_chrf(ANSWERS, [REFERENCES]).score
