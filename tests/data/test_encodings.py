from pathlib import Path

import pytest

from trainer.config.data import Source
from trainer.data import encodings, sources
from trainer.data.row import BadRow, Row
from trainer.data.sources import read
from trainer.errors import Problem

FRENCH = "Où est le café ? L'été dernier, nous avons déjeuné près de l'église."
GERMAN = "Die Größe der Straße überrascht die Mädchen; schöne Grüße aus München."
RUSSIAN = "Быстрая коричневая лиса прыгает через ленивую собаку возле реки."
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
CHINESE = "我能吞下玻璃而不伤身体。今天天气很好。我们去公园散步吧。"
TURKISH = "Öğrenciler bugün şehre gidiyor ve Türkçe öğreniyor; İstanbul çok güzel."
POLISH = "Książka leży na stole obok łóżka; święta spędziliśmy w górach."
HUNGARIAN = "Köszönöm szépen a segítséget, az idő nagyon szép, menjünk sétálni."
HEBREW = "ירושלים היא בירת ישראל, מה שלומך היום?"
SHORT = "Où est-il ?"
QUOTES = "It\u2019s a \u201csimple\u201d test \u2013 nothing else."


def content(name: str, text: str) -> str:
    """Rows {text}, of which one is ASCII and three are not."""
    rows = ["plain", *(f"{text} {number}" for number in range(3))]
    if name == "a.jsonl":
        return "".join(f'{{"text": "{row}"}}\n' for row in rows)
    if name == "a.json":
        return "[" + ", ".join(f'{{"text": "{row}"}}' for row in rows) + "]"
    return "text\n" + "".join(f'"{row}"\n' for row in rows)


def write(path: Path, data: bytes, encoding: str | None = None) -> Source:
    path.write_bytes(data)
    return Source(path=str(path), format="text", encoding=encoding)


def texts(source: Source) -> list[str]:
    found = list(read(source))
    assert all(isinstance(row, Row) for row in found), found
    return [row.values["text"] for row in found if isinstance(row, Row)]


