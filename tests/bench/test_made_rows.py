import json
from collections import Counter
from pathlib import Path

from trainer.bench import made_rows
from trainer.bench.suite import MadeRows

MADE = MadeRows(count=30, words=20, vocabulary=50)


def _words(made: MadeRows, seed: int = 0) -> list[list[str]]:
    return [json.loads(line)["text"].split() for line in made_rows.lines(made, seed)]


def test_number_length_and_vocabulary_are_what_was_asked_for() -> None:
    rows = _words(MADE)

    assert [len(row) for row in rows] == [20] * 30
    counts = Counter(word for row in rows for word in row)
    assert len(counts) == 50
    assert set(counts.values()) == {12}


def test_the_seed_decides_the_order() -> None:
    assert _words(MADE) == _words(MADE)
    assert _words(MADE) != _words(MADE, seed=1)


def test_a_row_may_be_a_question_and_its_answer() -> None:
    asked = MADE.model_copy(update={"asked": 8})
    rows = [json.loads(line)["messages"] for line in made_rows.lines(asked, 0)]

    assert [[turn["role"] for turn in row] for row in rows] == [["user", "assistant"]] * 30
    joined = [[word for turn in row for word in turn["content"].split()] for row in rows]
    assert joined == _words(MADE)
    assert {len(row[0]["content"].split()) for row in rows} == {8}
    assert (asked.format, MADE.format) == ("chat", "text")


def test_every_number_has_a_word_of_its_own() -> None:
    assert len({made_rows.word(number) for number in range(20_000)}) == 20_000


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = made_rows.write(MADE, 0, tmp_path)
    path.write_text("kept")

    assert made_rows.write(MADE, 0, tmp_path).read_text() == "kept"
    assert made_rows.write(MADE, 1, tmp_path) != path
