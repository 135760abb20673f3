from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data import rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.config.recipe import Recipe
from trainer.data import templates, tokenizer
from trainer.data.conversations import Writer, Written
from trainer.data.encode import Encoder
from trainer.data.example import Example, Piece, question_and_answer
from trainer.data.table import Table
from trainer.data.triples import Triples
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


def marks(written: Any) -> str:
    """The learned characters, the others as dots."""
    assert isinstance(written, Written), written
    learned = {place for start, end in written.learned for place in range(start, end)}
    return "".join(letter if place in learned else "." for place, letter in enumerate(written.text))


def test_chatml_learns_each_answer_with_its_end(words: Any) -> None:
    written = Writer(templates.CHATML, words).write(TALK)
    ask, between = (
        "." * len("<|im_start|>user\nHé?<|im_end|>\n<|im_start|>assistant\n"),
        "." * len("<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"),
    )
    assert marks(written) == f"{ask}Oui 👍<|im_end|>\n{between} Yes.<|im_end|>\n"


def test_plain_learns_each_answer_with_the_end_of_text(words: Any) -> None:
    written = Writer(templates.PLAIN, words).write(TALK)
    ask, between = (
        "." * len("### User:\nHé?\n\n### Assistant:\n"),
        "." * len("\n\n### User:\nSure?\n\n### Assistant:\n"),
    )
    assert marks(written) == f"{ask}Oui 👍<|im_end|>{between} Yes.<|im_end|>"


def test_markers_of_a_template_decide_what_is_learned(words: Any) -> None:
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        "{% endgeneration %};{% else %}{{ m['content'] }};{% endif %}{% endfor %}"
    )
    written = Writer(template, words).write(TALK[:2])
    assert marks(written) == "." * len("[user]Hé?;[assistant]") + "Oui 👍" + "."


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
    plain, marked = Writer(UNMARKED, words).write(talk), Writer(templates.CHATML, words).write(talk)
    assert marks(plain) == marks(marked)


def test_a_template_that_trims_answers_is_rendered_turn_by_turn(words: Any) -> None:
    template = UNMARKED.replace("message['content']", "message['content'] | trim")
    written = Writer(template, words).write(TALK)
    assert isinstance(written, Written)
    assert [written.text[start:end] for start, end in written.learned] == ["Oui 👍<|im_end|>\n", "Yes.<|im_end|>\n"]


def test_a_template_that_writes_earlier_turns_differently_is_refused(words: Any) -> None:
    said = Writer(OPENING_DEPENDS_ON_THE_END, words).write(TALK)
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


