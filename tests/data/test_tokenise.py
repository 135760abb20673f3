import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import a_model
import numpy as np
import pytest
from data import rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer import ranks
from trainer.data import corpus, tokenizer
from trainer.data.chunk import Wanted
from trainer.data.encode import Encoder
from trainer.data.findings import Findings
from trainer.data.sources import train_sources
from trainer.data.store import Store
from trainer.data.tokenise import Tokeniser, tokenise
from trainer.errors import RunError

EVERYTHING = Wanted(of_tokens=("types",), columns=("prompt", "none"), signatures=True, texts=True)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer that has learned of no rows."""
    folder = tmp_path_factory.mktemp("words")
    return tokenizer.load(rows.recipe(rows.write(folder / "a.jsonl", rows.completions(9))), folder)


def stored(
    folder: Path, words: Any, *files: Path, workers: int | None, wanted: Wanted = EVERYTHING, **data: Any
) -> Store:
    recipe = rows.recipe(*files, **data)
    folder.mkdir()
    sources, encoder = train_sources(recipe.data), Encoder(recipe, words)
    tokenise(Tokeniser(recipe.data, sources, encoder, wanted), Findings(99), folder, workers)
    return Store(folder)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_store_is_the_same_whatever_the_number_of_processes(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.data.tokenise.CHUNK_CHARACTERS", 500)
    monkeypatch.setattr("trainer.data.tokenise.FEW_CORES", ranks.cores())
    many = [*rows.completions(400), {"prompt": "x"}, {"prompt": "", "completion": ""}, *rows.completions(300)]
    files = [rows.write(tmp_path / name, many) for name in ("a.jsonl", "b.jsonl")]

    contents = [
        content(stored(tmp_path / str(count), words, *files, workers=count, clean={"min_characters": 3}).folder)
        for count in (1, 2, 3, None)
    ]

    assert contents[0] == contents[1] == contents[2] == contents[3]
    assert {"tokens.npy", "signatures.npy", "column.1.npy", "types.npy", "left_out.jsonl"} <= set(contents[0])


def test_a_store_does_not_depend_on_the_size_of_chunks(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = rows.write(tmp_path / "a.jsonl", rows.completions(60))
    whole = stored(tmp_path / "whole", words, file, workers=1)
    monkeypatch.setattr("trainer.data.tokenise.CHUNK_ROWS", 7)
    assert content(stored(tmp_path / "parts", words, file, workers=1).folder) == content(whole.folder)


def test_a_store_tells_of_each_row_what_it_was(tmp_path: Path, words: Any) -> None:
    made = [*rows.completions(3), *rows.completions(1)]
    a, b = (
        rows.write(tmp_path / "a.jsonl", made),
        rows.write(tmp_path / "b.jsonl", [{"prompt": "p", "completion": "c"}]),
    )

    store = stored(tmp_path / "store", words, a, b, workers=1)

    facts = store.facts()
    assert [facts.where(row) for row in range(len(facts))] == [*(f"{a}:{line}" for line in (1, 2, 3, 4)), f"{b}:1"]
    assert facts.source.tolist() == [0, 0, 0, 0, 1]
    assert facts.digest[0] == facts.digest[3] and len(set(facts.digest.tolist())) == 4
    assert [facts.columns["prompt"].values[code] for code in facts.columns["prompt"].codes] == [
        row["prompt"] for row in made
    ] + ["p"]
    assert facts.columns["none"].values == (None,)
    assert facts.signatures is not None and facts.signatures.shape == (5, 128)
    assert len(store.texts()) == 5 and store.info.read == {"data.train.0": 4, "data.train.1": 1}


def test_without_an_encoder_only_facts_are_kept(tmp_path: Path) -> None:
    recipe = rows.recipe(rows.write(tmp_path / "a.jsonl", rows.completions(3)))
    (tmp_path / "store").mkdir()

    tokenise(Tokeniser(recipe.data, train_sources(recipe.data), None, Wanted()), Findings(), tmp_path / "store", 1)

    facts = Store(tmp_path / "store").facts()
    assert len(set(facts.digest.tolist())) == 3 and facts.length.tolist() == [0, 0, 0]


@cache
def bytewise(folder: str) -> Any:
    """A tokenizer whose tokens are bytes."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(a_model.save(Path(folder)))


