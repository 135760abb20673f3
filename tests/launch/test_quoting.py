import json
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.launch.quoting import Plain, Unquotable, as_block, as_option, for_shell, for_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    [
        "$(touch pwned)",
        "`id`",
        "a'b\"c\\d",
        "two\nlines\n",
        "; rm -rf .",
        "ä 日本 \U0001f600",
        "",
        "*",
        "~",
        "-n",
        "\u2028\x85",
    ]
)
CONTENT: Any = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none(),
    lambda held: st.lists(held, max_size=3) | st.dictionaries(TEXT, held, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8))
def test_words_reach_a_program_as_they_are(words: list[str]) -> None:
    script = f"printf '%s\\0' {for_shell(words)}"

    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True, cwd="/").stdout

    assert said.decode().split("\0")[:-1] == words


@settings(max_examples=200, deadline=None)
@given(CONTENT)
def test_yaml_is_read_back_as_it_was_and_in_one_line(content: Any) -> None:
    written = for_yaml(content)

    assert yaml.safe_load(written) == content
    assert "\n" not in written


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=60))
def test_a_block_of_yaml_is_read_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"data:\n  recipe: {as_block(text, 4)}\n") == {"data": {"recipe": text}}


def test_a_block_is_readable() -> None:
    assert as_block("model:\n  name: x\n\nlast\n", 4) == "|\n    model:\n      name: x\n\n    last"


@pytest.mark.parametrize(
    ("value", "option"),
    [
        ("plain", "plain"),
        ("a=b,c:d%j.log", "a=b,c:d%j.log"),
        ("two words", '"two words"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("# no comment", '"# no comment"'),
        ("$(id)", '"$(id)"'),
        (8, "8"),
    ],
)
def test_an_option_of_slurm_is_one_word(value: Any, option: str) -> None:
    """As Slurm 22.05 read them when they were tried with it: each of these was the job's name afterwards."""
    assert as_option(value) == option


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x85b", "a\u2028b", "a\0b", "\ud800"])
def test_an_option_that_ends_a_line_is_refused(value: str) -> None:
    with pytest.raises(Unquotable):
        as_option(value)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", None, True, {"a": 1}])
def test_what_is_no_word_is_refused(value: Any) -> None:
    with pytest.raises(Unquotable):
        for_shell(value)


def test_plain_text_stays() -> None:
    assert for_shell([Plain("$HOME"), "$HOME"]) == "$HOME '$HOME'"
    assert for_yaml({"a": Plain("b"), "c": json.loads("1.5")}) == '{"a": b, "c": 1.5}'
