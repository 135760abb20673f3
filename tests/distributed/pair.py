"""Two living ranks for a whole test run: functions are sent to both, results come back."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

RANKS = 2


def _serve(connection: Connection, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    import torch

    from trainer import ranks

    torch.set_num_threads(1)
    ranks.connect("cpu")
    connection.send(("ready", None))
    while (job := connection.recv()) is not None:
        function, arguments = job
        try:
            connection.send(("result", function(*arguments)))
        except BaseException:
            connection.send(("error", traceback.format_exc()))
    ranks.disconnect()


class Pair:
    """Ranks 0 and 1 of a gloo group; `run` calls one function on both."""

    def __init__(self) -> None:
        from trainer.environment import worker_environment

        context = multiprocessing.get_context("spawn")
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        self.connections, self.processes = [], []
        for rank in range(RANKS):
            environment = worker_environment(
                rank=rank,
                size=RANKS,
                local_rank=rank,
                local_size=RANKS,
                address="127.0.0.1",
                port=port,
                store_fd=None,
                console=None,
                threads=1,
            )
            del environment["SHARDTUNE_STORE_FD"]  # no socket is inherited here: rank 0 binds the port itself
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, environment), daemon=True)
            process.start()
            theirs.close()
            self.connections.append(ours)
            self.processes.append(process)
        self._collect(120)

    def run(self, function: Callable[..., Any], *arguments: Any, seconds: float = 120) -> list[Any]:
        """The function's result on each rank; it is found by its name in a module that tests can import."""
        for connection in self.connections:
            connection.send((function, arguments))
        return self._collect(seconds)

    def _collect(self, seconds: float) -> list[Any]:
        answers = []
        for rank, connection in enumerate(self.connections):
            if not connection.poll(seconds):
                raise TimeoutError(f"rank {rank} gave no answer in {seconds} s")
            answers.append(connection.recv())
        for rank, (kind, content) in enumerate(answers):
            if kind == "error":
                raise AssertionError(f"rank {rank} failed:\n{content}")
        return [content for _, content in answers]

    def close(self) -> None:
        for connection, process in zip(self.connections, self.processes, strict=True):
            if process.is_alive():
                connection.send(None)
            process.join(20)
            process.kill()
