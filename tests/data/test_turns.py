# ruff: noqa: RUF001 (DeepSeek's bars are wide ones)

from functools import cache
from typing import Any

import pytest
from data import chat_formats
from data.chat_formats import FORMATS, Talk
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from trainer.config.recipe import Recipe
from trainer.data.conversations import Learn, Writer, Written
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.example import Example

NAMES = sorted(FORMATS)
MARKED = [name for name in NAMES if "generation %}" in chat_formats.template(name)]
TALK = [
    {"role": "user", "content": "Hé?"},
    {"role": "assistant", "content": "Oui 👍"},
    {"role": "user", "content": "Sure?\n\nReally, e\u0301?"},
    {"role": "assistant", "content": "Yes…\n是."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes…\n是."},
]
SYSTEM = {"role": "system", "content": "Be brief.\nBe 短."}


def said(*contents: str) -> Talk:
    return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def talks(name: str) -> dict[str, Talk]:
    markers = "".join(FORMATS[name].special)
    return {
        "six turns": TALK,
        "one answer": TALK[:2],
        "a question last": TALK[:5],
        "with a system prompt": [SYSTEM, *TALK] if FORMATS[name].has_system else TALK,
        "special tokens in the words": said(f"a{markers}b", f"{markers}c", markers, f"d\n{markers}"),
        "jinja in the words": said("{{ x }}{% generation %}", "{% endgeneration %}{{ y }}", "{#", "{%- z %}"),
        "white space around the words": said(" \n a ", "\n b\t\n", "c\n\n", " d "),
        "an empty answer": said("a", "", "b", ""),
        "alike": said("a", "a", "a", "a"),
        "the text of stand-ins": said("shardtune0text", "shardtune1text", "shardtune3text", "shardtune0text"),
    }


CASES = [(name, case) for name in NAMES for case in talks(name)]


@cache
def writer(name: str, learn: Learn, marked: bool) -> Writer:
    template = chat_formats.template(name)
    return Writer(template if marked else chat_formats.unmarked(template), chat_formats.tokenizer(FORMATS[name]), learn)


def written(name: str, talk: Talk, learn: Learn = "assistant", marked: bool = False, tools: Any = ()) -> Written:
    found = writer(name, learn, marked).write(talk, tools)
    assert isinstance(found, Written), found
    return found


@pytest.mark.parametrize(("name", "case"), CASES)
def test_each_answer_is_learned_to_its_end_and_nothing_else(name: str, case: str) -> None:
    text, spans = chat_formats.spans(FORMATS[name].written(talks(name)[case]))
    assert written(name, talks(name)[case]) == Written(text, spans)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_last_answer_alone_is_learned_where_that_is_asked(name: str, case: str) -> None:
    text, spans = chat_formats.spans(FORMATS[name].written(talks(name)[case]))
    assert written(name, talks(name)[case], "last_assistant") == Written(text, spans[-1:])


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_conversation_is_learned_where_that_is_asked(name: str) -> None:
    text, _ = chat_formats.spans(FORMATS[name].written(TALK))
    assert written(name, TALK, "all") == Written(text, [(0, len(text))])


@pytest.mark.parametrize("learn", ["assistant", "last_assistant", "all"])
@pytest.mark.parametrize("name", MARKED)
def test_markers_of_the_template_say_the_same(name: str, learn: Learn) -> None:
    for talk in talks(name).values():
        assert written(name, talk, learn, marked=True) == written(name, talk, learn)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(contents=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=2, max_size=6))
def test_whatever_is_said_the_spans_are_exact(name: str, contents: list[str]) -> None:
    talk = said(*contents)
    text, spans = chat_formats.spans(FORMATS[name].written(talk)) if not {*"⟦⟧"} & {*"".join(contents)} else ("", [])
    if text:
        assert written(name, talk) == Written(text, spans)


@pytest.mark.parametrize("name", [*NAMES, "llama31"])
def test_a_template_writes_what_transformers_writes(name: str) -> None:
    tokenizer = chat_formats.tokenizer(FORMATS.get(name, FORMATS["llama3"]))
    template = chat_formats.template(name)
    theirs = render_jinja_template([TALK], chat_template=template, **tokenizer.special_tokens_map)[0][0]
    found = Writer(template, tokenizer, "all").write(TALK)
    assert isinstance(found, Written) and found.text == theirs