def expected(text: str) -> list[str]:
    return ["plain", *(f"{text} {number}" for number in range(3))]


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "FOUND", {})
    monkeypatch.setattr(sources, "FOUND", encodings.FOUND)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_read_with_and_without_a_mark_and_nothing_is_said(tmp_path: Path, name: str, encoding: str) -> None:
    assert texts(write(tmp_path / name, content(name, FRENCH).encode(encoding))) == expected(FRENCH)
    assert sources.notes() == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_known_by_their_first_bytes_and_said(tmp_path: Path, name: str, encoding: str) -> None:
    source = write(tmp_path / name, content(name, CHINESE).encode(encoding))
    assert texts(source) == expected(CHINESE)
    assert sources.notes() == [
        f"{source.path} is read as {encoding}; where that is wrong, say `encoding` beside the path."
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        (FRENCH, "latin-1", "cp1252"),
        (GERMAN, "cp1252", "cp1252"),
        (QUOTES, "cp1252", "cp1252"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8-r", "koi8-r"),
        (SHORT, "cp1252", "cp1252"),
        (TURKISH, "cp1254", "cp1254"),
        (TURKISH, "iso8859-9", "cp1254"),
        (POLISH, "cp1250", "cp1250"),
        (POLISH, "iso8859-2", "iso8859-2"),
        (HUNGARIAN, "iso8859-2", "cp1250"),
        (HEBREW, "cp1255", "cp1255"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (JAPANESE, "shift_jis", "cp932"),
        (CHINESE, "gb18030", "gb18030"),
    ],
)
def test_other_encodings_are_detected_and_said(tmp_path: Path, name: str, text: str, encoding: str, found: str) -> None:
    source = write(tmp_path / name, content(name, text).encode(encoding))
    assert texts(source) == expected(text)
    assert sources.notes() == [
        f"{source.path} is read as {found}; where that is wrong, say `encoding` beside the path."
    ]


def test_a_text_of_one_line_is_detected_too(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt", FRENCH.encode("cp1252"))) == [FRENCH]


def test_files_in_one_encoding_are_said_together(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.txt", GERMAN.encode("cp1252"))
    assert texts(Source(path=str(tmp_path), format="text")) == [GERMAN] * 3
    [said] = sources.notes()
    assert said.startswith(f"{tmp_path}/0.txt and 2 more files are read as cp1252")


@pytest.mark.parametrize("size", [encodings.BLOCK - 7, 2 * encodings.BLOCK + 3])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_what_comes_long_before_and_after_what_shows_the_encoding_is_read_alike(
    tmp_path: Path, name: str, size: int
) -> None:
    rows = ["x" * size, *[CHINESE] * 40_000, "x" * size]
    pieces = [f'{{"text": "{row}"}}' for row in rows]
    whole = "\n".join(pieces) if name == "a.jsonl" else "[" + ",".join(pieces) + "]"
    assert texts(write(tmp_path / name, whole.encode("gb18030"))) == rows


@pytest.mark.parametrize("encoding", ["cp1250", "utf-16-le", "utf-8", "UTF8", "shift_jis", "cp037"])
def test_a_stated_encoding_is_used_and_not_said(tmp_path: Path, encoding: str) -> None:
    text = JAPANESE if encoding == "shift_jis" else "zazolc" if encoding == "cp037" else "Zażółć gęślą jaźń"
    source = write(tmp_path / "a.jsonl", content("a.jsonl", text).encode(encoding), encoding)
    assert texts(source) == expected(text)
    assert sources.notes() == []


def test_a_mark_is_no_text_where_the_encoding_says_the_byte_order(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", content("a.csv", FRENCH).encode("utf-16"), "utf-16-le")
    assert texts(source) == expected(FRENCH)


BAD_LINE = "caf\u00e9".encode("latin-1")


@pytest.mark.parametrize("others", ["ascii", "d\u00e9j\u00e0"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_one_line_that_is_not_utf8_is_a_bad_row_and_the_next_is_read(tmp_path: Path, name: str, others: str) -> None:
    first, *rest = content(name, others).encode().splitlines(keepends=True)
    bad = b'{"text": "' + BAD_LINE + b'"}\n' if name == "a.jsonl" else BAD_LINE + b"\n"
    source = write(tmp_path / name, first + bad + b"".join(rest))
    found = list(read(source))
    [problem] = [item for item in found if isinstance(item, Problem)]
    assert isinstance(problem, BadRow) and problem.where == f"{source.path}:2"
    assert f"is not UTF-8 text (byte 0xe9 at column {14 if name == 'a.jsonl' else 4})" in problem.message
    assert "`encoding: cp1252`" in problem.message
    assert len(found) - 1 == len(rest) + (name == "a.jsonl")
    assert sources.notes() == []


def test_wrong_bytes_in_an_element_of_a_list_are_a_bad_row(tmp_path: Path) -> None:
    data = (
        b'[{"text": "'
        + "d\u00e9j\u00e0 vu, \u00e0 c\u00f4t\u00e9".encode()
        + b'"}, {"text": "'
        + BAD_LINE
        + b'"}, {"text": "x"}]'
    )
    found = list(read(write(tmp_path / "a.json", data)))
    assert [isinstance(item, Row) for item in found] == [True, False, True]
    problem = found[1]
    assert isinstance(problem, BadRow) and problem.line == 2 and "is not UTF-8 text" in problem.message


@pytest.mark.parametrize(("encoding", "byte"), [("cp1252", "81"), ("utf-16", "00"), ("ascii", "81")])
def test_bytes_that_a_stated_encoding_does_not_have_are_a_bad_row(tmp_path: Path, encoding: str, byte: str) -> None:
    bad = b"\x00\xdc" if encoding == "utf-16" else b"\x81"
    first, second, third = (part.encode(encoding) for part in ('{"text": "a"}\n{"text": "', '"}\n', '{"text": "b"}\n'))
    if encoding == "utf-16":
        second, third = second[2:], third[2:]
    one, problem, two = read(write(tmp_path / "a.jsonl", first + bad + second + third, encoding))
    assert isinstance(one, Row) and isinstance(two, Row) and isinstance(problem, BadRow)
    assert problem.line == 2
    assert f"is not {encoding} text (byte 0x{byte} at column 11)" in problem.message


def test_a_wrong_byte_in_a_text_of_many_lines_is_found(tmp_path: Path) -> None:
    [problem] = read(write(tmp_path / "a.txt", "one\nd\u00e9j\u00e0\n".encode() + b"caf\xe9 au lait\nlast\n"))
    assert isinstance(problem, BadRow) and problem.where == f"{tmp_path}/a.txt:1"
    assert "byte 0xe9 at line 3, column 4" in problem.message


def test_bytes_that_are_no_text_in_any_encoding_are_named(tmp_path: Path) -> None:
    noise = bytes(range(128, 256)) * 20
    found = list(read(write(tmp_path / "a.jsonl", b'{"text": "x"}\n' + noise + b"\n" + noise + b"\n")))
    assert isinstance(found[0], Row)
    assert [item.line for item in found[1:] if isinstance(item, BadRow)] == [2, 3]
