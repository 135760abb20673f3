import pytest

from trainer.data.findings import Findings
from trainer.data.row import BadRow
from trainer.errors import DataError, Problem


def bad(line: int, message: str = "is wrong") -> BadRow:
    return BadRow.at("a.jsonl", line, message)


def told(findings: Findings) -> list[str]:
    with pytest.raises(DataError) as raised:
        findings.raise_if_any()
    return [str(problem) for problem in raised.value.problems]


def test_no_bad_row_is_left_out_unless_the_recipe_allows_it() -> None:
    findings = Findings()
    findings.raise_if_any()
    findings.add("a.jsonl", bad(3))
    assert findings
    assert told(findings) == ["a.jsonl:3: is wrong"]


def test_as_many_bad_rows_as_the_recipe_allows_are_left_out_and_one_more_refuses_the_run() -> None:
    findings = Findings(max_bad_rows=2)
    findings.add("a.jsonl", bad(3))
    findings.add("b.jsonl", BadRow.at("b.jsonl", 7, "is wrong, too"))
    findings.raise_if_any()
    assert not findings and not findings.enough("a.jsonl", 5000)
    assert [(row.source, row.line, row.message) for row in findings.left_out] == [
        ("a.jsonl", 3, "is wrong"),
        ("b.jsonl", 7, "is wrong, too"),
    ]
    findings.add("a.jsonl", bad(9, "is worse"))
    assert told(findings) == [
        "a.jsonl:3: is wrong",
        "b.jsonl:7: is wrong, too",
        "a.jsonl:9: is worse",
        "data.max_bad_rows: more than 2 rows are wrong",
    ]


def test_a_file_that_cannot_be_read_refuses_the_run_however_many_bad_rows_it_allows() -> None:
    findings = Findings(max_bad_rows=1000)
    findings.add("a.jsonl", bad(3))
    findings.add("b.csv", Problem("b.csv:4", "is not CSV"))
    assert told(findings) == ["a.jsonl:3: is wrong", "b.csv:4: is not CSV"]


def test_a_thousand_rows_of_a_source_with_problems_are_looked_at_once_the_run_is_refused() -> None:
    findings = Findings()
    assert not findings.enough("a.jsonl", 1000)
    findings.add("a.jsonl", bad(1))
    assert not findings.enough("a.jsonl", 999)
    assert findings.enough("a.jsonl", 1000)
    assert not findings.enough("b.jsonl", 1000)


def test_equal_problems_of_a_source_are_told_once_and_twenty_different_ones_at_most() -> None:
    findings = Findings()
    for line in range(1, 8):
        findings.add("a.jsonl", bad(line))
    for line in range(100, 130):
        findings.add("a.jsonl", bad(line, f"is wrong in way {line}"))
    first, *others, last = told(findings)
    assert first == "a.jsonl:1: is wrong (and 6 more rows like it)"
    assert len(others) == 19
    assert last == "data: 11 more problems like these; mend the first 20 and look again"
