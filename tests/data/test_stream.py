import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from data import rows, streamed
from distributed.pair import Pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.config.recipe import Recipe
from trainer.data import tokenizer as tokenizers
from trainer.data.batches import Batch, Streamed
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.data.stream import Position, Stream
from trainer.errors import DataError

Open = Callable[..., Stream]


def _layout(**changed: Any) -> Layout:
    return Layout(**{"global_": 4, "micro": 2, "packing": True, "micro_tokens": 256, "pad": 0, **changed})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 rows in one file, and 5 in another."""
    place = tmp_path_factory.mktemp("stream")
    rows.write(place / "many.jsonl", rows.completions(37))
    rows.write(place / "few.jsonl", [{"prompt": "few", "completion": f" {number}"} for number in range(5)])
    return place


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return tokenizers.load(rows.recipe(folder / "many.jsonl"), folder)


def _recipe(*paths: Path, weights: dict[int, float] | None = None, **data: Any) -> Recipe:
    recipe = rows.recipe(*paths, streaming=True, validation=None, **{"shuffle_buffer": 10, "max_length": 128, **data})
    train = [
        source.model_copy(update={"weight": (weights or {}).get(n, 1)}) for n, source in enumerate(recipe.data.train)
    ]
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": tuple(train)})})


@pytest.fixture
def opened(tokenizer: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens streams, and ends them after the test."""
    streams: list[Stream] = []

    def open_at(recipe: Recipe, position: dict[str, int] | None = None) -> Stream:
        start = Position(**(position or {}))
        streams.append(Stream(recipe, Encoder(recipe, tokenizer), tmp_path / "quarantine.jsonl", start))
        return streams[-1]

    yield open_at
    for stream in streams:
        stream.close()


def _said(examples: list[Encoded], tokenizer: Any) -> list[str]:
    return [tokenizer.decode(example.tokens, skip_special_tokens=True) for example in examples]


def _passes(stream: Stream, layout: Layout, tokenizer: Any, passes: int) -> list[list[list[str]]]:
    """What the steps of each pass say."""
    found: list[list[list[str]]] = [[] for _ in range(passes)]
    epoch = 0
    while epoch < passes:
        examples, position = stream.step(layout)
        found[epoch].append(_said(examples, tokenizer))
        epoch = position["epoch"]
    return found


def _all(steps: list[list[str]]) -> list[str]:
    return [text for step in steps for text in step]


EXPECTED = sorted(f"{number} plus {number} is {2 * number}." for number in range(37))


def test_a_pass_sees_every_row_once_in_an_order_of_its_own(folder: Path, opened: Open, tokenizer: Any) -> None:
    first, second = _passes(opened(_recipe(folder / "many.jsonl")), _layout(), tokenizer, 2)

    assert sorted(_all(first)) == sorted(_all(second)) == EXPECTED
    assert _all(first) != _all(second)
    assert [len(step) for step in first] == [4] * 9 + [1]


def test_rows_are_shuffled_within_their_block_alone(folder: Path, opened: Open, tokenizer: Any) -> None:
    (steps,) = _passes(opened(_recipe(folder / "many.jsonl", shuffle_buffer=10)), _layout(), tokenizer, 1)

    numbers = [int(text.split()[0]) for text in _all(steps)]
    blocks = [numbers[at : at + 10] for at in range(0, 37, 10)]
    assert [sorted(block) for block in blocks] == [list(range(at, min(at + 10, 37))) for at in range(0, 37, 10)]
    assert all(block != sorted(block) for block in blocks)


def test_without_shuffle_the_rows_come_as_they_stand(folder: Path, opened: Open, tokenizer: Any) -> None:
    (steps,) = _passes(opened(_recipe(folder / "many.jsonl", shuffle=False)), _layout(), tokenizer, 1)

    assert [int(text.split()[0]) for text in _all(steps)] == list(range(37))


