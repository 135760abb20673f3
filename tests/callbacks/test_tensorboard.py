from dataclasses import replace
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.callbacks.tensorboard import TensorBoard
from trainer.loop.callback import EvaluationMetrics, StepMetrics
from trainer.loop.state import State
from trainer.tasks.class_table import of_single

RECIPE = "model:\n  name: models/tiny\nbatch: {micro: 4}\n"


def training(step: int, loss: float, grad_norm: float | None = 1.5) -> StepMetrics:
    return StepMetrics(
        step=step,
        epoch=step / 100,
        loss=loss,
        lr=2e-4,
        grad_norm=grad_norm,
        tokens=640,
        targets=320,
        positions=800,
        squares=102_400,
        tokens_per_second=5210.0,
        peak_memory_bytes=1 << 30,
        seconds=step * 0.5,
        processor_seconds=1.5,
    )


def validation(step: int, loss: float) -> EvaluationMetrics:
    return EvaluationMetrics(step=step, epoch=step / 100, loss=loss, tokens=64, targets=32, seconds=0.25)


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in read(folder).Scalars(tag)]


def run(folder: Path, *steps: int, loss: float, resumed_from: int | None = None) -> None:
    state = State(step=resumed_from or 0, resumed_from=resumed_from)
    board = TensorBoard(folder, RECIPE, {})
    board.start(state)
    for step in steps:
        board.report(state, training(step, loss))
        board.evaluated(state, validation(step, loss))
    board.end(state)


def test_every_metric_has_a_curve(tmp_path: Path) -> None:
    run(tmp_path, 10, 20, loss=2.5)

    last = {tag: curve(tmp_path, tag)[-1] for tag in read(tmp_path).Tags()["scalars"]}
    assert {tag: (step, round(value, 6)) for tag, (step, value) in last.items()} == {
        "train/loss": (20, 2.5),
        "train/learning_rate": (20, 0.0002),
        "train/gradient_norm": (20, 1.5),
        "train/tokens_per_second": (20, 5210.0),
        "train/peak_memory_bytes": (20, float(1 << 30)),
        "validation/loss": (20, 2.5),
    }


def test_the_recipe_stands_in_the_text_tab_as_a_code_block(tmp_path: Path) -> None:
    run(tmp_path, loss=2.5)

    [text] = read(tmp_path).Tensors("recipe/text_summary")
    assert text.tensor_proto.string_val[0].decode() == f"```yaml\n{RECIPE.rstrip()}\n```"


def test_an_unknown_gradient_norm_leaves_a_gap(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, RECIPE, {})
    board.start(State())
    board.report(State(), training(10, 2.5, grad_norm=None))
    board.end(State())

    assert "train/gradient_norm" not in read(tmp_path).Tags()["scalars"]


def test_a_resumed_curve_holds_each_step_once(tmp_path: Path) -> None:
    run(tmp_path, 10, 20, 30, 40, loss=1.0)
    run(tmp_path, 30, 40, 50, loss=2.0, resumed_from=20)

    expected = [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0), (50, 2.0)]
    assert curve(tmp_path, "train/loss") == expected
    assert curve(tmp_path, "validation/loss") == expected


def test_a_torn_event_of_a_killed_process_does_not_hide_what_follows(tmp_path: Path) -> None:
    run(tmp_path, 10, 20, 30, loss=1.0)
    [events] = (tmp_path / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-7])
    run(tmp_path, 30, loss=2.0, resumed_from=20)

    assert curve(tmp_path, "train/loss") == [(10, 1.0), (20, 1.0), (30, 2.0)]


def test_a_run_from_the_beginning_hides_what_a_killed_one_left(tmp_path: Path) -> None:
    run(tmp_path, 0, 10, 20, loss=1.0)
    run(tmp_path, 10, loss=2.0)

    assert curve(tmp_path, "train/loss") == [(10, 2.0)]


def test_points_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, RECIPE, {})
    board.start(State())
    board.report(State(), training(10, 1.0))
    after_a_report = curve(tmp_path, "train/loss")
    board.evaluated(State(), validation(10, 2.0))
    after_a_validation = curve(tmp_path, "validation/loss")
    board.end(State())

    assert after_a_report == [(10, 1.0)]
    assert after_a_validation == [(10, 2.0)]


def test_end_without_a_start_does_nothing(tmp_path: Path) -> None:
    TensorBoard(tmp_path, RECIPE, {}).end(State())

    assert list(tmp_path.iterdir()) == []


def test_labels_have_a_table_and_a_picture(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, RECIPE, {})
    board.start(State())
    classes = of_single(("cold", "warm"), np.array([0, 0, 1]), np.array([0, 1, 1]))
    board.tested(State(), replace(validation(7, 1.0), classes=classes))
    board.end(State())

    found = read(tmp_path)
    (image,) = found.Images("test/confusion")
    assert (image.step, image.width > 100, image.height > 100) == (7, True, True)
    (table,) = found.Tensors("test/labels/text_summary")
    assert b"| warm | 0.500 | 1.000 | 0.667 | 1 |" in table.tensor_proto.string_val[0]
