"""`data:` the rows, and what the model sees of them."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section

Format = Literal[
    "completion",
    "instruction",
    "chat",
    "text",
    "pair",
    "table",
    "triples",
    "words",
    "entities",
    "relation",
    "triple",
    "ranking",
    "image",
    "image_text",
]

Script = Literal[
    "Arabic",
    "Armenian",
    "Bengali",
    "Bopomofo",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Kannada",
    "Katakana",
    "Khmer",
    "Lao",
    "Latin",
    "Malayalam",
    "Mongolian",
    "Myanmar",
    "Oriya",
    "Sinhala",
    "Syriac",
    "Tamil",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
]
"""A way of writing, by its name in Unicode."""


class Source(Section):
    """Rows of one format, from files or from a set of the `datasets` library."""

    path: str | tuple[str, ...]
    """Files or globs (JSONL, JSON, CSV, TSV, Parquet, Arrow), a folder of text files, a folder that `datasets` saved,
    a hub name, or `builtin:stdlib`: the documented functions of Python's standard library."""
    format: Format
    """completion {prompt, completion}; instruction {instruction, input, output}; chat {messages}; text {text};
    pair {texts (or text_a, text_b), label}; table {table, question, answer}; triples {triples, question, answer};
    words {words, tags}; relation {text, head, tail}; triple {head, relation, tail};
    ranking {query, candidates}; image {image};
    image_text {messages, images}."""
    fields: dict[str, str] = Field(default_factory=dict)
    """The file's own names: format field -> column, such as {instruction: question, output: answer}."""
    weight: float = Field(1.0, gt=0.0)
    """How often an epoch sees each row: 2 twice, 0.5 every other epoch's half."""
    task: str | None = None
    """Which of the tasks of `task.kind: multi_task` its rows are for."""
    split: str | None = None
    """The split of a `datasets` folder or hub name, such as train."""
    config: str | None = None
    """The configuration of a hub name that has several."""
    revision: str | None = None
    """The commit, tag or branch of a hub name."""
    encoding: str | None = None
    """Of text files, such as latin-1; null: UTF-8, or what is detected, and said."""
    table: Literal["markdown", "rows", "key_value"] = "markdown"
    """How the format `table` writes a table out."""
    entity: str | None = None
    """The column of the format `triples` that names an entity: the subgraph around it is written out."""
    hops: int = Field(1, ge=1)
    """How far from the entity a triple may stand."""
    image_folder: str | None = None
    """Where the image paths of the format `image_text` begin; null: beside the file."""
    allow_urls: bool = False
    """Whether images may be fetched over the network."""
    frames: int = Field(8, ge=1)
    """Frames that a video is sampled to, evenly."""


class HeldOut(Section):
    """Rows taken out of the training rows, by the seed and not by their order; rows that say the same stay together,
    but for `group`.
    """

    fraction: float = Field(0.05, gt=0.0, lt=1.0)
    """Share of all rows of data.train."""
    stratify: str | None = None
    """A column, one label or a list of labels: each has its share in every split, and at least one training row."""
    group: str | None = None
    """A column: rows with the same value stand in the same split; a row without a value is a group of its own."""
    time: str | None = None
    """A column, a number or an ISO date: the latest rows are held out, those of test after those of validation."""


class Clean(Section):
    """What is mended in a row, and which rows are left out; each of those is told in quarantine.jsonl."""

    unicode: Literal["none", "NFC", "NFKC"] = "none"
    """The Unicode normal form that text is brought to."""
    control_characters: bool = False
    """Remove control characters other than tab and line end; every line end becomes that of Unix."""
    white_space: bool = False
    """Runs of spaces become one, three or more line ends two, and the ends of what stands by itself are bare: of a
    message, of a text; not where a prompt and its completion meet."""
    markup: bool = False
    """Replace HTML by its text, and entities such as &amp; by their characters, once."""
    min_characters: int = Field(0, ge=0)
    """Leave out rows that say less."""
    max_characters: int | None = Field(None, ge=1)
    """Leave out rows that say more."""
    scripts: tuple[Script, ...] = ()
    """Leave out rows of whose letters less than half are of these scripts, such as [Latin, Greek]."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Keep one of the rows that say the same, or nearly the same."""
    similarity: float = Field(0.8, gt=0.0, le=1.0)
    """Jaccard similarity of five-character shingles from which rows are nearly the same; system prompts and tools,
    which rows share, are left aside."""
    leakage: Literal["report", "drop", "error"] = "report"
    """Training rows that also stand in validation, in test or in a benchmark: told, left out, or refused."""
    benchmarks: tuple[Source, ...] = ()
    """Rows that training must not see, such as a public test set."""
    label_noise: str | None = None
    """A column with labels: rows whose label others contradict are listed in review.jsonl, and kept."""


class PseudoLabel(Section):
    """Unlabelled rows that a finished run labels; what it is sure of joins the training rows, marked."""

    run: str
    """The folder of the finished run."""
    rows: tuple[Source, ...] = Field(min_length=1)
    """Rows of the run's own formats, whose answers are absent."""
    confidence: float = Field(0.9, ge=0.0, le=1.0)
    """Mean probability of the answer's tokens (geometric) from which a row is taken."""
    max_tokens: int = Field(128, ge=1)
    """Tokens of the longest answer."""


class Data(Section):
    """Where the rows come from, and how they become rows of tokens."""

    train: tuple[Source, ...] = Field(min_length=1)
    """The training rows: all rows of all sources."""
    validation: HeldOut | tuple[Source, ...] | None = Field(default_factory=HeldOut)
    """A share held out, sources of their own, or null for none."""
    test: HeldOut | tuple[Source, ...] | None = None
    """Rows that the final model alone is measured on: a share held out, sources of their own, or null for none."""
    max_length: int = Field(2048, ge=2)
    """Tokens of the longest example."""
    too_long: Literal["cut", "drop", "error", "split"] = "cut"
    """What happens to a longer example: its end is cut, it is left out, the run is refused, or (text alone) it becomes
    several."""
    packing: bool = True
    """Lay the examples of a step end to end without padding; attention stays inside each example."""
    shuffle: bool = True
    """A new seeded order for each epoch; false keeps the order of the files."""
    template: Literal["auto", "tokenizer", "chatml", "plain"] = "auto"
    """How chat and instruction rows are written out: the tokenizer's own template, or a built-in one; auto: the
    tokenizer's where it has one, else plain."""
    learn: Literal["auto", "assistant", "last_assistant", "completion", "all"] = "auto"
    """What is learned, the end of turn included; auto: the assistant's turns, the completion, all of a text."""
    clean: Clean = Field(default_factory=Clean)
    """What is mended or left out before training."""
    pseudo_label: PseudoLabel | None = None
    """Rows that a finished run labels."""
    max_bad_rows: int = Field(0, ge=0)
    """Rows that may be wrong and are left out; one more, and the run is refused."""
    workers: int | None = Field(None, ge=1)
    """Processes that turn rows into tokens; null: as many as there are cores, or threads of one where those are few."""
    cache: bool = True
    """Keep tokens for other runs over the same rows, in ~/.cache/shardtune; false: in the run folder alone."""
    streaming: bool = False
    """Turn rows into tokens while training, for sets larger than the disk; needs train.max_steps, and validation
    rows of their own or null."""
    shuffle_buffer: int = Field(10_000, ge=1)
    """Rows of a stream that are shuffled among themselves; two times as many are in memory."""
