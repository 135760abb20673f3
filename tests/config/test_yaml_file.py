from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.yaml_file import Document, parse_value, read, write_value
from trainer.errors import RecipeError


def _written(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _refused(folder: Path, text: str | bytes) -> str:
    path = _written(folder, text)
    with pytest.raises(RecipeError) as caught:
        read(path)
    return str(caught.value).replace(str(path), "recipe.yaml")


def test_a_missing_file_names_the_recipes_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()

    with pytest.raises(RecipeError) as caught:
        read(tmp_path / "mien.yaml")

    assert str(caught.value) == f"{tmp_path}/mien.yaml: no such file; here are: {tmp_path}/mine.yaml"


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_missing_file_without_neighbours_points_to_the_gallery(tmp_path: Path, folder: str) -> None:
    with pytest.raises(RecipeError, match="no such file; `shardtune recipes` lists recipes to start from"):
        read(tmp_path / folder / "recipe.yaml")


def test_a_folder_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a folder; name the YAML file"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file_is_told_what_a_recipe_needs(tmp_path: Path, text: str) -> None:
    assert _refused(tmp_path, text) == "recipe.yaml: is empty; a recipe needs at least `model:` and `data:`"


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert _refused(tmp_path, text).startswith("recipe.yaml:1: is not a mapping; a recipe starts with sections")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n\tname: x\n", "recipe.yaml:2: is not YAML: found character '\\t' that cannot start any token"),
        ("model: {name: x\ndata: 3\n", "recipe.yaml:2: is not YAML: expected ',' or '}', but got ':'"),
        ("model: !!python/object:os.system x\n", "recipe.yaml:1: is not YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "recipe.yaml:2: is not YAML: but found another document"),
        ("? [a, b]\n: 3\n", "recipe.yaml:1: is not YAML: found unhashable key"),
        ("model: \x00\n", "recipe.yaml: is not YAML: unacceptable character #x0000"),
        ("output: 2024-13-45\n", "recipe.yaml: is not YAML: month must be in 1..12"),
        (b"output: caf\xe9\n", "recipe.yaml: is not UTF-8 text (byte 11); save it as UTF-8"),
        ("model: " + "[" * 1200, "recipe.yaml: is not YAML that can be read: it is nested too deep"),
        ("model: &it {name: *it}\n", "recipe.yaml:1: the anchor of model.name holds itself; write it out"),
    ],
)
def test_what_is_not_yaml_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    refusal = _refused(tmp_path, text)

    assert refusal.startswith(message)
    assert "\n" not in refusal


def test_every_key_that_stands_twice_is_named_with_its_second_line(tmp_path: Path) -> None:
    text = "model:\n  name: a\n  name: b\ndata:\n  train:\n    - path: a\n      path: b\nmodel: {}\n"

    assert _refused(tmp_path, text).splitlines() == [
        "recipe.yaml:3: the key model.name stands there twice; keep one",
        "recipe.yaml:7: the key data.train.0.path stands there twice; keep one",
        "recipe.yaml:8: the key model stands there twice; keep one",
    ]


def test_every_key_and_item_has_its_line(tmp_path: Path) -> None:
    path = _written(tmp_path, "model:\n  name: x\n\ndata:\n  train:\n    - path: a\n    - {path: b}\n")

    document = read(path)

    assert document.lines == {
        ("model",): 1,
        ("model", "name"): 2,
        ("data",): 4,
        ("data", "train"): 5,
        ("data", "train", 0): 6,
        ("data", "train", 0, "path"): 6,
        ("data", "train", 1): 7,
        ("data", "train", 1, "path"): 7,
    }
    assert document.where(("data", "train", 1, "path")) == f"data.train.1.path ({path}, line 7)"
    assert document.where_named("data.train.1.path") == f"data.train.1.path ({path}, line 7)"
    assert document.where(("data", "test")) == "data.test"


def test_what_an_argument_replaced_has_no_line_in_the_file() -> None:
    lines: dict[tuple[str | int, ...], int] = {("a",): 1, ("a", "b"): 2, ("a", "b", 0): 3, ("a", "bc"): 4}
    document = Document({}, lines, "recipe.yaml")

    assert document.without_lines(["a.b"]).lines == {("a",): 1, ("a", "bc"): 4}


def test_an_alias_repeats_a_section_without_walking_it_again(tmp_path: Path) -> None:
    levels = [f"k{level}: &k{level} [{', '.join([f'*k{level - 1}'] * 9)}]" for level in range(1, 40)]
    path = _written(tmp_path, "\n".join(["k0: &k0 [x]", *levels]))

    assert read(path).lines[("k39",)] == 40


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E5", 2e5),
        ("-1e+3", -1e3),
        ("1.5e3", 1.5e3),
        (".5e3", 500.0),
        ("1_0e2", 1000.0),
        ("2.0e-4", 2e-4),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("", None),
        ("fast", "fast"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("'1e-4'", "1e-4"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)
def test_values_are_those_of_yaml_with_exponents_as_numbers(text: str, value: object) -> None:
    parsed = parse_value(text)

    assert (type(parsed), parsed) == (type(value), value)


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
_NUMBERS_IN_TEXT = st.from_regex(r"[-+]?[0-9]{0,3}\.?[0-9]{0,2}[eE]?[-+]?[0-9]{1,3}", fullmatch=True)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT | _NUMBERS_IN_TEXT


@given(st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3)))
def test_what_is_written_is_read_back_with_its_types(value: object) -> None:
    read_back = parse_value(write_value({"key": value}))

    assert repr(read_back) == repr({"key": value})
