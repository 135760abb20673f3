"""Images by reference, read where they are looked at: stills, and frames of videos."""

import functools
import hashlib
import io
import struct
import urllib.request
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias
from urllib.error import HTTPError

from trainer.data.example import Example
from trainer.data.row import BadRow
from trainer.errors import Problem

if TYPE_CHECKING:
    import PIL.Image

    Pixels: TypeAlias = PIL.Image.Image

MARK = "\ufffc"
"""Stands in a text where an image stands: Unicode's own character for what is no text."""

VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")
"""Endings of what PyAV reads."""
ANIMATED = (".gif", ".webp")
"""Endings of what may hold several frames, and Pillow reads."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may read; others run programs (EPS) or are no pictures."""

PATIENCE = 20.0
"""Seconds that a server may be silent."""
MOST_BYTES = 100_000_000
"""Of a fetched image."""

# What Pillow raises over damaged files, besides its own errors, which are OSErrors.
_DAMAGED = (OSError, SyntaxError, ValueError, LookupError, EOFError, OverflowError, struct.error)
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")


class Unreadable(Exception):
    """Why an image cannot be looked at."""


class ExtraNeeded(Exception):
    """What has to be installed before any such image can be looked at."""


@dataclass(frozen=True, slots=True)
class Image:
    """A still image, or one frame of several; light, since nothing is decoded before `load`."""

    name: str
    """What messages call it: its path, its URL, or its place in the row."""
    content: Path | bytes | None
    """The file, or what stands in one; None: it is fetched from the URL that is its name."""
    frame: int = 0
    frames: int = 0
    """Into so many equal parts a video is divided, and the image is the middle of the one numbered `frame`, from 0;
    0 parts: it is a still."""

    @property
    def is_video(self) -> bool:
        """Whether PyAV reads it."""
        return self.name.lower().endswith(VIDEOS)

    def digest(self) -> str:
        """What tells its content, or its URL, from others; OSError where its file cannot be read."""
        if isinstance(self.content, Path):
            status = self.content.stat()
            content = _digest_of_file(self.content, status.st_size, status.st_mtime_ns)
        else:
            content = _digest(io.BytesIO(self.name.encode() if self.content is None else self.content))
        return f"{content}:{self.frame}:{self.frames}"


def references(name: str, content: Path | bytes | None, frames: int) -> tuple[Image, ...]:
    """The image, or so many frames of it where it is a video or animated."""
    image = Image(name, content)
    if image.is_video or _is_animated(image):
        return tuple(Image(name, content, frame, frames) for frame in range(frames))
    return (image,)


def load(image: Image) -> "Pixels":
    """The pixels as RGB, upright; Unreadable where there are none, ExtraNeeded where a package lacks."""
    if image.is_video:
        return _frame_of_video(image)
    import PIL.Image
    import PIL.ImageOps

    try:
        # Pillow warns of what is large and of what is odd; what is large is refused, at half its own limit.
        with warnings.catch_warnings(), ExitStack() as opened:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            found = opened.enter_context(PIL.Image.open(_opened(image, opened), formats=FORMATS))
            if image.frames:
                found.seek(_middle(image, getattr(found, "n_frames", 1)))
            return _rgb(PIL.ImageOps.exif_transpose(found))
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        most = f"{PIL.Image.MAX_IMAGE_PIXELS:,}"
        raise Unreadable(f"has more than {most} pixels, which may be an attack on memory; make it smaller") from None
    except PIL.UnidentifiedImageError:
        known = f"{', '.join(FORMATS)}, and videos whose names end in {', '.join(VIDEOS)}"
        raise Unreadable(f"is no image that can be read; those are {known}") from None
    except _DAMAGED as error:
        raise _damaged(error) from None


def check(example: Example) -> Problem | None:
    """The first image of an example that cannot be looked at; each one is decoded.

    A BadRow where the image is to blame, any other Problem where no such image can be looked at on this machine.
    """
    for image in example.images:
        try:
            load(image)
        except Unreadable as error:
            frame = f", frame {image.frame + 1} of {image.frames}," if image.frames else ""
            return BadRow.at(example.source, example.line, f"{image.name}{frame} {error}")
        except ExtraNeeded as error:
            return Problem(example.where, f"{image.name} {error}")
    return None