_TEXTS = st.lists(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1), min_size=1)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=_TEXTS, room=st.integers(2, 40))
def test_the_parts_of_a_text_are_the_text(
    texts: list[str], room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    file = rows.write(folder / "a.jsonl", [{"text": text} for text in texts])
    words = bytewise(str(tmp_path_factory.getbasetemp() / "bytes"))
    options = {"format": "text", "too_long": "split", "max_length": room, "wanted": Wanted(), "workers": 1}

    store = stored(folder / "store", words, file, **options)

    numbers = np.arange(len(texts))
    split = store.split(numbers)
    joined: list[list[int]] = [[] for _ in texts]
    for example, row in enumerate(store.row_of(numbers)):
        assert 2 <= split.lengths[example] <= room
        joined[row].extend(split.tokens(example).tolist())
    for text, tokens in zip(texts, joined, strict=True):
        whole = [*words(text)["input_ids"], words.eos_token_id]
        # A single token at the end, which nothing predicts, is left out.
        assert tokens == (whole[:-1] if len(whole) % room == 1 and len(whole) > room else whole)
    assert store.info.divided == sum(len(tokens) > room for tokens in joined)
    assert store.info.cut == sum(len(text) % room == 0 for text in texts)


def test_a_process_that_dies_leaves_nothing_in_the_cache(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.data.tokenise.CHUNK_CHARACTERS", 500)
    monkeypatch.setattr("trainer.data.tokenise.FEW_CORES", ranks.cores())
    file = rows.write(tmp_path / "a.jsonl", rows.completions(20_000))
    recipe = rows.recipe(file, workers=2)
    threading.Thread(target=_kill_a_child, args=(os.getpid(),), daemon=True).start()

    with pytest.raises(RunError, match=r"a process that turns rows into tokens ended \(SIGKILL"):
        corpus.prepare(recipe, words, tmp_path / "run")

    assert list((tmp_path / "run" / "data").iterdir()) == []


def _kill_a_child(process: int) -> None:
    children = Path(f"/proc/{process}/task/{process}/children")
    while not (found := [int(child) for child in children.read_text().split() if _serves(child)]):
        time.sleep(0.01)
    os.kill(found[0], signal.SIGKILL)


def _serves(process: str) -> bool:
    """Whether it turns rows into tokens; other tests may have left children of theirs."""
    return b"processes.serve" in Path(f"/proc/{process}/cmdline").read_bytes()


_PEAK = """
import sys
from pathlib import Path
from data.rows import recipe
from trainer.data import corpus, tokenise
from transformers import PreTrainedTokenizerFast
tokenise.CHUNK_CHARACTERS = 40_000
words = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
corpus.prepare(recipe(Path(sys.argv[2]), workers=int(sys.argv[4])), words, Path(sys.argv[3]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, words: Any, workers: int) -> None:
    words.save_pretrained(tmp_path / "words")
    peaks = []
    for megabytes in (1, 4):
        file = tmp_path / f"{megabytes}.jsonl"
        with file.open("w") as lines:
            for number in range(megabytes * 1000):
                row = {"prompt": f"{number}: ", "completion": f"{number} is a number. " * 45}
                lines.write(json.dumps(row) + "\n")
        run = tmp_path / f"run{megabytes}"
        command = [sys.executable, "-c", _PEAK, *map(str, (tmp_path / "words", file, run, workers))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=_with_tests_on_the_path())
        peaks.append(int(done.stdout) / 1024)

    # In MiB: 3 MB of rows more, and no 3 MB of tokens of four bytes.
    assert peaks[1] - peaks[0] < 2


def _with_tests_on_the_path() -> dict[str, str]:
    here = Path(__file__).parents[1]
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