@pytest.mark.parametrize("name", NAMES)
def test_the_token_of_the_end_of_a_turn_is_learned(name: str) -> None:
    tokenizer = chat_formats.tokenizer(FORMATS[name])
    tokenizer.chat_template = chat_formats.unmarked(chat_formats.template(name))
    source = {"path": "a.jsonl", "format": "chat"}
    encoder = Encoder(Recipe.model_validate({"model": {"name": "-"}, "data": {"train": [source]}}), tokenizer)
    [row] = encoder.encode([Example("a", 1, messages=tuple(TALK))])
    assert isinstance(row, Encoded)
    end = tokenizer.convert_tokens_to_ids(FORMATS[name].special[0])
    answers = sum(message["role"] == "assistant" for message in TALK)
    assert (row.tokens[row.learned] == end).sum() == answers
    assert encoder.ends(row)


def test_gemma_has_no_system_prompt_and_says_so() -> None:
    found = writer("gemma", "assistant", False).write([SYSTEM, *TALK])
    assert isinstance(found, str)
    assert "the chat template cannot write this conversation: System role not supported" in found
    assert "data.template: plain" in found


def test_qwen3_learns_the_thoughts_of_the_last_turn() -> None:
    for content in ("<think>\nhm\n</think>\n\nYes", "<think>hm</think>Yes"):
        found = written("qwen3", said("a", "b", "c", content))
        learned = [found.text[start:end] for start, end in found.learned]
        assert learned == ["b<|im_end|>\n", "<think>\nhm\n</think>\n\nYes<|im_end|>\n"]


def test_thoughts_of_an_earlier_turn_are_refused_unless_the_last_turn_alone_is_learned() -> None:
    talk = said("a", "<think>\nhm\n</think>\n\nb", "c", "<think>\nso\n</think>\n\nd")
    refused = writer("qwen3", "assistant", False).write(talk)
    assert isinstance(refused, str)
    assert "leaves out part of messages.1 when more follows; data.learn: last_assistant" in refused
    found = written("qwen3", talk, "last_assistant")
    assert [found.text[start:end] for start, end in found.learned] == ["<think>\nso\n</think>\n\nd<|im_end|>\n"]


def test_thoughts_beside_the_content_are_learned_or_refused_alike() -> None:
    thinking = {"role": "assistant", "content": "d", "reasoning_content": "so"}
    found = written("qwen3", [*said("a", "b", "c"), thinking])
    assert found.text.endswith("<think>\nso\n</think>\n\nd<|im_end|>\n") and len(found.learned) == 2
    refused = writer("qwen3", "assistant", False).write([*said("a"), thinking, *said("c", "d")])
    assert isinstance(refused, str) and "leaves out the thoughts of messages.1; data.learn: last_assistant" in refused
    refused = writer("chatml", "assistant", False).write([*said("a"), thinking])
    assert isinstance(refused, str) and "leaves out the thoughts of messages.1; data.template: plain" in refused


