import numpy as np

from trainer.callbacks.confusion import MOST, picture
from trainer.tasks.class_table import of_multiple, of_single


def shown(names: tuple[str, ...], labels: list[int], said: list[int]) -> np.ndarray:
    found = picture(of_single(names, np.array(labels), np.array(said)))
    assert found is not None
    return found


def test_a_cell_is_as_dark_as_its_share() -> None:
    right, wrong = shown(("a", "b"), [0, 0, 1, 1], [0, 0, 1, 1]), shown(("a", "b"), [0, 0, 1, 1], [1, 1, 0, 0])
    assert right.shape == wrong.shape
    # The corner of the first cell, which its number does not reach.
    dark = np.argwhere((right != wrong).any(axis=2))
    top, left = dark.min(axis=0)
    assert right[top, left].sum() < wrong[top, left].sum()


def test_names_in_other_letters_are_told_by_their_number() -> None:
    assert shown(("東", "Öl"), [0, 1], [0, 1]).shape == shown(("#0", "Ol"), [0, 1], [0, 1]).shape


def test_there_is_no_picture_of_too_many_labels_or_of_several() -> None:
    many = tuple(map(str, range(MOST + 1)))
    assert picture(of_single(many, np.arange(MOST + 1), np.arange(MOST + 1))) is None
    assert picture(of_multiple(("a", "b"), np.ones((1, 2), bool), np.ones((1, 2), bool))) is None
