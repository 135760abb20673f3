import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data import rows
from rich.console import Console

from trainer.config.recipe import Recipe
from trainer.errors import DataError, RunError
from trainer.report import data_page, data_report, data_terminal
from trainer.report.data_facts import Bin, histogram
from trainer.report.data_rows import Decoder

# Digits are tokens of their own, and a row ends with one more: 5 + 4 + 1 tokens, of which 4 + 1 are learned.
ROWS = [{"prompt": f"{number:05d}", "completion": "1234", "label": "ab"[number % 2]} for number in range(20)]
LONG = {"prompt": "99999", "completion": "5" * 40, "label": "a"}
HELD = [{"prompt": f"7{number}", "completion": "8", "label": "a"} for number in range(4)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def good(folder: Path, content: list[dict[str, Any]], **data: Any) -> Recipe:
    """Training rows as they stand, 8 a step, and validation rows of their own."""
    train = rows.write(folder / "train.jsonl", content)
    held = rows.write(folder / "held.jsonl", HELD)
    settings = {"max_length": 16, "shuffle": False, "validation": [{"path": str(held), "format": "completion"}], **data}
    sections = rows.recipe(train, **settings).model_dump(mode="json", by_alias=True)
    return Recipe.model_validate(sections | {"batch": {"micro": 4, "global": 8}})


def test_the_counts_are_those_of_the_rows(tmp_path: Path) -> None:
    report = data_report.make(good(tmp_path, [*ROWS, LONG]), 0)

    train, held = report.splits["train"], report.splits["validation"]
    assert (train.rows, train.tokens, train.learned) == (21, 20 * 10 + 16, 20 * 5 + 11)
    assert train.learned_share == round(111 / 216, 4)
    assert (train.shortest, train.median, train.p95, train.longest) == (10, 10, 10, 46)
    assert (train.cut, train.cut_tokens) == (1, 30)
    assert (held.rows, held.tokens, held.learned, held.cut) == (4, 16, 8, 0)
    assert report.sources == {
        f"{tmp_path / 'train.jsonl'}": {"train": 21},
        f"{tmp_path / 'held.jsonl'}": {"validation": 4},
    }
    assert report.problems == ()


def test_sources_are_counted_by_name(tmp_path: Path) -> None:
    wanted = good(tmp_path, ROWS, validation={"fraction": 0.1})
    other = rows.write(tmp_path / "other.jsonl", HELD)
    train = [*wanted.data.train, wanted.data.train[0].model_copy(update={"path": str(other)})]
    twice = wanted.model_copy(update={"data": wanted.data.model_copy(update={"train": (*train, train[1])})})

    sources = data_report.make(twice, 0).sources

    assert sum(sources[str(tmp_path / "train.jsonl")].values()) == 20
    assert sum(sources[str(other)].values()) == 8
    assert sum(by_split["validation"] for by_split in sources.values() if "validation" in by_split) == 3


def test_padding_is_that_of_the_steps(tmp_path: Path) -> None:
    # Steps of 8, 8 and 5 rows; the last one as 10 10 10 | 10 16 computes 30 + 32 positions for 56 tokens.
    # Packed rows have room for 4 x 16: two a step of 80 tokens, one for the last.
    batches = data_report.make(good(tmp_path, [*ROWS, LONG]), 0).batches

    assert (batches.steps, batches.packing, batches.waste_packed) == (3, True, 0.0)
    assert batches.waste_padded == round(6 / 222, 4)
    assert batches.packing_efficiency == round(216 / 320, 4)


def test_labels_are_counted_by_split(tmp_path: Path) -> None:
    wanted = good(tmp_path, ROWS, validation={"fraction": 0.2, "stratify": "label"})

    [labels] = data_report.make(wanted, 0).labels

    assert labels.column == "label"
    assert labels.labels == {'"a"': {"train": 8, "validation": 2}, '"b"': {"train": 8, "validation": 2}}


def test_duplicates_and_leaks_are_counted(tmp_path: Path) -> None:
    leaked = {"prompt": "7" * 30, "completion": "8"}
    held = rows.write(tmp_path / "other.jsonl", [leaked])
    validation = [{"path": str(held), "format": "completion"}]

    report = data_report.make(
        good(tmp_path, [*ROWS, ROWS[3], ROWS[3], leaked], max_length=64, validation=validation), 0
    )

    assert report.duplicates.exact == 2
    assert report.leaks == {"validation": {"same": 1}}


def test_rows_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    content = [*ROWS, LONG, ROWS[0], {"prompt": "1", "completion": "2" * 50}]

    report = data_report.make(good(tmp_path, content, too_long="drop", clean={"duplicates": "exact"}), 0)

    assert report.left_out == {"too long": 2, "duplicate": 1}
    assert report.duplicates.exact == 0


def test_a_wrong_row_that_may_be_left_out_is_counted(tmp_path: Path) -> None:
    report = data_report.make(good(tmp_path, [*ROWS, {"prompt": "x"}], max_bad_rows=1), 0)

    assert report.left_out == {"wrong": 1}


def test_an_encoding_is_told_also_from_the_cache(tmp_path: Path) -> None:
    wanted = good(tmp_path, ROWS)
    text = "\n".join(
        json.dumps({"prompt": "Où est le café ?", "completion": "à côté"}, ensure_ascii=False) for _ in ROWS
    )
    (tmp_path / "train.jsonl").write_bytes(text.encode("cp1252"))

    first, second = (data_report.make(wanted, 0) for _ in range(2))

    assert any("read as" in note for note in first.notes)
    assert second.notes == first.notes


def test_a_row_is_shown_with_what_is_learned(tmp_path: Path) -> None:
    [row] = data_report.make(good(tmp_path, ROWS), 1).rows

    assert row.where == f"{tmp_path / 'train.jsonl'}:1"
    assert "".join(piece.text for piece in row.pieces) == "000001234<|im_end|>"
    assert "".join(piece.text for piece in row.pieces if piece.learned) == "1234<|im_end|>"
    assert [piece.text for piece in row.pieces if piece.special] == ["<|im_end|>"]
    assert (row.split, row.tokens, row.learned, len(row.pieces)) == ("train", 10, 5, 10)


def test_the_rows_shown_stand_all_over_the_split(tmp_path: Path) -> None:
    shown = data_report.make(good(tmp_path, ROWS), 3).rows

    assert [row.where.rpartition(":")[2] for row in shown] == ["1", "10", "20"]


def test_a_character_of_several_tokens_is_one_piece(tmp_path: Path) -> None:
    wanted = good(tmp_path, ROWS)
    tokenizer = rows.tokenizer.load(wanted, tmp_path)
    text = "né 日本 🙂!"
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]

    whole = list(Decoder(tokenizer).pieces(tokens, [True] * len(tokens)))
    halved = list(Decoder(tokenizer).pieces(tokens, [place > 1 for place in range(len(tokens))]))

    assert [piece.text for piece in whole] == list(text)
    assert [piece.learned for piece in halved].index(True) == 2


