import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from distributed import steps

from trainer.callbacks.checkpoint import Checkpoint
from trainer.checkpoint.folder import newest_whole
from trainer.config.checkpoint import Checkpoint as Settings
from trainer.config.optimizer import Optimizer
from trainer.engine import copies
from trainer.engine.torch import TorchEngine
from trainer.errors import RunError
from trainer.loop.callback import Callback, EvaluationMetrics
from trainer.loop.state import State
from trainer.tasks import causal_lm


class Held(TorchEngine):
    """Writes a copied state when the gate is open."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), None)
        self.gate = threading.Event()
        self.prepare(causal_lm.CausalLM(steps.model(packing=True)), Optimizer(lr=0.1))

    def copy_state(self):
        fill = super().copy_state()
        assert fill is not None

        def wait(folder: Path) -> None:
            assert self.gate.wait(60)
            fill(folder)

        return wait

    def take_a_step(self) -> None:
        window = steps.Windows(
            steps.random_rows(4), steps.Layout(global_=4, micro=4, packing=True, micro_tokens=100, pad=0),
            rank=0, ranks=1, seed=None,
        ).window(0)  # fmt: skip
        self.forward_backward(window.batches[0], {"loss": 0.1}, last=True)
        self.step(0.1)

    def values(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.module.state_dict().items()}


class Told(Callback):
    def __init__(self) -> None:
        self.paths: list[str] = []

    def saved(self, state: State, path: str) -> None:
        self.paths.append(Path(path).name)


def saver(folder: Path, engine: TorchEngine, told: Callback, **settings: int) -> Checkpoint:
    return Checkpoint(Settings.model_validate({"every": 2, **settings}), folder, engine, [told])


def saved_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "torch.pt", weights_only=True)["module"]


def evaluation(step: int) -> EvaluationMetrics:
    return EvaluationMetrics(step=step, epoch=0.0, loss=1.0, tokens=1, targets=1, seconds=0.0)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    engine, told = Held(), Told()
    callback = saver(tmp_path, engine, told)
    engine.take_a_step()
    before = engine.values()
    callback.step_end(State(step=2, steps=10))
    engine.take_a_step()
    callback.step_end(State(step=3, steps=10))
    assert told.paths == []
    assert newest_whole(tmp_path) == (None, [])
    engine.gate.set()
    callback.end(State(step=3, steps=10))
    assert told.paths == ["step-00000002"]
    newest, _ = newest_whole(tmp_path)
    assert newest is not None
    saved = saved_weights(newest)
    assert all(torch.equal(saved[name], before[name]) for name in before)
    assert any(not torch.equal(engine.values()[name], before[name]) for name in before)


def test_the_last_one_waits_for_the_one_before_and_is_written_at_once(tmp_path: Path) -> None:
    engine, told = Held(), Told()
    callback = saver(tmp_path, engine, told)
    callback.step_end(State(step=2, steps=4))
    threading.Timer(0.2, engine.gate.set).start()
    callback.step_end(State(step=4, steps=4))
    assert told.paths == ["step-00000002", "step-00000004"]
    callback.end(State(step=4, steps=4))


def test_the_best_is_marked_when_it_is_whole_and_the_one_before_stays_until_then(tmp_path: Path) -> None:
    engine, told = Held(), Told()
    engine.gate.set()
    callback = saver(tmp_path, engine, told, keep=1)
    best = tmp_path / "checkpoints" / "best"
    first = State(step=1, steps=10, best_step=1)
    callback.evaluated(first, evaluation(1))
    callback.step_end(State(step=2, steps=10, best_step=1))
    callback._finish(first)
    assert best.resolve().name == "step-00000001"
    engine.gate.clear()
    third = State(step=3, steps=10, best_step=3)
    callback.evaluated(third, evaluation(3))
    assert best.resolve().name == "step-00000001"
    assert best.resolve().is_dir()
    engine.gate.set()
    callback.end(third)
    assert best.resolve().name == "step-00000003"
    assert sorted(path.name for path in best.parent.glob("step-*")) == ["step-00000003"]


def test_a_failure_in_the_background_ends_the_run_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, told = Held(), Told()
    callback = saver(tmp_path, engine, told)

    def full(folder: Path) -> None:
        (folder / "part").write_bytes(b"x" * 1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(engine, "copy_state", lambda: full)
    callback.step_end(State(step=2, steps=10))
    with pytest.raises(RunError, match=r"the checkpoint of step 2 could not be written: .*No space left on device"):
        for _ in range(2):
            callback._pool.submit(lambda: None).result()
            callback.step_end(State(step=3, steps=10))
    assert list((tmp_path / "checkpoints").iterdir()) == []
    callback.end(State(step=3, steps=10))


def test_no_copy_is_made_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(torch.device("cpu"), None)
    engine.prepare(causal_lm.CausalLM(steps.model(packing=True)), Optimizer())
    needed = copies.size(engine._state())
    monkeypatch.setattr("trainer.ranks.available_memory", lambda: 2 * needed)
    assert engine.copy_state() is not None
    monkeypatch.setattr("trainer.ranks.available_memory", lambda: 2 * needed - 1)
    assert engine.copy_state() is None
    told = Told()
    callback = saver(tmp_path, engine, told)
    callback.step_end(State(step=2, steps=10))
    assert told.paths == ["step-00000002"]
    callback.end(State(step=2, steps=10))


def test_tied_tensors_are_copied_once_and_stay_tied() -> None:
    one = torch.arange(6.0)
    state = {"a": one, "b": [one, one[:3]], "c": 1}
    made = copies.copy(state)
    assert made["a"] is made["b"][0]
    assert made["a"].data_ptr() != one.data_ptr()
    assert torch.equal(made["b"][1], one[:3])
    assert copies.size({"a": one, "b": one}) == one.nbytes


HALF = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[2])
from pathlib import Path
from callbacks.test_checkpoint import Held, Told, saver
from trainer.loop.state import State
engine = Held()
engine.gate.set()
callback = saver(Path(sys.argv[1]), engine, Told())
callback.step_end(State(step=2, steps=10))
callback._finish(State(step=2, steps=10))
def fill(folder):
    (folder / "torch.pt").write_bytes(b"half of it")
    print("writing", flush=True)
    time.sleep(600)
engine.copy_state = lambda: fill
callback.step_end(State(step=4, steps=10))
time.sleep(600)
"""


def test_a_kill_during_the_write_loses_that_checkpoint_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HALF, str(tmp_path), json.dumps(sys.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    newest, damaged = newest_whole(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000002"
    assert damaged == []
