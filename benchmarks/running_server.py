"""`pictell serve` in a process of its own, on the loopback address and a free port."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil


def end_with_the_servers() -> None:
    """Have SIGTERM end this program as an exception does, so that no server outlives it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class RunningServer:
    """Starts with the block and is told to end with it.

    Args:
        runs: Run folders.
        options: Of `pictell serve`.
    """

    def __init__(self, runs: Sequence[str], options: Sequence[str] = ()) -> None:
        self.command = [sys.executable, "-m", "pictell", "serve", *runs, "--port", "0", *options]
        self.port = 0

    def __enter__(self) -> RunningServer:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        if found is None:
            raise SystemExit(f"the server did not start: {' '.join(self.command)}")
        self.port = int(found[1])
        self._wait()
        return self

    def _wait(self) -> None:
        for _ in range(600):
            try:
                if self.health()["status"] == "ok":
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit("the server does not answer")

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> int:
        """Ask it to end, and wait; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(timeout=90)

    def get(self, path: str) -> bytes:
        """The body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        """What /healthz says."""
        return json.loads(self.get("/healthz"))

    def memory_mb(self) -> float:
        """Resident memory of the server and its decoders, in millions of bytes."""
        server = psutil.Process(self.process.pid)
        total = 0
        for process in [server, *server.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:  # a decoder that was just given up
                continue
        return total / 1e6