def test_sources_take_turns_until_each_is_at_its_end(folder: Path, opened: Open, tokenizer: Any) -> None:
    recipe = _recipe(folder / "many.jsonl", folder / "few.jsonl", shuffle=False)

    (steps,) = _passes(opened(recipe), _layout(), tokenizer, 1)

    assert [text.startswith("few") for text in _all(steps)] == [False, True] * 5 + [False] * 32


@pytest.mark.parametrize("weight", [0.5, 2.0, 1.5])
def test_two_passes_see_rows_as_often_as_weights_say(folder: Path, opened: Open, tokenizer: Any, weight: float) -> None:
    recipe = _recipe(folder / "many.jsonl", folder / "few.jsonl", weights={0: weight})

    passes = _passes(opened(recipe), _layout(), tokenizer, 2)

    seen = Counter(text for steps in passes for text in _all(steps))
    assert {count for text, count in seen.items() if not text.startswith("few")} == {int(2 * weight)}
    assert len(seen) == 42
    assert {count for text, count in seen.items() if text.startswith("few")} == {2}


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.one_of(
        st.builds(dict, global_=st.integers(1, 12)),
        st.builds(dict, global_=st.none(), global_tokens=st.integers(60, 200)),
    ),
    buffer=st.integers(1, 45),
    stop=st.integers(1, 30),
    weight=st.sampled_from([1, 1, 0.5, 2]),
)
def test_a_stream_goes_on_with_the_next_example_after_a_stop_at_any_step(
    folder: Path, opened: Open, tokenizer: Any, size: dict[str, Any], buffer: int, stop: int, weight: float
) -> None:
    recipe = _recipe(folder / "many.jsonl", folder / "few.jsonl", weights={0: weight}, shuffle_buffer=buffer)
    layout = _layout(**size)
    uninterrupted, stopped = opened(recipe), opened(recipe)
    expected = [uninterrupted.step(layout) for _ in range(stop + 8)]
    for _ in range(stop - 1):
        stopped.step(layout)
    position = stopped.step(layout)[1]

    again = opened(recipe, position)
    found = [again.step(layout) for _ in range(8)]

    assert [place for _, place in found] == [place for _, place in expected[stop:]]
    assert [_said(step, tokenizer) for step, _ in found] == [_said(step, tokenizer) for step, _ in expected[stop:]]
    if layout.global_tokens is not None:
        assert all(sum(len(one.tokens) for one in step) <= layout.global_tokens for step, _ in expected)


def _tokens(batch: Batch) -> list[tuple[int, ...]]:
    assert batch.segments is not None
    return [tuple(part.tolist()) for part in batch.input_ids[0].split(batch.segments)] if batch.tokens else []


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.integers(1, 3), after=st.integers(1, 3), stop=st.integers(1, 12))
def test_no_example_is_lost_or_seen_twice_when_the_ranks_change_at_a_stop(
    folder: Path, opened: Open, before: int, after: int, stop: int
) -> None:
    recipe, layout = _recipe(folder / "many.jsonl"), _layout()

    def steps(ranks: int, position: dict[str, int] | None) -> list[Streamed]:
        return [Streamed(opened(recipe, position), layout, rank=rank, ranks=ranks) for rank in range(ranks)]

    seen: list[tuple[int, ...]] = []
    position: dict[str, int] | None = None
    for first, past, ranks in ((0, stop, before), (stop, 20, after)):
        shared = steps(ranks, position)
        for step in range(first, past):
            windows = [one.window(step) for one in shared]
            assert len({len(window.batches) for window in windows}) == 1
            seen += [example for window in windows for batch in window.batches for example in _tokens(batch)]
            position = windows[0].position

    # Twenty steps are two passes of ten.
    assert position is not None
    assert (position["epoch"], len(seen), len(set(seen))) == (2, 74, 37)
    assert set(Counter(seen).values()) == {2}


def test_the_last_step_can_be_had_again_and_older_ones_cannot(folder: Path, opened: Open) -> None:
    streamed = Streamed(opened(_recipe(folder / "many.jsonl")), _layout(), rank=0, ranks=1)

    first = streamed.window(5)

    assert streamed.window(5) is first
    assert streamed.window(6) is not first
    with pytest.raises(AssertionError, match="a stream has no way back"):
        streamed.window(3)


