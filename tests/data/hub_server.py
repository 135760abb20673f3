"""A hub with one set, as much of it as the libraries ask for."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

NAME = "owner/set"
COMMITS = {"main": "a" * 40, "old": "b" * 40}
CARD = """---
configs:
- config_name: plain
  data_files:
  - split: train
    path: plain/train.jsonl
  - split: test
    path: plain/test.jsonl
- config_name: single
  data_files: single/train.jsonl
---
"""
FILES = {
    "README.md": CARD,
    "plain/train.jsonl": "".join(f'{{"text": "row {number}", "n": {number}}}\n' for number in range(2500)),
    "plain/test.jsonl": '{"text": "test", "n": 0}\n',
    "single/train.jsonl": '{"text": "single"}\n',
}
OLD = {
    **FILES,
    "plain/test.jsonl": '{"text": "old", "n": 0}\n',
    "README.md": CARD.replace(
        "configs:", "dataset_info:\n- config_name: plain\n  splits:\n  - name: test\n    num_examples: 7\nconfigs:"
    ),
}
"""An older commit, whose card says how many rows there are, and says it wrong."""


class Handler(BaseHTTPRequestHandler):
    """Answers about the set, and that there is nothing else."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """The test's own output is enough."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        if match := re.fullmatch(rf"/api/datasets/{NAME}(?:/revision/(\w+))?", path):
            self._about(match[1] or "main")
        elif match := re.fullmatch(rf"/api/datasets/{NAME}/tree/(\w+)(?:/(.*))?", path):
            found = [entry for entry in _entries(match[1]) if entry["path"].startswith(match[2] or "")]
            self._send(200, json.dumps(found).encode())
        elif match := re.fullmatch(rf"/datasets/{NAME}/resolve/(\w+)/(.*)", path):
            self._file(match[1], match[2], with_body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

    def _about(self, revision: str) -> None:
        commit = COMMITS.get(revision, revision)
        if commit in COMMITS.values():
            about = {"id": NAME, "sha": commit, "siblings": [{"rfilename": name} for name in FILES], "private": False}
            self._send(200, json.dumps(about).encode())
        else:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})

    def _file(self, commit: str, name: str, with_body: bool) -> None:
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        content = _files(commit).get(name)
        if content is None:
            self._send(404, b"", {**headers, "X-Error-Code": "EntryNotFound"}, with_body)
            return
        body, status = content.encode(), 200
        headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
        if with_body and (match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))):
            first, last = int(match[1]), min(int(match[2] or len(body) - 1), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body, status = body[first : last + 1], 206
        self._send(status, body, headers, with_body)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _files(commit: str) -> Mapping[str, str]:
    return OLD if commit == COMMITS["old"] else FILES


def _entries(commit: str) -> Iterator[dict[str, str | int]]:
    for name, content in _files(commit).items():
        yield {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content.encode()).hexdigest()}


@contextmanager
def hub() -> Iterator[str]:
    """The address of such a hub."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
