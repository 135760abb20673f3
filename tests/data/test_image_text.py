import base64
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data import rows
from data.image_rows import BLUE, RED, content, contents, picture, read, said

from trainer import prepare
from trainer.config.data import Clean, Data, Source
from trainer.config.recipe import Recipe
from trainer.data import corpus, images, steps, templates, tokenizer
from trainer.data.chunk import Wanted
from trainer.data.clean import Cleaner
from trainer.data.duplicates import signature
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.images import MARK, load
from trainer.data.leakage import prompt_digest
from trainer.data.row import BadRow, Row
from trainer.data.stream import Position, Stream
from trainer.data.tokenise import Stretch, Tokeniser
from trainer.errors import DataError, RecipeError

ANSWER = {"role": "assistant", "content": "A"}


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tiff", "gif"])
def test_a_path_is_an_image_beside_the_file_of_the_row(tmp_path: Path, ending: str) -> None:
    picture(tmp_path / f"a.{ending}")

    example = read(tmp_path, {"prompt": "Q", "answer": "A", "image": f"a.{ending}"})

    assert contents(example) == ["#Q", "A"]
    (reference,) = example.images
    pixels = load(reference)
    assert (pixels.mode, pixels.size) == ("RGB", (8, 8))
    assert np.abs(np.asarray(pixels, dtype=int) - RED).max() <= 2


def test_a_path_begins_in_the_image_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    picture(tmp_path / "pictures" / "a.png")

    example = read(
        tmp_path, {"question": "Q", "answer": 7, "images": ["a.png"]}, image_folder=str(tmp_path / "pictures")
    )

    assert contents(example) == ["#Q", "7"]
    assert images.check(example) is None


