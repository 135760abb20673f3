import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from data.image_rows import BLUE, RED, content, contents, greys, picture, read, said
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import images
from trainer.data.images import Image, Unreadable, identity, load
from trainer.data.row import BadRow

ANSWER = {"role": "assistant", "content": "A"}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The address of a server of a folder."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_allowed_url_is_fetched_when_it_is_looked_at(tmp_path: Path, url: str) -> None:
    values = {"prompt": "Q", "answer": "A", "image": f"{url}/a.png"}
    example = read(tmp_path, values, allow_urls=True)

    problem = images.check(example)
    picture(tmp_path / "a.png", BLUE)

    assert isinstance(problem, BadRow)
    assert f"{url}/a.png cannot be fetched: the server says 404" in said(problem)
    assert load(example.images[0]).getpixel((0, 0)) == BLUE
    assert images.check(example) is None


def test_a_server_that_is_not_there_or_sends_too_much_is_told(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setattr(images, "MOST_BYTES", 10)

    with pytest.raises(Unreadable, match="is more than 10 bytes"):
        load(Image(f"{url}/a.png", None))
    with pytest.raises(Unreadable, match="cannot be fetched"):
        load(Image("http://127.0.0.1:1/a.png", None))


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_is_frames_that_are_spread_evenly(tmp_path: Path, kind: str) -> None:
    greys(tmp_path / f"a.{kind}", 12)
    picture(tmp_path / "b.png")
    talk = [{"role": "user", "content": "See <video> and <image>"}, ANSWER]

    example = read(tmp_path, {"messages": talk, "images": [f"a.{kind}", "b.png"]}, frames=3)

    assert contents(example) == ["See ### and #", "A"]
    found = [load(image).getpixel((4, 4)) for image in example.images]
    assert np.abs(np.array(found[:3])[:, 0] - [20, 60, 100]).max() <= 2
    assert found[3] == RED


def test_an_animation_as_bytes_is_frames_too(tmp_path: Path) -> None:
    found = greys(tmp_path / "a.gif", 4).read_bytes()
    example = read(tmp_path, {"prompt": "Q", "answer": "A", "image": found}, frames=8)
    greys_of = [load(image).getpixel((0, 0)) for image in example.images]
    assert greys_of == [(10 * number,) * 3 for number in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert len({image.digest() for image in example.images}) == 8


@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_a_video_is_frames_that_are_spread_evenly(tmp_path: Path, ending: str) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / f"a.{ending}"), "w") as container:
        stream = container.add_stream("mpeg4" if ending == "mp4" else "libvpx", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.gop_size = "yuv420p", 7
        for number in range(20):
            pixels = np.full((64, 64, 3), 10 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())

    example = read(tmp_path, {"prompt": "Q", "answer": "A", "image": f"a.{ending}"}, frames=4)

    assert contents(example)[0] == "####Q"
    greys_of = np.array([np.asarray(load(image)).mean() for image in example.images])
    # A middle between two frames is either of them.
    assert np.abs(greys_of - [25, 75, 125, 175]).max() <= 9
    cut = tmp_path / f"a.{ending}"
    cut.write_bytes(cut.read_bytes()[:200])
    assert isinstance(images.check(example), BadRow)


def test_a_video_without_pyav_names_the_extra_and_is_no_fault_of_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    example = read(tmp_path, {"prompt": "Q", "answer": "A", "image": "a.mp4"})
    monkeypatch.setitem(sys.modules, "av", None)

    problem = images.check(example)

    assert not isinstance(problem, BadRow)
    assert "a.mp4 is a video, which PyAV reads; install it: pip install 'shardtune[video]'" in said(problem)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_truncated_image_is_named_with_its_row(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "whole", kind)
    found = (tmp_path / "whole").read_bytes()
    (tmp_path / "a.img").write_bytes(found[: len(found) // 2])

    problem = images.check(read(tmp_path, {"prompt": "Q", "answer": "A", "image": "a.img"}))

    assert isinstance(problem, BadRow)
    assert "a.img does not decode" in said(problem)


@pytest.mark.parametrize("found", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_told(tmp_path: Path, found: bytes) -> None:
    (tmp_path / "a.png").write_bytes(found)
    problem = images.check(read(tmp_path, {"prompt": "Q", "answer": "A", "image": "a.png"}))
    assert "a.png is no image that can be read; those are BMP, GIF, JPEG" in said(problem)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    example = read(tmp_path, {"prompt": "Q", "answer": "A", "image": "a.png"})
    (tmp_path / "a.png").unlink()
    assert "a.png cannot be read: No such file" in said(images.check(example))


@pytest.mark.parametrize("size", [11, 20])
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    # Pillow warns above its limit, and raises above twice of it.
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 110)
    values = {"prompt": "Q", "answer": "A", "image": content("PNG", size=size)}
    assert "has more than 110 pixels" in said(images.check(read(tmp_path, values)))


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    kept=st.floats(0, 1),
)
def test_a_damaged_image_is_looked_at_or_told(kind: str, changes: list[tuple[float, int]], kept: float) -> None:
    found = bytearray(content(kind))
    for place, value in changes:
        found[int(place * len(found))] = value
    try:
        (first, *_) = images.references("a", bytes(found[: int(kept * len(found))]), frames=2)
        assert load(first).mode == "RGB"
    except Unreadable as error:
        assert str(error)


def test_a_deep_grey_stays_grey_and_a_turned_image_is_upright(tmp_path: Path) -> None:
    PIL.Image.new("I;16", (8, 8), 128 * 256).save(tmp_path / "a.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (8, 4)).save(tmp_path / "b.jpg", exif=exif)
    PIL.Image.new("F", (8, 8)).save(tmp_path / "c.tiff")

    assert load(Image("a", tmp_path / "a.png")).getpixel((0, 0)) == (128, 128, 128)
    assert load(Image("b", tmp_path / "b.jpg")).size == (4, 8)
    with pytest.raises(Unreadable, match="no colours"):
        load(Image("c", tmp_path / "c.tiff"))


def test_images_are_told_by_what_they_hold(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "answer": "A", "image": name} for name in ("a.png", "b.png")]

    def told() -> str:
        return identity(read(tmp_path, row) for row in rows)

    picture(tmp_path / "a.png")
    without = told()
    picture(tmp_path / "b.png")
    red = told()
    picture(tmp_path / "b.png", BLUE)
    blue = told()
    picture(tmp_path / "b.png")

    assert len({without, red, blue}) == 3
    assert told() == red