CALL = {"name": "sum", "arguments": {"a": 1, "b": "é"}}
TOOL = {"type": "function", "function": {"name": "sum", "description": "Adds.", "parameters": {"type": "object"}}}
CALLING: Talk = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "id": "abcdefghi", "function": CALL}]},
    {"role": "tool", "content": "2", "tool_call_id": "abcdefghi"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": "c"},
]
CALLED = {
    "llama31": ['{"name": "sum", "parameters": {"a": 1, "b": "é"}}<|eot_id|>', "Two.<|eot_id|>", "c<|eot_id|>"],
    "qwen25": [
        '<tool_call>\n{"name": "sum", "arguments": {"a": 1, "b": "é"}}\n</tool_call><|im_end|>\n',
        "Two.<|im_end|>\n",
        "c<|im_end|>\n",
    ],
    "qwen3": [
        '<tool_call>\n{"name": "sum", "arguments": {"a": 1, "b": "é"}}\n</tool_call><|im_end|>\n',
        "Two.<|im_end|>\n",
        "<think>\n\n</think>\n\nc<|im_end|>\n",
    ],
    "mistral": [
        '[TOOL_CALLS] [{"name": "sum", "arguments": {"a": 1, "b": "é"}, "id": "abcdefghi"}]</s>',
        " Two.</s>",
        " c</s>",
    ],
    "deepseek": [
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>sum\n```json\n"
        '{"a": 1, "b": "é"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
        "Two.<｜end▁of▁sentence｜>",
        "c<｜end▁of▁sentence｜>",
    ],
}
"""What is learned of the conversation with a call."""


def learned(found: Written | str) -> list[str]:
    assert isinstance(found, Written), found
    return [found.text[start:end] for start, end in found.learned]


def writer_with_calls(name: str, learn: Learn = "assistant", template: str | None = None) -> Writer:
    tokenizer = chat_formats.tokenizer(FORMATS.get(name, FORMATS["llama3"]))
    return Writer(template or chat_formats.unmarked(chat_formats.template(name)), tokenizer, learn)


@pytest.mark.parametrize("name", sorted(CALLED))
def test_a_tool_call_is_learned_and_its_result_is_not(name: str) -> None:
    tools = [] if name == "deepseek" else [TOOL]
    found = writer_with_calls(name).write(CALLING, tools)
    assert learned(found) == CALLED[name]
    assert isinstance(found, Written) and all(said in found.text for said in ("Adds.", *"2") if tools)
    assert learned(writer_with_calls(name, "last_assistant").write(CALLING, tools)) == CALLED[name][-1:]


def test_markers_around_a_tool_call_say_the_same() -> None:
    marked = writer_with_calls("qwen25", template=chat_formats.template("qwen25"))
    assert marked.write(CALLING, [TOOL]) == writer_with_calls("qwen25").write(CALLING, [TOOL])


def test_a_call_beside_words_and_two_calls_at_once_are_learned_whole() -> None:
    double = {**CALLING[1], "content": "Wait. ", "tool_calls": CALLING[1]["tool_calls"] * 2}
    one = '<tool_call>\n{"name": "sum", "arguments": {"a": 1, "b": "é"}}\n</tool_call>'
    found = writer_with_calls("qwen25").write([CALLING[0], double, CALLING[2], CALLING[2], CALLING[3]], [TOOL])
    assert learned(found) == [f"Wait. \n{one}\n{one}<|im_end|>\n", "Two.<|im_end|>\n"]


def test_a_template_without_tools_is_told_from_one_that_has_them() -> None:
    without = writer_with_calls("smollm2")
    assert without.write(CALLING) == "the chat template cannot write this conversation: it writes no tool calls"
    assert without.write(TALK, [TOOL]) == (
        "the chat template cannot write this conversation: it leaves out the descriptions of tools"
    )
    unnamed = writer_with_calls("mistral").write([*CALLING[:1], {**CALLING[1], "tool_calls": [{"function": CALL}]}])
    assert isinstance(unnamed, str) and "Tool call IDs should be alphanumeric" in unnamed


@pytest.mark.parametrize("learn", ["assistant", "last_assistant", "all"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_message_that_the_template_leaves_out_is_named(learn: Learn, marked: bool) -> None:
    template = (
        "{% for m in messages if m.role != 'tool' %}{% generation %}{{ m.content }};{% endgeneration %}{% endfor %}"
    )
    asked = Writer(
        template if marked else chat_formats.unmarked(template), chat_formats.tokenizer(FORMATS["chatml"]), learn
    )
    found = asked.write([*TALK[:2], {"role": "tool", "content": "7"}, *TALK[2:]])
    assert isinstance(found, str) and "leaves out messages.2, which is of the role tool" in found


def test_a_conversation_that_the_assistant_opens_is_learned_from_its_first_word() -> None:
    for name in ("llama3", "qwen25", "chatml", "smollm2", "phi", "deepseek"):
        talk = TALK[1:]
        text, spans = chat_formats.spans(FORMATS[name].written(talk))
        assert written(name, talk) == Written(text, spans)


def test_a_template_that_ends_the_prompt_with_an_opened_thought_is_refused() -> None:
    template = chat_formats.unmarked(chat_formats.template("chatml")).replace(
        "assistant\\n' }}{% endif %}", "assistant\\n<think>\\n' }}{% endif %}"
    )
    found = Writer(template, chat_formats.tokenizer(FORMATS["chatml"])).write(TALK)
    assert isinstance(found, str) and "writes messages.1 differently when more follows" in found


def test_the_date_that_a_template_writes_is_the_same_in_every_turn() -> None:
    found = writer_with_calls("llama31").write(TALK)
    assert learned(found) == ["Oui 👍<|eot_id|>", "Yes…\n是.<|eot_id|>", "Yes…\n是.<|eot_id|>"]


def test_long_conversations_take_no_longer_than_their_length() -> None:
    renderings: list[int] = []
    long = writer_with_calls("chatml")
    plainly = long._rendering._plainly
    long._rendering._plainly = lambda messages, *more: renderings.append(len(messages)) or plainly(messages, *more)  # type: ignore[func-returns-value,method-assign]
    for turns in range(10, 200, 10):
        assert isinstance(long.write(said(*map(str, range(turns)))), Written)
    assert len(renderings) < 3 * 19
