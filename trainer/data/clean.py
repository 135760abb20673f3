"""Mends the texts of a row, and says why a row is left out."""

import functools
import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from typing import get_args

from trainer.config.data import Clean, Script
from trainer.data.example import Example

_SCRIPTS = {("CJK" if script == "Han" else script.upper()): script for script in get_args(Script)}
"""The word of a letter's Unicode name that tells its script."""
_WIDTHS = ("FULLWIDTH", "HALFWIDTH")

_LINE_END = re.compile("\r\n|\r|\x85")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SPACES = re.compile(r"[^\S\t\n\r\v\f]+")
_EMPTY_LINES = re.compile(r"(?:\r?\n[ \t]*){2,}\r?\n")

_INLINE = """
    a abbr acronym area audio b base bdi bdo big button canvas cite code col colgroup data datalist del dfn em embed
    font i img input ins kbd label link map mark meta meter nobr object option output param picture progress q rp rt
    ruby s samp select slot small source span strike strong sub summary sup svg template textarea time title track tt
    u var video wbr
"""
_BLOCK = """
    address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html iframe legend li main menu nav noscript ol optgroup
    p pre section table tbody tfoot thead tr ul
"""
_CELLS = ("td", "th")
_UNSEEN = ("script", "style")
_ELEMENTS = dict.fromkeys(_INLINE.split(), "") | dict.fromkeys(_BLOCK.split(), "\n") | dict.fromkeys(_CELLS, " ")
"""What stands for the tags of each HTML element; other tags, such as <think> or List<int>, are text."""
_KNOWN = {*_ELEMENTS, *_UNSEEN}
_WITHOUT_VALUE = """
    allowfullscreen async autofocus autoplay checked compact controls default defer disabled hidden inert ismap loop
    multiple muted nomodule noshade novalidate nowrap open playsinline readonly required reversed selected
"""
_SWITCHES = frozenset(_WITHOUT_VALUE.split())
"""Attributes without a value; with another one, as in `a <b and c> d`, what stands there is no tag."""
_TAG = re.compile(r"<(?:(/?[a-z][a-z0-9]*)(?=[\s/>])[^<>]*>|(!--)|!doctype\b[^<>]*>)?", re.IGNORECASE)


class Cleaner:
    """One `data.clean`: a row in, the mended row or the reason why it is left out."""

    def __init__(self, clean: Clean) -> None:
        self.clean = clean
        self._mends = clean.markup or clean.control_characters or clean.unicode != "none" or clean.white_space
        self._leaves_out = bool(clean.min_characters or clean.max_characters or clean.scripts)

    def __call__(self, example: Example) -> Example | str:
        """The row as it will be seen; what was wrong with it where it is left out."""
        if not self._mends and not self._leaves_out:
            return example
        texts: list[str] = []

        def change(text: str) -> str:
            texts.append(self.mend(text))
            return texts[-1]

        mended = example.with_text(change)
        return self._refusal(texts) or (mended if self._mends else example)

    def mend(self, text: str) -> str:
        """One text, mended; twice is once, but for markup, which is decoded once each time."""
        if self.clean.markup and ("<" in text or "&" in text):
            text = text_of_html(text)
        if self.clean.control_characters:
            text = _CONTROL.sub("", _LINE_END.sub("\n", text))
        if self.clean.unicode != "none":
            text = unicodedata.normalize(self.clean.unicode, text)
        if self.clean.white_space:
            text = _EMPTY_LINES.sub("\n\n", _SPACES.sub(" ", text)).strip()
        return text

    def _refusal(self, texts: list[str]) -> str:
        """Why the row is left out; empty where it stays."""
        clean = self.clean
        characters = sum(len(text) for text in texts)
        if characters < clean.min_characters:
            return f"says {characters:,} characters, fewer than data.clean.min_characters: {clean.min_characters}"
        if clean.max_characters is not None and characters > clean.max_characters:
            return f"says {characters:,} characters, more than data.clean.max_characters: {clean.max_characters}"
        if not clean.scripts:
            return ""
        letters = letters_by_script("".join(texts))
        total, wanted = letters.total(), sum(letters[script] for script in clean.scripts)
        if 2 * wanted >= total:
            return ""
        most, count = letters.most_common(1)[0]
        written = f"{count / total:.0%} of its letters are {most or 'of no script that is known here'}"
        return f"{written}, and {wanted / total:.0%} of data.clean.scripts: {', '.join(clean.scripts)}"


def letters_by_script(text: str) -> Counter[str]:
    """How many letters of each script a text holds; those of other scripts stand under the empty name."""
    letters: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if (script := script_of(character)) is not None:
            letters[script] += count
    return letters


@functools.cache
def script_of(character: str) -> str | None:
    """The script of a letter by its Unicode name, empty where it is none of those known; None for what is no letter."""
    if not character.isalpha():
        return None
    words = unicodedata.name(character, "").replace("-", " ").split()
    while words and words[0] in _WIDTHS:
        words.pop(0)
    return _SCRIPTS.get(words[0], "") if words else ""


def text_of_html(text: str) -> str:
    """What a browser would show, as one text: tags gone, entities decoded, a line end where a block begins or ends."""
    lower = text.lower()
    ends = {name: lower.rfind(f"</{name}") for name in _UNSEEN} | {"!--": lower.rfind("-->")}

    def keep_or_escape(match: re.Match[str]) -> str:
        name = (match[1] or match[2] or "").lower()
        # Without its end, a script or a comment would swallow the rest of the text.
        sound = match.start() < ends[name] if name in ends else name.removeprefix("/") in _KNOWN
        doctype = not name and len(match[0]) > 1
        return match[0] if sound or doctype else "&lt;" + match[0][1:]

    parser = _TextOfHtml()
    parser.feed(_TAG.sub(keep_or_escape, text))
    parser.close()
    return "".join(parser.parts)


class _TextOfHtml(HTMLParser):
    """Collects the text between the tags of HTML elements; others have been escaped."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = False

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen = True
        elif any(value is None and name not in _SWITCHES for name, value in attrs):
            self.parts.append(self.get_starttag_text() or "")
        else:
            self._break(_ELEMENTS[tag])

    def handle_endtag(self, tag: str) -> None:
        self._unseen = False
        self._break(_ELEMENTS.get(tag, ""))

    def _break(self, separator: str) -> None:
        """One separator, however many tags stand together."""
        if separator and self.parts and not self.parts[-1].endswith(("\n", separator)):
            self.parts.append(separator)
