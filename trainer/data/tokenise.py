"""From the rows of a list of sources to a store of their tokens, in several processes."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import ranks
from trainer.config.data import Data, Source
from trainer.config.rerank import Rerank
from trainer.data.borders import Counts
from trainer.data.chunk import Chunk, Making, Wanted
from trainer.data.clean import Cleaner
from trainer.data.encode import Encoder, Planned
from trainer.data.encoded import Encoded, Tokens
from trainer.data.example import Example
from trainer.data.findings import LOOKED_AT, Findings
from trainer.data.fit import fit
from trainer.data.formats import parse
from trainer.data.images import check
from trainer.data.processes import in_order
from trainer.data.ranking import tells_nothing
from trainer.data.reading import read_for
from trainer.data.row import BadRow, LeftOut, Reason, Row
from trainer.data.sources import notes, read
from trainer.data.store import Writer
from trainer.errors import Problem

CHUNK_ROWS = 1000
CHUNK_CHARACTERS = 500_000
"""Rows are handed out together until there are so many of either; tokens take 100 bytes each until they are arrays."""
FEW_CORES = 4
"""Up to so many, the tokenizer's own threads keep them busy, and other processes would cost more than they bring."""
AHEAD = 3
"""Stretches that the tokenizer works on or may go on with; two threads wait for it, so that it never waits for one."""

Sources = Sequence[tuple[str, Source]]


@dataclass(frozen=True)
class Stretch:
    """Rows that stand together in a source."""

    source: int
    """The number of the source in its list."""
    first: int
    """Rows of the source before them."""
    rows: Sequence[Row | Problem]


@dataclass(frozen=True)
class Begun:
    """Rows between their text and their tokens."""

    making: Making
    source: Source
    sound: list[tuple[int, Example]]
    """What is tokenised, each with the number of its row in the source."""
    planned: Planned | None
    """Without an encoder there is nothing to tokenise."""


class Tokeniser:
    """Turns rows of some sources into arrays. It pickles, so that other processes can do it too."""

    def __init__(self, data: Data, sources: Sources, encoder: Encoder | None, wanted: Wanted) -> None:
        """Without an encoder, nothing is kept of rows but what is known of them besides their tokens."""
        self.data, self.sources, self.encoder, self.wanted = data, sources, encoder, wanted
        self.clean = Cleaner(data.clean)

    def __call__(self, stretch: Stretch) -> Chunk:
        """What becomes of some rows."""
        begun = self.begin(stretch)
        return self.end(begun, self.tokens(begun))

    def begin(self, stretch: Stretch) -> "Begun":
        """Reads what rows say, and cleans it."""
        key, source = self.sources[stretch.source]
        making = Making(stretch.source, len(stretch.rows), self.wanted)
        sound: list[tuple[int, Example]] = []
        for number, row in enumerate(stretch.rows, start=stretch.first):
            example = self._said(row, source, key) if isinstance(row, Row) else row
            if isinstance(example, Problem):
                making.wrong.append((number, _of_row(example, row)))
            elif isinstance(cleaned := self.clean(example), str):
                making.left_out.append(LeftOut("cleaned away", example.source, example.line, cleaned))
            elif (why := self._tells_nothing(cleaned)) is not None:
                making.left_out.append(LeftOut("no positive candidate", example.source, example.line, why))
            elif (unseen := check(cleaned)) is not None:
                making.wrong.append((number, unseen))
            else:
                sound.append((number, cleaned))
        planned = None if self.encoder is None else self.encoder.write([example for _, example in sound])
        return Begun(making, source, sound, planned)

    def _said(self, row: Row, source: Source, key: str) -> Example | Problem:
        """What a row says; of one that is not trained on, all of it."""
        return parse(row, source, key) if self.encoder is None else read_for(self.encoder.task, row, source, key)

    def _tells_nothing(self, example: Example) -> str | None:
        """Why a query is of no use; None where the row is none, or is."""
        task = None if self.encoder is None else self.encoder.task
        return tells_nothing(example.columns[task.relevance]) if isinstance(task, Rerank) else None

    def tokens(self, begun: "Begun") -> Sequence[tuple[Tokens, Counts]]:
        """The tokens of their texts; other threads go on meanwhile."""
        return () if self.encoder is None or begun.planned is None else self.encoder.tokens(begun.planned)

    def end(self, begun: "Begun", tokens: Sequence[tuple[Tokens, Counts]]) -> Chunk:
        """Puts the arrays together."""
        making = begun.making
        if self.encoder is None or begun.planned is None:
            for _, example in begun.sound:
                making.keep(example, 0, [])
        else:
            encoded = self.encoder.join(begun.planned, tokens)
            for (number, example), row in zip(begun.sound, encoded, strict=True):
                self._fit(making, number, example, begun.source, row)
        return making.made()

    def _fit(self, making: Making, number: int, example: Example, source: Source, row: Encoded | Problem) -> None:
        """One row within `data.max_length`."""
        assert self.encoder is not None, "nothing else makes tokens"
        learns = self.encoder.task.learns_tokens
        needed = self.encoder.needed if source.format == "relation" else ()
        fitted: list[Encoded] | BadRow | LeftOut | Problem = row if isinstance(row, Problem) else []
        if isinstance(row, Encoded):
            fitted = fit(self.data, source.format, row, example, learns=learns, needed=needed)
        if isinstance(fitted, Problem):
            making.wrong.append((number, _of_row(fitted, example)))
        elif isinstance(fitted, LeftOut):
            making.left_out.append(fitted)
        elif isinstance(row, Encoded):
            making.keep(example, len(row.tokens) + row.lost, fitted)