def test_rank_0_shares_what_it_reads_and_what_is_wrong(pair: Pair, folder: Path, tmp_path: Path) -> None:
    wrong = rows.write(tmp_path / "wrong.jsonl", [*rows.completions(99), {"prompt": "9" * 500, "completion": " 9"}])

    first, second = pair.run(streamed.on_this_rank, str(folder / "many.jsonl"), str(tmp_path / "one"), 1)
    refused = pair.run(streamed.on_this_rank, str(wrong), str(tmp_path / "two"), 2)

    # 37 examples are one step of the default 64; both ranks hold a half of its tokens.
    assert [len(step) for step in first] == [len(step) for step in second]
    assert sum(map(sum, first)) == pytest.approx(sum(map(sum, second)), rel=0.1)
    assert refused[0] == refused[1]
    assert "wrong.jsonl:100: has 5" in refused[0]


def _wrong(path: Path, *lines: int) -> Path:
    written = [json.dumps(row) for row in rows.completions(37)]
    for line in lines:
        written[line - 1] = json.dumps({"prompt": "no answer"})
    path.write_text("\n".join(written) + "\n", encoding="utf-8")
    return path


def _told(folder: Path) -> list[int]:
    path = folder / "quarantine.jsonl"
    return [json.loads(line)["line"] for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_a_wrong_row_ends_the_run(opened: Open, tmp_path: Path) -> None:
    stream = opened(_recipe(_wrong(tmp_path / "wrong.jsonl", 13)))

    with pytest.raises(DataError, match=r"wrong\.jsonl:13: has no completion"):
        for _ in count():
            stream.step(_layout())


def test_wrong_rows_may_be_left_out_and_are_told_in_the_first_pass(
    opened: Open, tokenizer: Any, tmp_path: Path
) -> None:
    recipe = _recipe(_wrong(tmp_path / "wrong.jsonl", 2, 13, 30), max_bad_rows=3)

    passes = _passes(opened(recipe), _layout(), tokenizer, 2)

    assert [len(_all(steps)) for steps in passes] == [34, 34]
    assert _told(tmp_path) == [2, 13, 30]


def test_one_wrong_row_too_many_ends_the_run_after_a_stop_too(opened: Open, tmp_path: Path) -> None:
    recipe = _recipe(_wrong(tmp_path / "wrong.jsonl", 2, 13, 30), max_bad_rows=2)
    stream = opened(recipe)
    position = [stream.step(_layout())[1] for _ in range(4)][-1]

    again = opened(recipe, position)

    assert position["bad"] == 1
    with pytest.raises(DataError, match=r"wrong\.jsonl:30: has no completion"):
        for _ in count():
            again.step(_layout())


def test_what_is_read_again_after_a_stop_is_told_once(opened: Open, tokenizer: Any, tmp_path: Path) -> None:
    recipe = _recipe(_wrong(tmp_path / "wrong.jsonl", 2, 13, 30), max_bad_rows=3)
    stream = opened(recipe)
    position = [stream.step(_layout())[1] for _ in range(4)][-1]
    stream.close()

    _passes(opened(recipe, position), _layout(), tokenizer, 1)

    assert _told(tmp_path) == [2, 13, 30]


def test_rows_that_are_too_long_are_left_out_or_told_or_cut(
    folder: Path, opened: Open, tokenizer: Any, tmp_path: Path
) -> None:
    data = rows.write(tmp_path / "long.jsonl", [{"prompt": "a", "completion": " b" * n} for n in (5, 90, 6)])

    (dropped,) = _passes(opened(_recipe(data, max_length=32, too_long="drop")), _layout(), tokenizer, 1)
    (cut,) = _passes(opened(_recipe(data, max_length=32, too_long="cut")), _layout(), tokenizer, 1)

    assert (len(_all(dropped)), len(_all(cut))) == (2, 3)
    with pytest.raises(DataError, match=r"long\.jsonl:2: has \d+ tokens, more than data\.max_length: 32"):
        opened(_recipe(data, max_length=32, too_long="error")).step(_layout())


def test_a_pass_without_anything_to_learn_ends_the_run(opened: Open, tmp_path: Path) -> None:
    data = rows.write(tmp_path / "long.jsonl", [{"prompt": "a" * 99, "completion": " b"}] * 3)

    with pytest.raises(DataError, match=r"data\.train: none of the rows of the stream holds anything to learn"):
        opened(_recipe(data, max_length=8, too_long="drop")).step(_layout())


def test_rows_of_small_weight_may_be_due_in_none_of_the_first_passes(
    folder: Path, opened: Open, tokenizer: Any
) -> None:
    stream = opened(_recipe(folder / "few.jsonl", weights={0: 0.1}))

    passes = _passes(stream, _layout(), tokenizer, 10)

    assert sorted(text for steps in passes for text in _all(steps)) == [f"few {number}" for number in range(5)]


def test_files_that_have_changed_since_a_stop_are_refused(opened: Open, tmp_path: Path) -> None:
    data = rows.write(tmp_path / "rows.jsonl", rows.completions(30))
    position = opened(_recipe(data)).step(_layout())[1]
    rows.write(data, rows.completions(31))

    with pytest.raises(DataError, match=r"data\.train: its files have .* put them back, or name another output"):
        opened(_recipe(data), position).step(_layout())


def test_lines_of_other_rows_stay_in_the_quarantine(opened: Open, tokenizer: Any, tmp_path: Path) -> None:
    recipe = _recipe(_wrong(tmp_path / "wrong.jsonl", 2, 13), max_bad_rows=3)
    path = tmp_path / "told.jsonl"
    path.write_text('{"line": 99}\n{"line": 2}\n', encoding="utf-8")

    with closing(Stream(recipe, Encoder(recipe, tokenizer), path, Position(), told=1)) as stream:
        _passes(stream, _layout(), tokenizer, 1)

    assert [json.loads(line)["line"] for line in path.read_text(encoding="utf-8").splitlines()] == [99, 2, 13]


def test_a_stream_is_closed_in_the_middle_of_a_block(opened: Open, tmp_path: Path) -> None:
    data = rows.write(tmp_path / "large.jsonl", rows.completions(100_000))
    stream = opened(_recipe(data, shuffle_buffer=100_000))

    began = time.monotonic()
    stream.close()

    assert time.monotonic() - began < 2


MEASURE = """
import json, resource, sys
from pathlib import Path
from data import rows
from trainer.data import tokenizer as tokenizers
from trainer.data.encode import Encoder
from trainer.data.packing import Layout
from trainer.data.stream import Position, Stream
folder, examples = Path(sys.argv[1]), int(sys.argv[2])
recipe = rows.recipe(folder / "large.jsonl", streaming=True, validation=None, max_length=2048)
small = rows.recipe(folder / "small.jsonl", streaming=True, validation=None, max_length=2048)
encoder = Encoder(recipe, tokenizers.load(small, folder))
encoder.encode([])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
stream = Stream(recipe, encoder, folder / "quarantine.jsonl", Position())
layout, seen = Layout(64, 4, True, 4096, 0), 0
while seen < examples:
    seen += len(stream.step(layout)[0])
stream.close()
print(json.dumps({"megabytes": peak() - before, "before": before}))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(250))
    rows.write(tmp_path / "small.jsonl", rows.completions(100))
    with (tmp_path / "large.jsonl").open("w", encoding="utf-8") as file:
        for number in range(32_000):
            file.write(json.dumps({"prompt": f"{number}", "completion": f" {text}", "unused": "x" * 9000}) + "\n")
    assert (tmp_path / "large.jsonl").stat().st_size > 300 * 2**20

    def measured(examples: int) -> float:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path), str(examples)], capture_output=True, text=True, check=True,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        return float(json.loads(done.stdout)["megabytes"])

    part, whole = measured(10_000), measured(32_000)
    assert whole <= 350
    assert whole <= 1.2 * part + 20
