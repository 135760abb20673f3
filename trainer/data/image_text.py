"""Images and what is said of them: a conversation whose texts hold marks, and one image for each mark."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.data.chat import chat
from trainer.data.example import Example
from trainer.data.fields import Fields, Wrong, kind_of, names, text_of
from trainer.data.images import MARK, Image, references
from trainer.data.row import Row

KINDS = ("image", "video")
"""The types of the parts of a message that stand for what is in the list of images."""

_WRITTEN = re.compile("<image>|<video>")
_DATA = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_URL = re.compile(r"https?://", re.IGNORECASE)

Message = Mapping[str, Any]


def image_text(fields: Fields) -> Example:
    """`messages`, or `prompt` or `question` with `answer`, which is learned; and `images` or `image`.

    Texts hold MARK where an image stands; where a video stands, as many as it has images.
    """
    mapped = any(name in fields.source.fields for name in ("prompt", "question"))
    is_talk = not mapped and (fields.has("messages") or fields.row.values.get("conversations") is not None)
    example = _conversation(fields) if is_talk else _question(fields)
    column, found = _images(fields, needed=not is_talk)
    marks = sum((message["content"] or "").count(MARK) for message in example.messages)
    talk = list(example.messages)
    if marks == 0 and not is_talk:
        talk[0] = {**talk[0], "content": MARK * len(found) + talk[0]["content"]}
    elif marks != len(found):
        ways = "<image> in the text, or a part {type: image}"
        raise Wrong(f"holds {marks} image marks, and {len(found)} images in {column}; each has to have one: {ways}")
    return replace(
        example,
        messages=_with_frames(talk, found),
        images=tuple(image for images in found for image in images),
        columns=fields.row.values,
    )


def image(fields: Fields) -> Example:
    """One still `image` without a text."""
    column = fields.column("image")
    found = _found(column, fields.value("image"), fields)
    if len(found) != 1:
        raise Wrong(f"{column} has several frames; take one of them, or describe them in rows of the format image_text")
    return Example(fields.row.source, fields.row.line, images=found, columns=fields.row.values)


def _question(fields: Fields) -> Example:
    """A turn of the user, and one of the assistant."""
    [name] = fields.of_either(("prompt",), ("question",))
    question = _WRITTEN.sub(MARK, _unmarked(fields.column(name), fields.text(name)))
    messages = [{"role": "user", "content": question}]
    answer = fields.answer("answer")
    if answer is not None:
        messages.append({"role": "assistant", "content": _unmarked(fields.column("answer"), answer)})
    return Example(fields.row.source, fields.row.line, messages=tuple(messages))


def _conversation(fields: Fields) -> Example:
    """A chat with marks in its contents: for parts that are images, else for what stands written there."""
    values = dict(fields.row.values)
    column = fields.column("messages") if fields.has("messages") else "conversations"
    messages = values.get(column)
    parts: list[Message] = []
    if isinstance(messages, list):
        parts = [part for message in messages for part in _image_parts(message)]
        values[column] = [_with_marks(f"{column}.{number}", message) for number, message in enumerate(messages)]
    if any(part.get("index") not in (None, number) for number, part in enumerate(parts)):
        raise Wrong(f"{column} numbers its images (index) in another order; put the images in the order of their parts")
    example = chat(replace(fields, row=Row(fields.row.source, fields.row.line, values)))
    return example if parts else replace(example, messages=tuple(map(_read_marks, example.messages)))


def _image_parts(message: object) -> list[Message]:
    """The parts of a message that stand for images."""
    contents = message.values() if isinstance(message, dict) else ()
    lists = (content for content in contents if isinstance(content, list))
    return [part for parts in lists for part in parts if isinstance(part, dict) and part.get("type") in KINDS]


def _with_marks(place: str, message: object) -> object:
    """The message with a text for each part that stands for an image; what else is wrong with it is left to `chat`."""
    if not isinstance(message, dict):
        return message
    marked = dict(message)
    for key, content in message.items():
        if isinstance(content, str):
            _unmarked(f"{place}.{key}", content)
        elif isinstance(content, list):
            marked[key] = [_part(f"{place}.{key}.{number}", part) for number, part in enumerate(content)]
    return marked


def _part(place: str, part: object) -> object:
    if not isinstance(part, dict) or part.get("type") not in KINDS:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            _unmarked(f"{place}.text", text)
        return part
    held = [key for key, value in part.items() if key not in ("type", "text", "index") and value is not None]
    if held:
        raise Wrong(f"{place} holds its {part['type']} itself ({held[0]}); put it into the list images of the row")
    return {"type": "text", "text": MARK}


def _read_marks(message: Message) -> Message:
    """The message with marks for what stands written for them."""
    content = message["content"]
    return message if content is None else {**message, "content": _WRITTEN.sub(MARK, content)}


def _unmarked(place: str, text: str) -> str:
    """The text; Wrong where it holds a mark already."""
    if MARK in text:
        raise Wrong(f"{place} holds \\ufffc, the character that stands for an image; take it out of the text")
    return text


def _images(fields: Fields, *, needed: bool) -> tuple[str, list[tuple[Image, ...]]]:
    """The column of the images, and what each of them is: one image, or the frames of a video."""
    if not needed and not any(fields.has(name) for name in ("images", "image")):
        return "images", []
    [name] = fields.of_either(("images",), ("image",))
    column, value = fields.column(name), fields.value(name)
    if not isinstance(value, list):
        return column, [] if value is None else [_found(column, value, fields)]
    return column, [_found(f"{column}.{number}", image, fields) for number, image in enumerate(value)]


def _found(place: str, value: object, fields: Fields) -> tuple[Image, ...]:
    """One entry of the list of images."""
    frames = fields.source.frames
    if isinstance(value, dict) and value.get("bytes") is not None:
        name = text_of(f"{place}.path", value["path"]) if value.get("path") else place
        return references(name, _bytes(f"{place}.bytes", value["bytes"]), frames)
    if isinstance(value, bytes):
        return references(place, value, frames)
    if isinstance(value, dict):
        if not value.get("path"):
            raise Wrong(f"{place} holds neither bytes nor a path; it has {names(value)}")
        place, value = f"{place}.path", value["path"]
    if not isinstance(value, str) or not value:
        found = "empty" if value == "" else kind_of(value)
        raise Wrong(f"{place} is {found}, not an image: a path, a URL, or {{bytes}}")
    if (data := _DATA.match(value)) is not None:
        return references(place, _bytes(place, value[data.end() :]), frames)
    if _URL.match(value):
        return (_fetched(text_of(place, value), fields),)
    return references(value, _file(place, text_of(place, value), fields), frames)


def _fetched(url: str, fields: Fields) -> Image:
    """An image that `Source.allow_urls` lets be fetched."""
    if not fields.source.allow_urls:
        key = f"{fields.key}.allow_urls: true"
        raise Wrong(f"names images by URL, and nothing is fetched without permission; set {key}, or download them")
    image = Image(url, None)
    if image.is_video:
        raise Wrong(f"{url} is a video, and videos are read from files; download it")
    return image


def _file(place: str, name: str, fields: Fields) -> Path:
    """The file of a path: below `Source.image_folder`, else beside the file of the row."""
    folder = fields.source.image_folder
    begin = Path(fields.row.source).parent if folder is None else Path(folder).expanduser()
    path = begin / name
    try:
        is_there = path.is_file()
    except (OSError, ValueError):
        # A name that no file can have.
        is_there = False
    if not is_there:
        raise Wrong(f"{place}: there is no file {path}; say where paths begin: {fields.key}.image_folder: <folder>")
    return path


def _bytes(place: str, value: object) -> bytes:
    """Bytes, or the base64 of them."""
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(text_of(place, value), validate=True)
    except (binascii.Error, ValueError):
        raise Wrong(f"{place} is no base64; write the bytes of the image file so") from None


def _with_frames(talk: Sequence[Message], found: Sequence[Sequence[Image]]) -> tuple[Message, ...]:
    """The messages with as many marks for each entry as it has images."""
    counts = iter([len(images) for images in found])
    return tuple(
        message
        if message["content"] is None
        else {**message, "content": re.sub(MARK, lambda _: MARK * next(counts), message["content"])}
        for message in talk
    )