def test_parts_of_a_message_are_marks_in_their_order(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", RED)
    picture(tmp_path / "b.png", BLUE)
    parts = [{"type": "text", "text": "See "}, {"type": "image"}, {"type": "image", "text": None, "index": 1}]
    talk = [
        {"role": "user", "content": [*parts, {"type": "text", "text": " <image>?"}]},
        ANSWER,
        {"role": "user", "content": "More"},
        {"role": "assistant", "content": [{"type": "text", "text": "B"}]},
    ]

    example = read(tmp_path, {"messages": talk, "images": ["a.png", "b.png"], "id": 5})

    assert contents(example) == ["See ## <image>?", "A", "More", "B"]
    assert [load(image).getpixel((0, 0)) for image in example.images] == [RED, BLUE]
    assert example.columns["id"] == 5
    assert example.columns["messages"] is talk


def test_marks_that_are_written_into_the_text_count_too(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A"}]

    assert contents(read(tmp_path, {"conversations": talk, "image": "a.png"})) == ["#\nWhat?", "A"]
    assert contents(read(tmp_path, {"prompt": "Q <image>?", "answer": "A", "image": "a.png"})) == ["Q #?", "A"]


def test_a_conversation_about_no_image_is_a_chat(tmp_path: Path) -> None:
    example = read(tmp_path, {"messages": [{"role": "user", "content": "Q"}, ANSWER], "images": []})
    assert (contents(example), example.images) == (["Q", "A"], ())


def test_a_row_without_its_answer_is_a_question(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert contents(read(tmp_path, {"prompt": "Q", "image": "a.png"}, answered=False)) == ["#Q"]


@pytest.mark.parametrize("name", [None, "a.png"])
def test_images_are_bytes_as_the_datasets_library_writes_them(tmp_path: Path, name: str | None) -> None:
    found = content("PNG", BLUE)
    text = base64.b64encode(found).decode()
    ways = [found, {"bytes": found, "path": name}, {"bytes": text, "path": name}, f"data:image/png;base64,{text}"]

    example = read(tmp_path, {"prompt": "Q", "answer": "A", "images": ways})

    assert contents(example) == ["####Q", "A"]
    assert [load(image).getpixel((7, 7)) for image in example.images] == [BLUE] * 4
    assert len({image.digest() for image in example.images}) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"messages": [{"role": "user", "content": "<image> <image>"}, ANSWER], "images": ["a.png"]}, "holds 2 image"),
        ({"messages": [{"role": "user", "content": "Q"}, ANSWER], "images": ["a.png"]}, "and 1 images in images"),
        ({"messages": [{"role": "user", "content": "<image>"}, ANSWER], "img": "a.png"}, "and 0 images in images"),
        ({"prompt": "<image><image>", "answer": "A", "image": "a.png"}, "holds 2 image marks, and 1 images in image"),
        ({"prompt": "Q", "answer": "A", "img": "a.png"}, "has neither images nor image"),
        ({"answer": "A", "image": "a.png"}, "has neither prompt nor question"),
        ({"prompt": "Q", "image": "a.png"}, "has no answer"),
        ({"prompt": "Q", "answer": "A", "image": "b.png"}, "data.train.1.image_folder: <folder>"),
        ({"prompt": "Q", "answer": "A", "image": "b\0.png"}, "there is no file"),
        ({"prompt": "Q", "answer": "A", "image": ""}, "image is empty, not an image"),
        ({"prompt": "Q", "answer": "A", "images": ["a.png", None]}, "images.1 is null, not an image"),
        ({"prompt": "Q", "answer": "A", "image": {"bytes": None, "path": None}}, "neither bytes nor a path"),
        ({"prompt": "Q", "answer": "A", "image": {"bytes": "a", "path": None}}, "image.bytes is no base64"),
        ({"prompt": "Q", "answer": "A", "image": "data:image/png;base64,ü"}, "image is no base64"),
        ({"prompt": f"Q{MARK}", "answer": "A", "image": "a.png"}, "prompt holds \\ufffc, the character"),
        ({"messages": [{"role": "user", "content": MARK}, ANSWER], "image": "a.png"}, "messages.0.content holds"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": MARK}]}, ANSWER], "image": "a.png"},
            "messages.0.content.0.text holds",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "url": "a"}]}, ANSWER], "image": "a.png"},
            "messages.0.content.0 holds its image itself (url); put it into the list images",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "index": 1}]}, ANSWER], "image": "a.png"},
            "numbers its images (index) in another order",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}, ANSWER], "image": "a.png"},
            "messages.0.content.0 is of type 'audio'",
        ),
        ({"messages": [{"role": "user", "content": "<image>"}], "image": "a.png"}, "holds no message of the assistant"),
    ],
)
def test_a_row_that_does_not_fit_says_why(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    picture(tmp_path / "a.png")
    assert message in said(read(tmp_path, values))


def test_a_url_is_refused_without_permission_in_one_message_for_all(tmp_path: Path) -> None:
    found = [{"prompt": "Q", "answer": "A", "image": f"https://a.example/{number}.png"} for number in range(2)]

    first, second = (said(read(tmp_path, row)) for row in found)

    assert first == second
    assert "set data.train.1.allow_urls: true, or download them" in first


def test_a_video_is_not_fetched(tmp_path: Path) -> None:
    values = {"prompt": "Q", "answer": "A", "image": "http://127.0.0.1:1/a.mp4"}
    assert "videos are read from files; download it" in said(read(tmp_path, values, allow_urls=True))


def test_rows_with_other_images_say_other_things(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    paths = {"a.png": RED, "b.png": BLUE, "copy/a.png": RED}
    for path, colour in paths.items():
        picture(tmp_path / path, colour)
    question = "What colour is the square that you see here?"

    red, blue, copy = (read(tmp_path, {"prompt": question, "answer": "A", "image": path}) for path in paths)

    assert red.digest() == copy.digest() != blue.digest()
    assert prompt_digest(red) == prompt_digest(copy) != prompt_digest(blue)
    assert np.array_equal(signature(red), signature(copy))
    assert not np.any(signature(red) == signature(blue))


def test_cleaning_leaves_the_marks(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    clean = Cleaner(Clean(unicode="NFKC", control_characters=True, white_space=True, markup=True))
    example = clean(read(tmp_path, {"prompt": " <b>See</b>\0   <image> ", "answer": " A", "image": "a.png"}))
    assert isinstance(example, Example)
    assert contents(example) == ["See #", "A"]


SEES = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}{{ '[pixels]' }}{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As Qwen2-VL's template, where an image stands in its place."""
SEES_FIRST = (
    "{% for m in messages %}{{ m['role'] | upper + ': ' }}"
    "{% for p in m['content'] if p['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for p in m['content'] if p['type'] == 'text' %}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ p['text'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ p['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)
"""As LLaVA's template, where images stand before the text, and what is learned is marked."""
SHOWS_THE_LIST = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokens")
    return tokenizer.load(rows.recipe(rows.write(folder / "a.jsonl", rows.completions(50))), folder)


def encoder(tokens: Any, own: str, **data: Any) -> Encoder:
    tokens.chat_template = own
    return Encoder(rows.recipe(Path("a.jsonl"), format="image_text", **data), tokens)


@pytest.mark.parametrize(
    ("template", "text", "learned"),
    [
        (
            SEES,
            "<|im_start|>user\nSee [pixels], [pixels]?<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
            "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n",
            "A<|im_end|>\nB<|im_end|>\n",
        ),
        (
            SEES_FIRST,
            "USER: <image>\n<image>\nSee  ,  ? ASSISTANT: A<|im_end|>USER: More ASSISTANT: B<|im_end|>",
            "A<|im_end|>B<|im_end|>",
        ),
    ],
)
def test_the_template_writes_images_and_answers_are_learned(
    tokens: Any, tmp_path: Path, template: str, text: str, learned: str
) -> None:
    picture(tmp_path / "a.png")
    talk = [{"role": "user", "content": "See <image>, <image>?"}, ANSWER, {"role": "user", "content": "More"}]
    example = read(tmp_path, {"messages": [*talk, {"role": "assistant", "content": "B"}], "images": ["a.png", "a.png"]})

    (row,) = encoder(tokens, template).encode([example])

    assert isinstance(row, Encoded)
    assert tokens.decode(row.tokens) == text
    assert tokens.decode(row.tokens[row.learned]) == learned


@pytest.mark.parametrize(
    ("template", "settings"), [(SHOWS_THE_LIST, {}), (templates.CHATML, {}), (SEES, {"template": "plain"})]
)
def test_a_template_that_writes_no_images_is_refused(tokens: Any, template: str, settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="its chat template writes no images"):
        encoder(tokens, template, **settings)


def test_rows_whose_images_do_not_decode_are_told_with_the_others(tokens: Any, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    sees = encoder(tokens, SEES)
    source = Source(path="rows.jsonl", format="image_text")
    found = [
        Row(str(tmp_path / "rows.jsonl"), number, {"prompt": "Q", "answer": "A", "image": f"{name}.png"})
        for number, name in enumerate("abac", start=1)
    ]
    tokeniser = Tokeniser(Data(train=(source,)), [("data.train.0", source)], sees, Wanted())

    chunk = tokeniser(Stretch(0, 0, found))

    assert [problem.where[-2:] for _, problem in chunk.wrong] == [":2", ":4"]
    assert all(isinstance(problem, BadRow) for _, problem in chunk.wrong)
    assert chunk.arrays["line"].tolist() == [1, 3]


def images_recipe(tmp_path: Path, **data: Any) -> Recipe:
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Q {name}", "answer": "A", "image": f"{name}.png"}) + "\n" for name in "ab")
    )
    source = {"path": str(tmp_path / "rows.jsonl"), "format": "image_text"}
    settings = {"train": [source], "validation": None, "cache": False, "workers": 1, **data}
    model = {"config": {"model_type": "llama"}, "tokenizer": {"vocab_size": 400}}
    return Recipe.model_validate({"model": model, "data": settings, "batch": {"global": 2}})


def test_rows_are_prepared_anew_when_an_image_changes(tokens: Any, tmp_path: Path) -> None:
    tokens.chat_template = SEES
    recipe = images_recipe(tmp_path)
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    first = corpus.prepare(recipe, tokens, tmp_path / "run").stores["train"].folder
    again = corpus.prepare(recipe, tokens, tmp_path / "run").stores["train"].folder
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:50])

    assert again == first
    with pytest.raises(DataError, match=r"rows.jsonl:2: b.png does not decode"):
        corpus.prepare(recipe, tokens, tmp_path / "run")


def test_a_stream_looks_at_images(tokens: Any, tmp_path: Path) -> None:
    tokens.chat_template = SEES
    recipe = images_recipe(tmp_path, streaming=True)
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    stream = Stream(recipe, Encoder(recipe, tokens), tmp_path / "quarantine.jsonl", Position())

    with closing(stream), pytest.raises(DataError, match=r"rows.jsonl:2: b.png does not decode"):
        stream.step(steps.layout(recipe, tokens))


def test_a_recipe_with_images_is_read_to_be_shown_and_not_to_train(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {config: {model_type: llama}, tokenizer: {vocab_size: 400}}\n"
        "data: {train: [{path: a.jsonl, format: image_text}]}\n"
    )

    assert prepare.read(path, [], to_train=False).data.train[0].format == "image_text"
    with pytest.raises(RecipeError, match="causal_lm learns nothing from image_text rows; it takes completion"):
        prepare.read(path, [])