def plain(pair_template: Any = None, **names: str) -> Any:
    """A tokenizer of one token for each byte, and what it puts around texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<cls>", "<sep>", "<eos>"])
    if pair_template is not None:
        backend.post_processor = pair_template
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", **names)


def bert_like() -> Any:
    from tokenizers.processors import TemplateProcessing

    return plain(
        TemplateProcessing(
            single="<cls> $A <sep>", pair="<cls> $A <sep> $B:1 <sep>:1", special_tokens=[("<cls>", 256), ("<sep>", 257)]
        )
    )


def one_row(tokenizer: Any, example: Example, format: str, **data: Any) -> Any:
    [row] = Encoder(rows.recipe(Path("a.jsonl"), format=format, **data), tokenizer).encode([example])
    assert not isinstance(row, Problem), row
    return row


ANSWERED = (Piece("\n", False), Piece("yes", True))


def test_a_pair_is_joined_as_the_tokenizer_joins_pairs() -> None:
    tokenizer = bert_like()
    row = one_row(tokenizer, Example("a", 1, sequences=("It rains", "wet"), pieces=ANSWERED), "pair")
    alone = tokenizer("It rains", "wet", return_token_type_ids=True)
    count = len(alone["input_ids"])
    assert row.tokens[:count].tolist() == alone["input_ids"]
    assert row.types.tolist() == [*alone["token_type_ids"], *[1] * (len(row.tokens) - count)]
    assert tokenizer.decode(row.tokens[count:]) == "\nyes<eos>"
    assert tokenizer.decode(row.tokens[row.learned]) == "yes<eos>"


def test_more_than_two_texts_repeat_the_separator() -> None:
    row = one_row(bert_like(), Example("a", 1, sequences=("a", "b", "c"), pieces=ANSWERED), "pair")
    assert bert_like().decode(row.tokens) == "<cls>a<sep>b<sep>c<sep>\nyes<eos>"
    assert row.types.tolist() == [0, 0, 0, 1, 0, 1, 1, *[1] * 5]


def test_a_tokenizer_that_only_names_a_separator_has_it_between_texts() -> None:
    tokenizer = plain(sep_token="<sep>")
    row = one_row(tokenizer, Example("a", 1, sequences=("a", "b", "c"), pieces=ANSWERED), "pair")
    assert tokenizer.decode(row.tokens) == "a<sep>b<sep>c\nyes<eos>"
    assert row.types.tolist() == [0, 0, 1, 0, 1, *[1] * 5]
    assert tokenizer.decode(row.tokens[row.learned]) == "yes<eos>"


def test_a_tokenizer_without_a_separator_has_line_ends_between_texts() -> None:
    row = one_row(plain(), Example("a", 1, sequences=("a", "b"), pieces=ANSWERED), "pair")
    assert plain().decode(row.tokens) == "a\nb\nyes<eos>"
    assert row.types.tolist() == [0, *[1] * 7]


def test_all_is_learned_where_that_is_asked() -> None:
    pair = Example("a", 1, sequences=("a", "b"), pieces=ANSWERED)
    completion = Example("a", 1, pieces=(Piece("a", False), Piece("b", True)))
    assert one_row(bert_like(), pair, "pair", learn="all").learned.all()
    assert one_row(bert_like(), completion, "completion", learn="all").learned.all()
    assert not one_row(bert_like(), completion, "completion").learned.all()


def table(count: int, **more: Any) -> Example:
    wide = tuple((f"n{number}", "x" * (number % 7)) for number in range(count))
    listing = Table(("name", "ö"), wide, "Title", more.get("style", "markdown"))
    return Example("a", 1, listing=listing, pieces=question_and_answer("Who?", "me"))


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(1, 30),
    room=st.integers(20, 300),
    style=st.sampled_from(["markdown", "rows", "key_value"]),
)
def test_a_long_table_loses_whole_rows_from_its_end_and_no_more_than_it_must(count: int, room: int, style: str) -> None:
    example = table(count, style=style)
    assert example.listing is not None
    tokenizer = plain()
    row = one_row(tokenizer, example, "table", max_length=room)
    head, lines = example.listing.head(), example.listing.lines()

    def text(kept: int) -> str:
        return f"{head}{''.join(lines[:kept])}\nWho?\nme<eos>"

    kept = count - row.left_out
    assert tokenizer.decode(row.tokens) == text(kept)
    assert row.lost == len(text(count).encode()) - len(text(kept).encode())
    assert tokenizer.decode(row.tokens[row.learned]) == "me<eos>"
    size = len(row.tokens)
    assert size <= room or kept == 0
    # The end-of-text token is one, and five characters of that text.
    assert kept == count or len(text(kept + 1).encode()) - 4 > room


def test_a_table_is_cut_with_the_tokens_of_a_real_tokenizer(words: Any) -> None:
    example = table(40)
    assert example.listing is not None
    whole = one_row(words, example, "table", max_length=4096)
    assert whole.left_out == whole.lost == 0
    for room in range(60, len(whole.tokens), 37):
        row = one_row(words, example, "table", max_length=room)
        assert len(row.tokens) <= room and row.left_out > 0
        assert len(row.tokens) + row.lost == len(whole.tokens)
        lines = "".join(example.listing.lines()[: 40 - row.left_out])
        assert words.decode(row.tokens) == f"{example.listing.head()}{lines}\nWho?\nme<|im_end|>"


@pytest.mark.parametrize("too_long", ["drop", "error", "split"])
def test_a_table_stays_whole_where_long_rows_are_not_cut(too_long: str) -> None:
    row = one_row(plain(), table(30), "table", max_length=60, too_long=too_long)
    assert row.left_out == 0 and len(row.tokens) > 60


def test_triples_lose_the_farthest_ones_first() -> None:
    triples = Triples(tuple((str(number), "to", str(number + 1)) for number in range(9)), {}, {})
    row = one_row(
        plain(), Example("a", 1, listing=triples, pieces=question_and_answer(None, "me")), "triples", max_length=40
    )
    assert plain().decode(row.tokens) == "0 | to | 1\n1 | to | 2\n2 | to | 3\n\nme<eos>"
    assert row.left_out == 6


def test_words_keep_their_numbers() -> None:
    tokenizer = bert_like()
    row = one_row(tokenizer, Example("a", 1, words=("New", "York", ".")), "words")
    assert tokenizer.decode(row.tokens) == "<cls>New York .<sep>"
    assert row.words.tolist() == [-1, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, -1]
    assert not row.learned.any()
    cut = row.cut(4)
    assert (cut.tokens.tolist(), cut.words.tolist()) == (row.tokens[:4].tolist(), [-1, 0, 0, 0])


def test_words_bring_no_space_to_a_tokenizer_that_puts_it_there(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[U]": 2}, unk_token="[U]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[U]")
    row = one_row(tokenizer, Example("a", 1, words=("b", "a")), "words")
    assert (row.tokens.tolist(), row.words.tolist()) == ([1, 0], [0, 1])


def test_rows_of_all_formats_come_back_in_their_order() -> None:
    examples = [
        Example("a", 1, words=("w",)),
        Example("a", 2, pieces=(Piece("p", True),)),
        Example("a", 3, sequences=("s", "t"), pieces=ANSWERED),
        Example("a", 4, words=("x",)),
        table(1),
    ]
    encoded = Encoder(rows.recipe(Path("a.jsonl"), format="pair"), plain()).encode(examples)
    texts = [plain().decode(row.tokens) for row in encoded if not isinstance(row, Problem)]
    assert [text[0] for text in texts] == ["w", "p", "s", "x", "T"]


def test_a_row_ends_where_its_last_learned_token_is_special(words: Any) -> None:
    def ends(template: str, learn: str = "auto") -> bool:
        chat = Encoder(rows.recipe(Path("a"), format="chat", learn=learn), words)
        chat.writer = Writer(template, words, "all" if learn == "all" else "assistant")
        [row] = chat.encode([Example("a", 1, messages=tuple(TALK))])
        assert not isinstance(row, Problem)
        return chat.ends(row)

    endless = "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}\n{% endgeneration %}{% endfor %}"
    assert ends(templates.CHATML) and ends(UNMARKED) and ends(templates.PLAIN) and ends(UNMARKED, "all")
    assert not ends(endless) and not ends(endless, "all")
    [bare] = encoder(words, "text").encode([Example("a", 1, pieces=(Piece("x", True),))])
    assert not isinstance(bare, Problem)
    assert encoder(words, "text").ends(bare)
    assert not encoder(words, "text").ends(bare.cut(1))
