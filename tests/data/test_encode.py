from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data import rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.config.recipe import Recipe
from trainer.data import templates, tokenizer
from trainer.data.conversations import Writer
from trainer.data.encode import Encoder
from trainer.data.formats import Example, Piece
from trainer.errors import Problem, RecipeError

SYSTEM = {"role": "system", "content": "S"}
TALK = [
    {"role": "user", "content": "Hé?"},
    {"role": "assistant", "content": "Oui 👍"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": " Yes."},
]
UNMARKED = templates.CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
OPENING_DEPENDS_ON_THE_END = (
    "{% for m in messages %}{{ m['role'] + (': ' if loop.last else '> ') + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# Unicode without half pairs; the names of special tokens are tokens wherever they stand.
WORDS = st.text(st.characters(codec="utf-8"), max_size=40).filter(lambda text: "<|" not in text)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("words")
    return tokenizer.load(rows.recipe(rows.write(folder / "a.jsonl", rows.completions(50))), folder)


def encoder(words: Any, format: str, template: str = "auto") -> Encoder:
    return Encoder(rows.recipe(Path("a.jsonl"), format=format, template=template), words)


def marks(pieces: Any) -> str:
    """The learned characters, the others as dots."""
    return "".join(piece.text if piece.learned else "." * len(piece.text) for piece in pieces)


def test_chatml_learns_each_answer_with_its_end(words: Any) -> None:
    [pieces] = Writer(templates.CHATML, words).write([TALK])
    ask, between = (
        "." * len("<|im_start|>user\nHé?<|im_end|>\n<|im_start|>assistant\n"),
        "." * len("<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"),
    )
    assert marks(pieces) == f"{ask}Oui 👍<|im_end|>\n{between} Yes.<|im_end|>\n"


def test_plain_learns_each_answer_with_the_end_of_text(words: Any) -> None:
    [pieces] = Writer(templates.PLAIN, words).write([TALK])
    ask, between = (
        "." * len("### User:\nHé?\n\n### Assistant:\n"),
        "." * len("\n\n### User:\nSure?\n\n### Assistant:\n"),
    )
    assert marks(pieces) == f"{ask}Oui 👍<|im_end|>{between} Yes.<|im_end|>"


def test_markers_of_a_template_decide_what_is_learned(words: Any) -> None:
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        "{% endgeneration %};{% else %}{{ m['content'] }};{% endif %}{% endfor %}"
    )
    [pieces] = Writer(template, words).write([TALK[:2]])
    assert marks(pieces) == "." * len("[user]Hé?;[assistant]") + "Oui 👍" + "."


@pytest.mark.parametrize(
    "talk",
    [
        TALK,
        TALK[:3],
        TALK[1:],
        TALK[1:2],
        [SYSTEM, *TALK],
        [SYSTEM, *TALK[1:]],
        [SYSTEM, TALK[1], TALK[1], TALK[0]],
        [TALK[0], {"role": "tool", "content": "7"}, TALK[1]],
        [SYSTEM, TALK[0], {"role": "assistant", "content": ""}],
    ],
)
def test_a_template_without_markers_learns_what_its_marked_twin_learns(words: Any, talk: Any) -> None:
    [plain], [marked] = Writer(UNMARKED, words).write([talk]), Writer(templates.CHATML, words).write([talk])
    assert marks(plain) == marks(marked)


def test_a_template_that_trims_answers_is_rendered_turn_by_turn(words: Any) -> None:
    template = UNMARKED.replace("message['content']", "message['content'] | trim")
    [pieces] = Writer(template, words).write([TALK])
    assert [piece.text for piece in pieces if piece.learned] == ["Oui 👍<|im_end|>\n", "Yes.<|im_end|>\n"]


def test_a_template_that_writes_earlier_turns_differently_is_refused(words: Any) -> None:
    [said] = Writer(OPENING_DEPENDS_ON_THE_END, words).write([TALK])
    assert isinstance(said, str) and "messages.1 differently when more follows" in said


@pytest.mark.parametrize("marked", [True, False])
def test_a_conversation_that_the_template_refuses_is_named_and_the_others_go_on(words: Any, marked: bool) -> None:
    body = templates.CHATML if marked else UNMARKED
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system please') }}{% endif %}" + body
    words_with_it = Encoder(rows.recipe(Path("a"), format="chat"), words)
    words_with_it.writer = Writer(template, words)
    bad, good = words_with_it.encode([Example("a", 1, messages=(SYSTEM, *TALK)), Example("a", 2, messages=tuple(TALK))])
    assert isinstance(bad, Problem) and bad.where == "a:1" and "no system please" in bad.message
    assert not isinstance(good, Problem)


def test_a_completion_ends_with_the_learned_end_of_text(words: Any) -> None:
    [row] = encoder(words, "completion").encode([Example("a", 1, pieces=(Piece("1 plus", False), Piece(" 2", True)))])
    assert not isinstance(row, Problem)
    assert words.decode(row.tokens[row.learned]) == " 2<|im_end|>"
    assert words.decode(row.tokens) == "1 plus 2<|im_end|>"


def test_an_answer_whose_first_token_begins_in_the_prompt_is_learned(words: Any) -> None:
    [row] = encoder(words, "completion").encode([Example("a", 1, pieces=(Piece("2 plus", False), Piece(" is", True)))])
    [shifted] = encoder(words, "completion").encode(
        [Example("a", 1, pieces=(Piece("2 plus ", False), Piece("is", True)))]
    )
    assert not isinstance(row, Problem) and not isinstance(shifted, Problem)
    assert np.array_equal(row.tokens, shifted.tokens) and np.array_equal(row.learned, shifted.learned)


def test_a_tokenizer_that_begins_with_a_token_keeps_it_and_it_is_not_the_answer(words: Any, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words.save_pretrained(tmp_path)
    begins = PreTrainedTokenizerFast.from_pretrained(tmp_path, bos_token="<|im_start|>")
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    [row] = encoder(begins, "completion").encode([Example("a", 1, pieces=(Piece("1", False), Piece("2", True)))])
    assert not isinstance(row, Problem)
    assert begins.decode(row.tokens) == "<|im_start|>12<|im_end|>"
    assert row.learned.tolist() == [False, False, True, True]
    assert templates.choose(rows.recipe(Path("a"), format="chat", template="plain"), begins).startswith(
        "{{ bos_token }}"
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=WORDS, answer=WORDS, template=st.sampled_from(["chatml", "plain"]))
def test_what_is_learned_of_a_conversation_is_what_the_row_says(
    words: Any, question: str, answer: str, template: str
) -> None:
    talk = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    [row] = encoder(words, "chat", template).encode([Example("a", 1, messages=talk)])
    assert not isinstance(row, Problem)
    end = "<|im_end|>\n" if template == "chatml" else "<|im_end|>"
    learned = words.decode(row.tokens[row.learned])
    # A token may hold the end of the line before the answer and its first characters.
    assert learned.removesuffix(end).lstrip("\n") == answer.lstrip("\n")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=WORDS)
def test_a_text_comes_back_from_its_tokens(words: Any, text: str) -> None:
    [row] = encoder(words, "text").encode([Example("a", 1, pieces=(Piece(text, True),))])
    assert not isinstance(row, Problem)
    assert words.decode(row.tokens) == f"{text}<|im_end|>" and row.learned.all()


def test_a_template_that_the_tokenizer_lacks_is_named(words: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "[U]": 1}, unk_token="[U]")))

    def refused(template: str, format: str = "chat") -> str:
        with pytest.raises(RecipeError) as raised:
            Encoder(rows.recipe(tmp_path, format=format, template=template), bare)
        return str(raised.value)

    assert "data.template: the tokenizer has no chat template of its own" in refused("tokenizer")
    assert "chatml needs the token <|im_start|>" in refused("chatml")
    assert "plain needs an end-of-text token" in refused("plain")
    assert "model.tokenizer: has no end-of-text token" in refused("auto", "text")


def test_a_length_that_the_tokenizer_file_brings_is_not_used(words: Any) -> None:
    words.backend_tokenizer.enable_truncation(3)
    words.backend_tokenizer.enable_padding(length=64)
    [row] = encoder(words, "text").encode([Example("a", 1, pieces=(Piece("x" * 20, True),))])
    assert not isinstance(row, Problem)
    assert words.decode(row.tokens) == "x" * 20 + "<|im_end|>"


def test_the_recipe_needs_no_template_for_texts(words: Any) -> None:
    recipe: Recipe = rows.recipe(Path("a"), format="text", template="tokenizer")
    assert Encoder(recipe, words).writer is None
