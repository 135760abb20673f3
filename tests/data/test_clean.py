import unicodedata
from typing import Any

import a_recipe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.data import Clean
from trainer.data.clean import Cleaner, letters_by_script, text_of_html
from trainer.data.example import Example, Piece
from trainer.errors import RecipeError

MENDS = st.fixed_dictionaries(
    {
        "unicode": st.sampled_from(["none", "NFC", "NFKC"]),
        "control_characters": st.booleans(),
        "white_space": st.booleans(),
    }
)
TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \t\n\r\x00\x85\u00a0\u00b4e\u0301ﬁ<>&;")))


def text(words: str) -> Example:
    return Example("a.jsonl", 1, pieces=(Piece(words, True),))


def chat(*turns: str) -> Example:
    roles = ("user", "assistant") * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return Example("a.jsonl", 1, messages=tuple(messages))


def cleaned(example: Example, **settings: Any) -> Example:
    kept = Cleaner(Clean(**settings))(example)
    assert isinstance(kept, Example)
    return kept


def refusal(example: Example, **settings: Any) -> str:
    why = Cleaner(Clean(**settings))(example)
    assert isinstance(why, str)
    return why


@given(TEXTS, MENDS)
def test_mending_twice_is_mending_once(words: str, settings: dict[str, Any]) -> None:
    once = cleaned(text(words), **settings)
    assert cleaned(once, **settings) == once


@given(TEXTS)
def test_what_is_off_touches_nothing(words: str) -> None:
    example = chat(words, words)
    assert cleaned(example) is example
    assert cleaned(example, max_characters=10**6, scripts=()) is example


@given(TEXTS, MENDS)
def test_mended_text_is_what_was_asked_for(words: str, settings: dict[str, Any]) -> None:
    [said] = cleaned(text(words), **settings).texts()
    if settings["unicode"] != "none":
        assert unicodedata.is_normalized(settings["unicode"], said)
    if settings["control_characters"]:
        assert all(letter in "\t\n" or unicodedata.category(letter) != "Cc" for letter in said)
    if settings["white_space"]:
        assert said == said.strip() and "  " not in said and "\n\n\n" not in said


@given(st.text(st.characters(codec="utf-8", exclude_characters="<&")))
def test_text_without_markup_is_its_own_text(words: str) -> None:
    assert cleaned(text(words), markup=True) == text(words)


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<p>Hello <b>you</b></p><p>there</p>", "Hello you\nthere\n"),
        ("one<br>two<BR />three", "one\ntwo\nthree"),
        ("<ul><li>one</li><li>two</li></ul>", "one\ntwo\n"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 2 \n"),
        ('<a href="x?a=1&amp;b=2">link</a> &lt;here&gt; &#233;', "link <here> é"),
        ("<!DOCTYPE html><html><head><title>t</title></head><body>b", "t\nb"),
        ("a<script>if (1<2) x()</script>b<style>p{}</style>c<!-- d -->e", "abce"),
    ],
)
def test_html_becomes_its_text(html: str, shown: str) -> None:
    assert text_of_html(html) == shown


@pytest.mark.parametrize(
    "words",
    [
        "1 < 2 and 3 > 2",
        "if a<b then c>d",
        "List<String> and <Vector>",
        "<think>so</think>",
        "<|im_start|>user",
        "x & y, AT&T",
        "<b",
        "write <!-- to open",
        "a <script> tag opens, and the rest is text",
        "<?php ?> <![CDATA[x]]> </ >",
    ],
)
def test_what_is_no_html_stays(words: str) -> None:
    assert text_of_html(words) == words


def test_runs_of_spaces_and_empty_lines_shrink_and_tabs_stay() -> None:
    assert cleaned(text(" a   b\u00a0 c\td \n \n\r\n\n e\nf "), white_space=True) == text("a b c\td \n\n e\nf")


def test_the_white_space_between_a_prompt_and_its_completion_stays() -> None:
    example = Example("a.jsonl", 1, pieces=(Piece("  2  plus 2 is\n", False), Piece(" 4.  ", True)))
    assert [piece.text for piece in cleaned(example, white_space=True).pieces] == ["2 plus 2 is\n", " 4."]


def test_control_characters_go_and_line_ends_become_one_kind() -> None:
    assert cleaned(text("a\x00b\x1b[1m\r\nc\rd\te\x85f"), control_characters=True) == text("ab[1m\nc\nd\te\nf")


def test_every_text_of_a_conversation_is_mended_and_no_role() -> None:
    mended = cleaned(chat("ﬁne  ", "<b>I</b> am"), unicode="NFKC", white_space=True, markup=True)
    assert mended == chat("fine", "I am")


def test_rows_that_say_too_little_or_too_much_are_left_out_with_the_reason() -> None:
    assert refusal(chat("hi", "yo"), min_characters=5) == "says 4 characters, fewer than data.clean.min_characters: 5"
    assert refusal(text("x" * 2000), max_characters=10) == (
        "says 2,000 characters, more than data.clean.max_characters: 10"
    )
    assert cleaned(text("x" * 10), min_characters=10, max_characters=10)


def test_length_is_that_of_the_mended_text() -> None:
    assert "says 1 characters" in refusal(text("  <b>a</b>  "), min_characters=2, markup=True, white_space=True)


def test_rows_in_other_scripts_are_left_out_with_the_shares() -> None:
    said = refusal(text("Это русский text"), scripts=("Latin", "Greek"))
    assert said == "71% of its letters are Cyrillic, and 29% of data.clean.scripts: Latin, Greek"
    assert "of no script that is known here" in refusal(text("ꦲꦏ"), scripts=("Latin",))
    assert cleaned(text("日本語とカタカナ"), scripts=("Han", "Hiragana", "Katakana"))
    assert cleaned(text("Это text"), scripts=("Latin",)) == text("Это text")


def test_a_row_without_letters_has_no_script() -> None:
    assert cleaned(text("1 + 1 = 2 🙂"), scripts=("Thai",))


@pytest.mark.parametrize(
    ("words", "script"),
    [
        ("hello", "Latin"),
        ("\uff46\uff55\uff4c\uff4c", "Latin"),
        ("γειά", "Greek"),
        ("привет", "Cyrillic"),
        ("你好", "Han"),
        ("ひらがな", "Hiragana"),
        ("カタカナー", "Katakana"),
        ("ﾊﾝ", "Katakana"),
        ("안녕", "Hangul"),
        ("مرحبا", "Arabic"),
        ("שלום", "Hebrew"),
        ("नमस्ते", "Devanagari"),
        ("สวัสดี", "Thai"),
        ("გამარჯობა", "Georgian"),
        ("வணக்கம்", "Tamil"),
    ],
)
def test_letters_are_told_by_their_script(words: str, script: str) -> None:
    assert set(letters_by_script(words)) == {script}


def test_an_unknown_script_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"data\.clean\.scripts\.0: 'Latn' is not one of .*did you mean Latin\?"):
        a_recipe.recipe(data={"clean": {"scripts": ["Latn"]}})
