"""Text files in whatever encoding they are: what the recipe states, a byte order mark, UTF-8, or what is detected."""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import cast

from trainer.errors import DataError, Problem

LONGEST = 2**26
"""Characters of the longest line, and of the longest text, that is read."""
BLOCK = 2**20
"""Characters that are read at a time where lines do not matter, and that are looked at to detect an encoding."""
DETECTED_FROM = 2**16
"""Bytes that the detection is given; it is no surer with more."""
SHORT = 64
"""Bytes above ASCII from which on encodings that are rarely met are thought of."""
FEW_LETTERS = 2
"""Different bytes above ASCII that tell nothing; what is met most is taken."""
WIDER = (
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1254",
    "cp1253",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp1258",
    "cp932",
    "gb18030",
    "cp949",
)
"""Encodings that hold others, or nearly; the one that is met most comes first."""

FOUND: dict[str, str] = {}
"""The encodings of the files that this process read, stated nowhere, and that turned out not to be UTF-8; by name."""

_HALF = re.compile("[\udc00-\udcff]")
_HALVES = "shardtune-halves"


def _half(error: UnicodeError) -> tuple[str, int]:
    """Half a character pair for a byte that is no text, such as U+DCE9 for 0xE9, and where to go on: what Python's
    `surrogateescape` does, but for UTF-16 and UTF-32 too.
    """
    wrong = cast(UnicodeDecodeError, error)
    return chr(0xDC00 + wrong.object[wrong.start]), wrong.end


codecs.register_error(_HALVES, _half)


class TextFile:
    """A text file, unzipped where its name ends in .gz; DataError where that cannot be done.

    Bytes that are no text are left in it, for `wrong` to tell.
    """

    def __init__(self, name: str, path: Path, stated: str | None) -> None:
        self.name, self.path, self.stated = name, path, stated
        self.encoding = stated or "UTF-8"
        """What the file is in, as far as it was read."""

    def lines(self) -> Iterator[str]:
        """The lines with their ends; one that is longer than LONGEST comes in pieces."""
        return self._unzipped(lambda text: text.readline(LONGEST))

    def blocks(self) -> Iterator[str]:
        """The whole text in pieces of BLOCK characters, or a few more."""
        return self._unzipped(lambda text: text.read(BLOCK))

    def wrong(self, text: str) -> str | None:
        """What is wrong with a part of this file, in words; None where all of it is text."""
        if text.isascii():
            return None
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte, before = ord(text[error.start]) - 0xDC00, text[: error.start].split("\n")
            line = f"line {len(before)}, " if len(before) > 1 else ""
            return (
                f"is not {self.encoding} text (byte 0x{byte:02x} at {line}column {len(before[-1]) + 1}); mend it, or "
                "say beside the path what the file is in, such as `encoding: cp1252`"
            )
        return None

    def _unzipped(self, take: Callable[[io.TextIOWrapper], str]) -> Iterator[str]:
        try:
            yield from self._pieces(take)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            message = f"is no whole gzip file ({error}); it is damaged or was cut off: copy it again"
            raise DataError([Problem(self.name, message)]) from error

    def _pieces(self, take: Callable[[io.TextIOWrapper], str]) -> Iterator[str]:
        with gzip.open(self.path) if self.path.suffix.lower() == ".gz" else self.path.open("rb") as file:
            FOUND.pop(self.name, None)
            binary = cast(io.BufferedReader, file)
            encoding = self.stated or json.detect_encoding(binary.peek(4)[:4])
            if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
                with io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline="\n") as text:
                    pieces = iter(lambda: take(text), "")
                    yield from pieces if self.stated else self._decoded_again(pieces)
                return
            if not self.stated:
                self._found(encoding)
            with io.TextIOWrapper(binary, encoding, errors=_HALVES, newline="\n") as text:
                # The mark is left in the text where the name of the encoding says its byte order.
                first = take(text).removeprefix("\ufeff")
                yield from filter(None, chain([first], iter(lambda: take(text), "")))

    def _decoded_again(self, pieces: Iterator[str]) -> Iterator[str]:
        """What was read as UTF-8; the first piece that is not ASCII, and those after it, decide whether it is."""
        for piece in pieces:
            if piece.isascii():
                yield piece
                continue
            sample = [piece]
            if _HALF.search(piece):
                size = len(piece)
                for more in pieces:
                    sample.append(more)
                    size += len(more)
                    if size >= BLOCK:
                        break
            encoding = _detected("".join(sample))
            if encoding is None:
                yield from chain(sample, pieces)
                return
            self._found(encoding)
            decoder = codecs.getincrementaldecoder(encoding)(_HALVES)
            decoded = (decoder.decode(piece.encode(errors="surrogateescape")) for piece in chain(sample, pieces))
            yield from filter(None, decoded)
            yield from filter(None, [decoder.decode(b"", final=True)])

    def _found(self, encoding: str) -> None:
        self.encoding = FOUND[self.name] = encoding


def _detected(text: str) -> str | None:
    """The encoding of a text that was read as UTF-8; None where that is what it is, or where nothing can be told.

    One wrong line among others is a fault of that line, and so is every one in a text that holds UTF-8 elsewhere.
    """
    lines = text.removesuffix("\n").split("\n")
    odd = [line for line in lines if not line.isascii()]
    halves = [len(_HALF.findall(line)) for line in odd]
    others = sum(not character.isascii() for line in odd for character in line) - sum(halves)
    if not all(halves) or len(odd) < min(2, len(lines)) or others >= sum(halves):
        return None
    from chardet import EncodingEra, detect

    sample = "\n".join(odd).encode(errors="surrogateescape")
    if len(sample) > DETECTED_FROM:
        # No character of two bytes or more ends in one of these.
        end = re.match(rb".*[\x00-\x2f]", sample[:DETECTED_FROM], re.DOTALL)
        sample = end.group() if end else sample
    letters = {byte for byte in sample if byte >= 0x80}
    if len(letters) <= FEW_LETTERS and not _HALF.search(_decoded(sample, "cp1252")):
        return "cp1252"
    # A short text says too little to tell those of old Macs from those that are met.
    era = EncodingEra.ALL & ~EncodingEra.LEGACY_MAC if sum(halves) < SHORT else EncodingEra.ALL
    found = codecs.lookup(detect(sample, encoding_era=era, no_match_encoding="utf-8")["encoding"] or "utf-8").name
    if found in ("utf-8", "ascii"):
        return None
    # What differs in no byte of the sample, and has more characters for what comes after it.
    alike = (wider for wider in WIDER if _decoded(sample, wider) == _decoded(sample, found))
    return next(alike, found)


def _decoded(sample: bytes, encoding: str) -> str:
    return sample.decode(encoding, errors=_HALVES)