def identity(examples: Iterable[Example | Problem]) -> str:
    """What changes when an image that rows name does, or comes, or goes; one behind a URL is told by that alone."""
    content = hashlib.blake2b(digest_size=16)
    for example in examples:
        if isinstance(example, Problem):
            content.update(f"{example.where}\0{example.message}\0".encode(errors="surrogateescape"))
            continue
        for image in example.images:
            try:
                digest = image.digest()
            except OSError as error:
                digest = f"cannot be read: {error.strerror}"
            content.update(f"{digest}\0".encode())
    return content.hexdigest()


def _is_animated(image: Image) -> bool:
    """Whether Pillow finds several frames; only the heads of frames are read."""
    if isinstance(image.content, Path) and not image.name.lower().endswith(ANIMATED):
        return False
    if image.content is None:
        return False
    import PIL.Image

    try:
        with warnings.catch_warnings(), ExitStack() as opened:
            warnings.simplefilter("ignore")
            return getattr(PIL.Image.open(_opened(image, opened), formats=("GIF", "WEBP")), "is_animated", False)
    except (*_DAMAGED, PIL.Image.DecompressionBombError):
        # `load` says what is wrong with it.
        return False


def _rgb(found: "Pixels") -> "Pixels":
    """In eight bits a colour; Pillow's own conversion would make a deep grey white."""
    if found.mode in _DEEP:
        return found.point(lambda grey: grey / 256).convert("L").convert("RGB")
    if found.mode in ("I", "F"):
        raise Unreadable("holds measurements of 32 bits and no colours; save it as PNG or JPEG")
    return found.convert("RGB")


def _frame_of_video(image: Image) -> "Pixels":
    """One frame, by its time: the frames from the last key frame on are decoded."""
    import PIL.Image

    try:
        import av
    except ImportError:
        raise ExtraNeeded("is a video, which PyAV reads; install it: pip install 'shardtune[video]'") from None
    try:
        with ExitStack() as opened:
            container = opened.enter_context(av.open(_opened(image, opened), "r"))
            if not container.streams.video:
                raise Unreadable("holds no video")
            stream = container.streams.video[0]
            if container.duration is None:
                raise Unreadable("does not say how long it is; write it anew, such as with ffmpeg -i OLD -c copy NEW")
            start = container.start_time or 0
            wanted = start + _middle(image, container.duration)
            container.seek(wanted)
            found = None
            for found in container.decode(stream):
                if found.time is not None and found.time * av.time_base >= wanted:
                    break
            if found is None:
                raise Unreadable("ends early; it was cut off, so copy it again")
            return PIL.Image.fromarray(found.to_ndarray(format="rgb24"))
    except (av.FFmpegError, OSError) as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> Unreadable:
    """What a library says of a file."""
    if isinstance(error, OSError) and error.strerror:
        return Unreadable(f"cannot be read: {error.strerror}")
    return Unreadable(f"does not decode: {str(error) or type(error).__name__}; it is damaged or was cut off")


def _middle(image: Image, length: int) -> int:
    """Where the image stands in a video of that length."""
    return length * (2 * image.frame + 1) // (2 * image.frames)


def _opened(image: Image, opened: ExitStack) -> IO[bytes]:
    """What the image stands in; it is closed with `opened`."""
    if isinstance(image.content, Path):
        return opened.enter_context(image.content.open("rb"))
    return io.BytesIO(_fetched(image.name) if image.content is None else image.content)


def _fetched(url: str) -> bytes:
    """What a server sends; Unreadable where it sends nothing of use."""
    request = urllib.request.Request(url, headers={"User-Agent": "shardtune"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            content: bytes = answer.read(MOST_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise Unreadable(f"cannot be fetched: the server says {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise Unreadable(f"cannot be fetched: {error}") from None
    if len(content) > MOST_BYTES:
        raise Unreadable(f"is more than {MOST_BYTES:,} bytes; make it smaller")
    return content


@functools.lru_cache(maxsize=256)
def _digest_of_file(path: Path, size: int, time: int) -> str:
    """Size and time tell a file that was changed."""
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()  # type: ignore[arg-type]
