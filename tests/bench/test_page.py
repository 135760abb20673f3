import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.made import failed, of, run, suite

from trainer.bench import page
from trainer.errors import RunError

SWEEP = {"values": [1, 2], "keys": ["batch.micro"], "fits": {"peak_memory": 1.0}}


def test_the_page_holds_all_plots_and_needs_nothing_else(tmp_path: Path) -> None:
    own = suite(variants={"a <b>": None, "c": None}, reference=None, sweeps={"size": SWEEP})
    page.write(
        of(own, [[run(1000.0)] * 3, [failed(error="<script>")], [run(1.0)], [run(2.0, memory=500)]]), tmp_path / "p"
    )

    text = (tmp_path / "p").read_text(encoding="utf-8")
    drawn = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert [svg.get("aria-label") for svg in drawn] == [
        "Tokens a second",
        "Peak memory",
        "What no other row beats in both speed and memory",
        "size: peak memory",
    ]
    assert "a &lt;b&gt;" in text
    assert "<script>" not in text
    assert re.findall(r"(?:src|href)=", text) == []


def test_a_page_of_nothing_but_failures_is_written(tmp_path: Path) -> None:
    page.write(of(suite(), [[failed()], [failed()]]), tmp_path / "p")

    assert "memory ran out" in (tmp_path / "p").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        page.write(of(suite(), [[], []]), tmp_path / "none" / "p")