@pytest.mark.parametrize(
    ("lengths", "bins"),
    [
        ([1, 1, 2], [Bin(0, 0, 0, 0), Bin(1, 1, 2, 0), Bin(2, 2, 1, 0)]),
        ([15], [*(Bin(at, at, 0, 0) for at in range(15)), Bin(15, 15, 1, 1)]),
    ],
)
def test_the_histogram_counts_each_row_once(lengths: list[int], bins: list[Bin]) -> None:
    assert histogram(np.array(lengths), 10) == tuple(bins)


def test_the_last_bin_holds_what_is_much_longer() -> None:
    bins = histogram(np.array([*range(1, 1001), 50_000]), 900)

    assert (sum(one.rows for one in bins), sum(one.over for one in bins)) == (1001, 101)
    assert bins[0] == Bin(0, 49, 49, 0) and bins[-1] == Bin(1000, 50_000, 2, 2)


def test_a_stream_is_told_of_by_its_first_rows(tmp_path: Path) -> None:
    report = data_report.make(good(tmp_path, ROWS, streaming=True), 1)

    assert report.streaming and report.splits["train"].rows == 20
    assert report.splits["validation"].rows == 4


def test_what_is_learned_is_green_on_a_terminal_and_control_characters_do_nothing(tmp_path: Path) -> None:
    report = data_report.make(good(tmp_path, [{"prompt": "\x1b[2J1", "completion": "2"}] * 4), 1)
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", no_color=False)

    data_terminal.show(report, console)

    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[32m2\x1b[0m\x1b[2;32m<|im_end|>\x1b[0m" in said
    assert "\N{REPLACEMENT CHARACTER}[2J1" in said and "\x1b[2J" not in said and "«" not in said


def test_the_page_is_one_file_that_holds_the_rows(tmp_path: Path) -> None:
    content = [{**row, "prompt": f"<script>{row['prompt']}"} for row in ROWS]
    report = data_report.make(good(tmp_path, content, max_length=64), 2)

    data_page.write(report, tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert page.count('class="learned special">&lt;|im_end|&gt;</span>') == 2
    assert page.count('class="bar"') == len(report.lengths)
    assert not any(word in page for word in ("http:", "https:", "<script", "<link", "src=", "url("))


def no_end(folder: Path) -> Recipe:
    """Conversations of a tokenizer whose template ends no turn."""
    wanted = good(folder, ROWS)
    tokenizer = rows.tokenizer.load(wanted, folder)
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] }}{% endgeneration %}"
        "{% else %}{{ message['content'] }}{% endif %}\n{% endfor %}"
    )
    tokenizer.save_pretrained(folder / "words")
    turns = [{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}] * 4
    train = {"path": str(rows.write(folder / "chat.jsonl", turns)), "format": "chat"}
    content = wanted.model_dump(mode="json", by_alias=True)
    content["model"]["tokenizer"] = str(folder / "words")
    content["data"] |= {"train": [train], "validation": None}
    return Recipe.model_validate(content)


def test_a_page_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    report = data_report.make(good(tmp_path, ROWS), 0)

    with pytest.raises(RunError, match=r"nowhere/page\.html: cannot be written: No such file"):
        data_page.write(report, tmp_path / "nowhere" / "page.html")


def test_training_finds_the_tokens_that_the_report_has_made(tmp_path: Path) -> None:
    wanted, cache = good(tmp_path, ROWS, cache=True), tmp_path / "cache" / "shardtune" / "data"
    data_report.make(wanted, 0)
    made = {path: path.stat().st_ino for path in cache.iterdir()}

    rows.prepare(wanted, tmp_path / "run")

    assert len(made) == 2
    assert {path: path.stat().st_ino for path in cache.iterdir()} == made


def test_rows_with_nothing_to_learn_are_refused(tmp_path: Path) -> None:
    empty = rows.write(tmp_path / "empty.jsonl", [{"text": ""}] * 3)

    with pytest.raises(DataError, match="none of its 3 rows holds anything to learn"):
        data_report.make(rows.recipe(empty, format="text"), 0)


def test_turns_that_never_end_are_refused(tmp_path: Path) -> None:
    report = data_report.make(no_end(tmp_path), 1)

    assert report.ends == 0.0
    [problem] = report.problems
    assert problem.where == "data.template" and "no row teaches the model to end its turn" in problem.message


def test_one_label_alone_is_refused(tmp_path: Path) -> None:
    content = [{**row, "label": "a"} for row in ROWS]

    report = data_report.make(good(tmp_path, content, validation={"fraction": 0.2, "stratify": "label"}), 0)

    [problem] = report.problems
    assert problem.where == "data.train" and 'one label in all training rows, "a"' in problem.message


def test_rows_that_are_all_cut_are_refused(tmp_path: Path) -> None:
    report = data_report.make(good(tmp_path, ROWS, max_length=8), 0)

    assert report.ends is None
    [problem] = report.problems
    assert problem.where == "data.max_length" and "set it to 10 or more" in problem.message
