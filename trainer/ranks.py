"""Which process this is, among how many; the only reader of the process environment, which `environment` makes.

The launcher hands each worker the usual variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR,
MASTER_PORT) and, for local runs, SHARDTUNE_STORE_FD: a listening socket that rank 0's store takes over, so that no
other program can take the port in between.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from trainer import meeting
from trainer.errors import RunError

STORE_FD = "SHARDTUNE_STORE_FD"
CONSOLE_FD = "SHARDTUNE_CONSOLE_FD"
CORES = "SHARDTUNE_CORES"
TOKENIZER_THREADS = "TOKENIZERS_PARALLELISM"


def rank() -> int:
    """The number of this process among all processes of the run, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Processes of the run over all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """The number of this process on its node, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Processes of the run on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes files and talks to the user."""
    return rank() == 0


def console_stream() -> TextIO:
    """The user's terminal, where the launcher handed it over; else standard output."""
    value = os.environ.get(CONSOLE_FD)
    return open(int(value), "w", encoding="utf-8", errors="replace", closefd=False) if value else sys.stdout


def node_number(text: str) -> int | None:
    """The number that `text` is, or that the first of the variables that it names holds; None where none does."""
    for word in text.split(","):
        value = word if word.isdigit() else os.environ.get(word.strip(), "")
        if value.isdigit():
            return int(value)
    return None


def bind_to_cores() -> None:
    """Keeps every thread of this process on the cores that the launcher set aside for it, if it did.

    Called once rows are prepared, which may use all cores.
    """
    own = {int(core) for core in os.environ.get(CORES, "").split(",") if core}
    for thread in Path("/proc/self/task").iterdir() if own else ():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), own)


def helper_environment() -> dict[str, str]:
    """The environment of a process that helps this one with rows, one core for each."""
    return {**os.environ, TOKENIZER_THREADS: "false", "OMP_NUM_THREADS": "1"}


def alone_environment() -> dict[str, str]:
    """The environment of a process that prepares rows for this one, as if it were the only process of the run."""
    return {**os.environ, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def one_tokenizer_thread() -> AbstractContextManager[None]:
    """Within it, `tokenizers` uses the core of the thread that calls it alone."""
    return _tokenizer_threads("false")


def all_tokenizer_threads() -> AbstractContextManager[None]:
    """Within it, `tokenizers` uses all cores."""
    return _tokenizer_threads("true")


@contextmanager
def _tokenizer_threads(value: str) -> Iterator[None]:
    before = os.environ.get(TOKENIZER_THREADS)
    os.environ[TOKENIZER_THREADS] = value
    try:
        yield
    finally:
        os.environ.pop(TOKENIZER_THREADS)
        if before is not None:
            os.environ[TOKENIZER_THREADS] = before


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def accelerators() -> int:
    """CUDA devices visible to this process, counted without importing torch; 0 on a CPU machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return 0  # DeepSpeed's launcher numbers processes as devices also where there are none
    if visible is not None:
        return len([entry for entry in visible.split(",") if entry.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def device_memory(processes: int) -> int | None:
    """Bytes that one process's device has: the smallest CUDA device, or this machine's memory shared out."""
    if accelerators() == 0:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // processes
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listing = subprocess.run(query, capture_output=True, text=True, check=False)
    sizes = [int(line) for line in listing.stdout.splitlines() if line.strip().isdigit()]
    return min(sizes) * 2**20 if sizes else None


def resident_memory() -> int:
    """Bytes of this process that are in the host's memory now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def available_memory() -> int:
    """Bytes of the host's memory that programs could still take."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def hub_cache() -> Path:
    """The folder where Hugging Face's hub client keeps what it downloaded; it need not exist."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(cache)).expanduser()


def cache_folder() -> Path:
    """The user's folder for what shardtune can make again; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expandvars(home)).expanduser() / "shardtune"


def compiler() -> str | None:
    """The C++ compiler that torch's extension builder would call, or None."""
    return shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")


def extensions_folder() -> Path:
    """Where torch keeps the builds of compiled ops, each in a folder of its own, one or two levels down."""
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache) / "torch_extensions"


def connect(device_type: str, patience: int = 300) -> None:
    """Joins the process group (gloo on a CPU, nccl on CUDA) where there is more than one process.

    RunError where some do not come within `patience` seconds, with their numbers.
    """
    if world_size() == 1:
        return
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if own := meeting.interface_to(address, port):
        # Else gloo takes the address that the host's name resolves to, which may be a VPN's or nobody's.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", own)
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun's own store is the meeting place
        dist.init_process_group(backend)
        return
    given = os.environ.get(STORE_FD)
    descriptor = int(given) if given is not None else meeting.listen(address, port) if is_main() else None
    seconds = timedelta(seconds=patience)
    place = f"{address}:{port}"
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            address,
            port,
            world_size(),
            is_master=is_main(),
            timeout=seconds,
            wait_for_workers=False,
            master_listen_fd=descriptor if is_main() else None,
        )
    except dist.DistError as error:
        raise RunError(f"rank {rank()} cannot reach {place} (launch.address): {str(error).splitlines()[0]}") from None
    meeting.gather_all(store, rank(), world_size(), place, seconds)
    dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size())


def ensure_group() -> None:
    """A process group also where there is one process, for libraries that ask for one."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]


def disconnect() -> None:
    """Leaves the process group; safe to call where none was joined."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Waits until every rank is here."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.barrier()


def all_reduce(values: Mapping[str, float]) -> dict[str, float]:
    """The sum of each value over all ranks, in float64; every rank passes the same names."""
    if world_size() == 1:
        return dict(values)
    import torch
    import torch.distributed as dist

    names = sorted(values)
    sums = torch.tensor([float(values[name]) for name in names], dtype=torch.float64)
    dist.all_reduce(sums)
    return dict(zip(names, sums.tolist(), strict=True))


def all_gather(value: float) -> list[float]:
    """The value of every rank, by rank."""
    values: list[float] = broadcast(gather(value))
    return values


def gather(value: Any) -> list[Any]:
    """The values of all ranks, by rank, on rank 0, and none elsewhere; they must pickle."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    gathered = [None] * world_size() if is_main() else None
    dist.gather_object(value, gathered)
    return gathered or []


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank; the value must pickle."""
    if world_size() == 1:
        return value
    import torch.distributed as dist

    box = [value if is_main() else None]
    dist.broadcast_object_list(box, src=0)
    return box[0]
