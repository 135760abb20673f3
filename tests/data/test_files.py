import gzip
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest

from trainer.config.data import Source
from trainer.data.files import File, HubSet, parts
from trainer.data.row import BadRow, Row
from trainer.data.sources import read
from trainer.errors import DataError


def source(*paths: str | Path, **keys: Any) -> Source:
    names = [str(path) for path in paths]
    return Source(path=names[0] if len(names) == 1 else tuple(names), format="text", **keys)


def names(wanted: Source) -> list[str]:
    return [part.name for part in parts(wanted)]


def wrong(wanted: Source) -> list[str]:
    with pytest.raises(DataError) as raised:
        parts(wanted)
    return [str(problem) for problem in raised.value.problems]


def texts(wanted: Source) -> list[str]:
    found = list(read(wanted))
    assert all(isinstance(row, Row) for row in found), found
    return [row.values["text"] for row in found if isinstance(row, Row)]


def fill(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps({"text": path}) + "\n")
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.JSONL", "jsonl"),
        ("a.json-lines", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.json", "json"),
        ("a.csv", "csv"),
        ("a.tsv", "tsv"),
        ("a.txt", "text"),
        ("a.md", "text"),
        ("a.parquet", "parquet"),
        ("a.arrow", "arrow"),
        ("a.jsonl.gz", "jsonl"),
        ("a.CSV.GZ", "csv"),
    ],
)
def test_the_ending_chooses_the_reader(tmp_path: Path, name: str, kind: str) -> None:
    fill(tmp_path, name)
    assert parts(source(tmp_path / name)) == [File(f"{tmp_path}/{name}", tmp_path / name, kind)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trian.jsonl", "did you mean"),
        ("other.jsonl", "holds blank.jsonl, empty.jsonl, train.jsonl"),
        ("nowhere/train.jsonl", "there is no folder"),
        ("empty.jsonl", "is empty"),
        ("train.xlsx", "ends in .xlsx; the files that can be read end in .jsonl"),
        ("train", "has no ending"),
        ("train.parquet.gz", "ends in .gz"),
        ("*.csv", "matches no file; "),
        ("nowhere/*.csv", "matches no file; there is no folder"),
        ("folder", "is a folder without a file that ends in .jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_says_the_way_out(tmp_path: Path, name: str, said: str) -> None:
    fill(tmp_path, "train.jsonl", "train.xlsx", "train", "train.parquet.gz")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n \n")
    [problem] = wrong(source(tmp_path / name))
    assert problem.startswith(f"{tmp_path}/{name}: ") and said in problem


def test_all_that_is_wrong_with_several_files_is_said_at_once(tmp_path: Path) -> None:
    fill(tmp_path, "a.jsonl", "b.doc")
    found = wrong(source(*(tmp_path / name for name in ("*.jsonl", "b.doc", "c.jsonl", "a.jsonl"))))
    assert [problem.split(": ")[0] for problem in found] == [
        f"{tmp_path}/{name}" for name in ("b.doc", "c.jsonl", "a.jsonl")
    ]
    assert found[-1].endswith("is named twice; name it once")
    fill(tmp_path, "folder/c.doc")
    (tmp_path / "e.jsonl").touch()
    (tmp_path / "f.jsonl").symlink_to("nowhere")
    found = wrong(source(tmp_path / "?.*"))
    assert [problem.split(": ")[0] for problem in found] == [
        f"{tmp_path}/{name}" for name in ("b.doc", "e.jsonl", "f.jsonl")
    ]


def test_files_are_read_in_the_order_of_the_recipe_and_those_of_a_glob_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.jsonl", "b/10.jsonl", "a/1.jsonl", "a/deep/3.jsonl", "b/.hidden.jsonl")
    wanted = source(tmp_path / "b" / "*.jsonl", tmp_path / "a" / "**" / "*.jsonl")
    assert texts(wanted) == ["b/10.jsonl", "b/2.jsonl", "a/1.jsonl", "a/deep/3.jsonl"]
    rows = [row for row in read(wanted) if isinstance(row, Row)]
    assert rows[1].where == f"{tmp_path}/b/2.jsonl:1"


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    fill(tmp_path, "a[1].jsonl", "a1.jsonl")
    assert texts(source(tmp_path / "a[1].jsonl")) == ["a[1].jsonl"]


def test_the_files_of_a_folder_are_read_by_name_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "b.jsonl", "a/c.jsonl", ".git/d.jsonl", "picture.png")
    assert names(source(tmp_path)) == [f"{tmp_path}/a/c.jsonl", f"{tmp_path}/b.jsonl"]


def test_each_file_of_a_folder_of_text_is_a_row(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", "d.md"):
        fill(tmp_path, name)
        (tmp_path / name).write_text(f"This is\n{name}.")
    rows = [row for row in read(source(tmp_path)) if isinstance(row, Row)]
    assert [(row.where, row.values["text"]) for row in rows] == [
        (f"{tmp_path}/{name}:1", f"This is\n{name}.") for name in ("a/c.txt", "b.txt", "d.md")
    ]


def test_an_empty_file_of_a_folder_of_text_is_a_bad_row(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    (tmp_path / "b.txt").touch()
    row, problem = read(source(tmp_path))
    assert isinstance(row, Row) and isinstance(problem, BadRow)
    assert str(problem) == f"{tmp_path}/b.txt:1: is empty"


def test_a_folder_of_several_kinds_is_not_guessed_at(tmp_path: Path) -> None:
    fill(tmp_path, "README.md", "part/train.jsonl")
    [problem] = wrong(source(tmp_path))
    assert "holds files of jsonl and text" in problem and f"such as {tmp_path}/**/*.md" in problem
    assert names(source(tmp_path / "**" / "*.jsonl")) == [f"{tmp_path}/part/train.jsonl"]


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_a_pipe_or_a_device_is_no_file(tmp_path: Path, kind: str) -> None:
    if kind == "a pipe":
        os.mkfifo(tmp_path / "a.jsonl")
    else:
        (tmp_path / "a.jsonl").symlink_to("/dev/zero")
    [problem] = wrong(source(tmp_path / "a.jsonl"))
    assert f"is {kind}, not a file, and rows are read more than once" in problem


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.txt", "a.tsv"])
def test_a_zipped_file_is_read_like_the_file_in_it(tmp_path: Path, name: str) -> None:
    content = {
        "a.jsonl": '{"text": "\u00e9"}\n',
        "a.json": '[{"text": "\u00e9"}]',
        "a.txt": "\u00e9",
        "a.csv": "text\n\u00e9\n",
        "a.tsv": "text\tb\n\u00e9\t1\n",
    }[name]
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert texts(source(tmp_path / f"{name}.gz")) == ["\u00e9"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One set, and one with splits, as the library saves them."""
    folder = tmp_path_factory.mktemp("saved")
    rows = datasets.Dataset.from_list([{"text": f"row {number}", "label": number % 2} for number in range(10)])
    datasets.disable_progress_bars()
    rows.filter(lambda row: row["label"] == 1).save_to_disk(folder / "odd", num_shards=2)
    datasets.DatasetDict(train=rows, test=rows.select([3])).save_to_disk(folder / "splits")
    return folder


def test_a_set_that_the_library_saved_is_read_shard_by_shard(saved: Path) -> None:
    rows = [row for row in read(source(saved / "odd")) if isinstance(row, Row)]
    assert [row.values for row in rows] == [{"text": f"row {number}", "label": 1} for number in (1, 3, 5, 7, 9)]
    assert [row.where for row in rows[-2:]] == [f"{saved}/odd/data-00001-of-00002.arrow:{line}" for line in (1, 2)]


def test_a_split_of_a_saved_set_is_named(saved: Path) -> None:
    assert texts(source(saved / "splits", split="test")) == ["row 3"]
    assert len(texts(source(saved / "splits", split="train"))) == 10
    assert wrong(source(saved / "splits")) == [
        f"{saved}/splits: has the splits train, test; say which beside the path, such as `split: train`"
    ]
    assert wrong(source(saved / "splits", split="tset")) == [f"{saved}/splits: has no split tset; did you mean test?"]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("state.json", "{", "state.json holds no list _data_files of names"),
        ("state.json", '{"_data_files": [1]}', "state.json holds no list _data_files of names"),
        ("state.json", '{"_data_files": [{"filename": "data-0.arrow"}]}', "cannot be read: No such file"),
        ("dataset_dict.json", '{"splits": "train"}', "dataset_dict.json holds no list splits of names"),
        ("dataset_dict.json", '{"splits": ["train"]}', "cannot be read: No such file"),
    ],
)
def test_a_saved_set_that_is_not_whole_is_named(tmp_path: Path, file: str, content: str, said: str) -> None:
    (tmp_path / file).write_text(content)
    [problem] = wrong(source(tmp_path))
    assert problem.startswith(str(tmp_path)) and said in problem


@pytest.mark.parametrize(
    ("path", "keys", "said"),
    [
        ("a.jsonl", {"split": "train"}, "names files, and has no split; leave out split"),
        ("a.jsonl", {"config": "main", "revision": "b"}, "and has no config or revision; leave out config, revision"),
        ("*.jsonl", {"split": "train"}, "names files, and has no split"),
        (".", {"split": "train"}, "is a folder that `datasets` did not save, and has no split"),
        ("a.parquet", {"encoding": "latin-1"}, "is a file of the kind parquet, and has no encoding"),
    ],
)
def test_keys_that_say_nothing_of_a_source_are_refused(
    tmp_path: Path, path: str, keys: dict[str, str], said: str
) -> None:
    fill(tmp_path, "a.jsonl", "a.parquet")
    [problem] = wrong(source(tmp_path / path, **keys))
    assert said in problem


def test_keys_of_other_sources_are_refused_for_saved_sets_and_built_in_rows(saved: Path) -> None:
    assert "is one set that `datasets` saved, and has no split" in wrong(source(saved / "odd", split="train"))[0]
    assert "and has no revision" in wrong(source(saved / "splits", split="test", revision="b"))[0]
    assert "is built in, and has no encoding" in wrong(source("builtin:stdlib", encoding="utf-8"))[0]


def test_a_path_that_exists_wins_over_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = source("owner/set", split="train", config="main")
    assert parts(wanted) == [HubSet("owner/set", "main", "train", None)]
    fill(tmp_path, "owner/set/a.jsonl")
    assert names(source("owner/set")) == ["owner/set/a.jsonl"]


@pytest.mark.parametrize("name", ["owner/set.jsonl", "./owner/set", "a/b/c", "/owner/set", "set", "owner/"])
def test_what_cannot_be_a_name_on_the_hub_is_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    [problem] = wrong(source(name))
    assert "no such file" in problem
