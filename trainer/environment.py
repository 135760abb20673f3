"""The process environment of a worker: made for our own, completed for those of other launchers."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from trainer import ranks

# What a step frees stays with the process for the next one: glibc would give it back, and the kernel clear it again.
_KEPT_MEMORY = {
    "MALLOC_TOP_PAD_": 64 * 2**20,
    "MALLOC_MMAP_THRESHOLD_": 32 * 2**20,
    "MALLOC_TRIM_THRESHOLD_": 2**30,
}


def worker_environment(
    *,
    rank: int,
    size: int,
    local_rank: int,
    local_size: int,
    address: str,
    port: int,
    store_fd: int | None,
    console: int | None,
    threads: int | None,
) -> dict[str, str]:
    """The whole environment of a worker, made from this process's own: `rank` of `size`, `local_rank` of this node's.

    `threads` None leaves OMP_NUM_THREADS as it is, or shares out the cores.
    """
    devices = ranks.accelerators()
    environment = _for_libraries(dict(os.environ), devices)
    environment.update(
        RANK=str(rank),
        LOCAL_RANK=str(local_rank),
        WORLD_SIZE=str(size),
        LOCAL_WORLD_SIZE=str(local_size),
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
        PYTHONUNBUFFERED="1",
        **{ranks.TOKENIZER_THREADS: "true" if local_rank == 0 else "false"},
    )
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, ranks.cores() // local_size)))
    if devices == 0:
        for name, kept in _KEPT_MEMORY.items():
            environment.setdefault(name, str(kept))
        environment[ranks.CORES] = ",".join(map(str, _share_of_cores(local_rank, local_size)))
    # Always there, so that all ranks meet the same way; the descriptor itself is rank 0's alone.
    environment[ranks.STORE_FD] = str(-1 if store_fd is None else store_fd)
    environment.pop(ranks.CONSOLE_FD, None)
    if console is not None:
        environment[ranks.CONSOLE_FD] = str(console)
    return environment


def settle_environment() -> None:
    """What a worker of another launcher lacks of the environment that ours gives; before torch is imported."""
    os.environ.update(_for_libraries(dict(os.environ), ranks.accelerators()))
    os.environ.setdefault(ranks.TOKENIZER_THREADS, "true" if ranks.local_rank() == 0 else "false")


def _for_libraries(environment: dict[str, str], devices: int) -> dict[str, str]:
    """An environment in which libraries find their programs, those of an unactivated environment too, and are quiet."""
    folder = str(Path(sys.executable).parent)
    path = environment.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != folder:
        environment["PATH"] = os.pathsep.join([folder, path])
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if devices == 0:
        environment.setdefault("DS_ACCELERATOR", "cpu")
    return environment


def with_secrets(files: Mapping[str, str | None]) -> dict[str, str]:
    """The environment of this process, and the values that files hold."""
    read = {name: Path(file).read_text(encoding="utf-8").strip() for name, file in files.items() if file}
    return dict(os.environ) | read


def log_into(log: Path) -> None:
    """What this process writes from now on goes into `log`; rank 0 keeps the terminal for its console."""
    if ranks.is_main():
        os.environ[ranks.CONSOLE_FD] = str(os.dup(1))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def _share_of_cores(index: int, count: int) -> list[int]:
    """The cores of worker `index` of `count`: neighbours, equally many; none where they cannot be shared out."""
    listed = sorted(os.sched_getaffinity(0))
    size = len(listed) // count if count > 1 else 0
    return listed[index * size : (index + 1) * size]
