import pickle
from pathlib import Path

import pytest
import torch

from trainer.callbacks.profile import Profile
from trainer.config.log import Profile as Settings
from trainer.loop.meter import memory_by_kind
from trainer.loop.state import State

pytestmark = pytest.mark.gpu


def test_a_profile_on_cuda_holds_kernels_and_memory(tmp_path: Path) -> None:
    device = torch.device("cuda")
    callback, state = Profile(Settings(steps=(1, 1)), tmp_path, device, print), State()
    callback.start(state)
    held = torch.ones(2**20, device=device) * 2
    state.step = 1
    callback.step_end(state)

    assert (tmp_path / "profile" / "trace-rank-0.json.gz").stat().st_size > 0
    snapshot = pickle.loads((tmp_path / "profile" / "memory-rank-0.pickle").read_bytes())
    assert sum(segment["allocated_size"] for segment in snapshot["segments"]) >= held.nbytes


def test_memory_is_told_by_kind() -> None:
    device = torch.device("cuda")
    held = torch.ones(2**20, device=device)

    told = memory_by_kind(device, imports=1)

    assert told["allocated"] is not None and told["reserved"] is not None
    assert held.nbytes <= told["allocated"] <= told["reserved"]