def tokenise(tokeniser: Tokeniser, findings: Findings, folder: Path, processes: int | None) -> None:
    """The store of all rows of the sources, made by so many processes (None: as suits this machine); what is wrong goes
    to the findings.

    Once those refuse the run, the first rows of each source are looked at, and the store is of no use.
    """
    reading = _Reading(tokeniser.sources, findings)
    tokens: dict[Reason, tuple[int, int]] = {}
    with Writer(folder, tokeniser.wanted) as store:
        for chunk in _made(tokeniser, reading.stretches(), processes):
            if reading.tell(chunk) and not findings:
                store.add(tokeniser.sources[chunk.source][0], chunk)
                for row in chunk.left_out:
                    least, most = tokens.get(row.reason, (row.tokens, row.tokens))
                    tokens[row.reason] = min(least, row.tokens), max(most, row.tokens)
        store.info.notes = notes()
    if store.info.rows == 0 and not findings:
        key = tokeniser.sources[0][0].rpartition(".")[0]
        findings.add(key, _nothing_left(key, tokeniser.data.max_length, store.info.left_out, tokens))


def _made(tokeniser: Tokeniser, stretches: Iterator[Stretch], processes: int | None) -> Iterator[Chunk]:
    """What becomes of each stretch, in order."""
    cores = ranks.cores()
    if processes is not None or cores > FEW_CORES:
        yield from in_order(tokeniser, stretches, processes or cores)
        return
    # This thread is ahead with the rows while the tokenizer has the other cores.
    with ranks.all_tokenizer_threads(), ThreadPoolExecutor(max_workers=2) as threads:
        held = deque[tuple[Begun, Future[Sequence[tuple[Tokens, Counts]]]]]()
        for stretch in stretches:
            begun = tokeniser.begin(stretch)
            held.append((begun, threads.submit(tokeniser.tokens, begun)))
            if len(held) > AHEAD:
                begun, tokens = held.popleft()
                yield tokeniser.end(begun, tokens.result())
        for begun, tokens in held:
            yield tokeniser.end(begun, tokens.result())


class _Reading:
    """Reads rows in stretches, and stops where no more of a source need be known."""

    def __init__(self, sources: Sources, findings: Findings) -> None:
        self.sources, self.findings = sources, findings
        self._seen = [0] * len(sources)

    def stretches(self) -> Iterator[Stretch]:
        """The rows of all sources in order."""
        for number, (_, source) in enumerate(self.sources):
            first, rows, characters = 0, list[Row | Problem](), 0
            for row in read(source):
                rows.append(row)
                characters += _characters(row.values) if isinstance(row, Row) else 0
                if len(rows) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
                    yield Stretch(number, first, rows)
                    first, rows, characters = first + len(rows), [], 0
                    if self._is_enough(number):
                        break
            if rows:
                yield Stretch(number, first, rows)

    def tell(self, chunk: Chunk) -> bool:
        """Adds what is wrong with rows to the findings; whether the chunk still matters."""
        if self._is_enough(chunk.source):
            return False
        key, _ = self.sources[chunk.source]
        for number, problem in chunk.wrong:
            if not self.findings or number < LOOKED_AT:
                self.findings.add(key, problem)
        self._seen[chunk.source] += chunk.rows
        return True

    def _is_enough(self, source: int) -> bool:
        return bool(self.findings) and self._seen[source] >= LOOKED_AT


def _characters(value: Any) -> int:
    """About how long the text in a value is."""
    # Sets of the hub may bring other kinds of mappings; to ask for those takes long.
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum([_characters(part) for part in value.values()])
    if isinstance(value, list | tuple):
        return sum([_characters(part) for part in value])
    return sum(map(_characters, value.values())) if isinstance(value, Mapping) else 8


def _of_row(problem: Problem, row: Row | Example | Problem) -> Problem:
    """A problem as one of this row alone, where it is."""
    if isinstance(problem, BadRow) or isinstance(row, Problem):
        return problem
    return BadRow.at(row.source, row.line, problem.message)


def _nothing_left(key: str, room: int, counts: Mapping[str, int], tokens: Mapping[Reason, tuple[int, int]]) -> Problem:
    """Why no row of a list of sources is left."""
    if "too long" in tokens:
        least, most = tokens["too long"]
        message = f"all rows are longer than {room} tokens ({least:,} to {most:,}) and left out; raise it, or set"
        return Problem("data.max_length", f"{message} data.too_long: cut ({key})")
    if "learned part cut off" in tokens:
        least, most = tokens["learned part cut off"]
        message = f"{room} tokens leave nothing to learn in any row of {key}: what is learned begins after"
        return Problem("data.max_length", f"{message} {least:,} to {most:,} tokens; raise it")
    if "cleaned away" in tokens:
        return Problem("data.clean", f"leaves out all {counts['cleaned away']:,} rows of {key}; ask for less")
    if "no positive candidate" in tokens:
        lacking = counts["no positive candidate"]
        message = f"none of its {lacking:,} queries has a candidate to learn from: a right one beside a wrong one"
        return Problem(key, message)
    rows = counts.get("nothing learned", 0)
    return Problem(
        key, f"none of its {rows:,} rows holds anything to learn; check the format, and that answers are not empty"
    )
