"""Measures the optimizer steps of any trainer that is built on torch, in its own process.

A step ends where an optimizer has stepped; its tokens are those that the embedding of the vocabulary took since the one
before.
"""

import json
import resource
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

_KIB = 1024


class Probe:
    """Writes `steps.jsonl` and, in the end, `peer.json` into a folder."""

    def __init__(self, folder: Path, vocabulary: int, pad: int, *, losses: bool = True) -> None:
        """`losses`: whether a step's loss is what `backward` was called on; else `told` says it."""
        self.folder, self.vocabulary, self.pad, self.losses = folder, vocabulary, pad, losses
        self.imports = _resident()
        self.first: float | None = None
        self.steps: list[dict[str, Any]] = []
        self._tokens = self._positions = 0
        self._loss: list[float] = []
        self._before = (time.monotonic(), time.process_time())
        self._install()

    def told(self, loss: float) -> None:
        """The loss of the step that has just ended."""
        self.steps[-1]["loss"] = loss

    def close(self, packages: list[str]) -> None:
        """What was measured; versions of these packages and of torch."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
        lines = [json.dumps({"step": number, **step}) for number, step in enumerate(self.steps, start=1)]
        (self.folder / "steps.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        content = {
            "packages": {name: metadata.version(name) for name in ("torch", *packages)},
            "memory_bytes": {"resident": peak, "imports": self.imports, **_of_device()},
            "first_forward": self.first,
        }
        (self.folder / "peer.json").write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _install(self) -> None:
        forward, backward = torch.nn.Embedding.forward, torch.Tensor.backward

        def counted(module: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
            if module.training and module.num_embeddings >= self.vocabulary:
                self.first = self.first or time.time()
                self._tokens += int((ids != self.pad).sum())
                self._positions += ids.numel()
            return forward(module, ids)

        def heard(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            if self.losses and tensor.numel() == 1:
                self._loss.append(float(tensor.detach()))
            backward(tensor, *args, **kwargs)

        torch.nn.Embedding.forward = counted  # type: ignore[method-assign,assignment]
        torch.Tensor.backward = heard  # type: ignore[method-assign,assignment]
        register_optimizer_step_post_hook(lambda *_: self._end())

    def _end(self) -> None:
        if not self._tokens:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = (time.monotonic(), time.process_time())
        self.steps.append(
            {
                "loss": sum(self._loss) / len(self._loss) if self._loss else None,
                "tokens": self._tokens,
                "positions": self._positions,
                "seconds": now[0] - self._before[0],
                "processor_seconds": now[1] - self._before[1],
            }
        )
        self._before, self._loss = now, []
        self._tokens = self._positions = 0


def _of_device() -> dict[str, int]:
    """Bytes at most, by its allocator; empty without a CUDA device."""
    if not torch.cuda.is_available():
        return {}
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
