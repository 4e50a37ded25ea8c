"""How fast a server captions, and what it does when there is too much: on this machine alone.

    python benchmarks/serve_load.py runs/attention --pictures photos/ --out load.json

Starts `pictell serve` on the loopback address, once as it is meant to run and once so that it works
on one picture at a time (`--batch_size 1 --threads 1`, all cores for each picture), and asks for
captions of single pictures over 1, 8 and 32 connections, greedily and with beam 5. The two servers
run side by side and are measured in turns, so that whatever else the machine does hits both. Then
the queue is made short and many connections ask at once: the only 5xx may be 503 with Retry-After.

The clients run on the same cores: figures are of a whole machine, not of a server with clients
elsewhere.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from hostile_uploads import BOUNDARY, form_of, part
from running_server import RunningServer, end_with_the_servers

CONCURRENCIES = (1, 8, 32)
BEAMS = (1, 5)
ROUNDS = 3
WAYS = {"batches": [], "one at a time": ["--batch_size", "1", "--threads", "1"]}


@dataclass
class Load:
    """What came of some requests.

    Attributes:
        seconds: From the first request to the last answer.
        latencies: Of each answer with status 200.
        statuses: How often each status came; 0 stands for a broken connection.
        without_retry: Answers of 503 that did not say when to come again.
        texts: The captions that came for each picture.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry: int = 0
    texts: dict[int, set[str]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Captions per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Latency in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def load(port: int, bodies: Sequence[bytes], requests: int, connections: int) -> Load:
    """Send requests over connections that are kept open, each as fast as answers come."""
    result, numbers, lock = Load(), count(), threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while (number := next(numbers)) < requests:
            started = time.perf_counter()
            status, retry, text = _ask(connection, bodies[number % len(bodies)])
            with lock:
                result.statuses[status] += 1
                if status == 200:
                    result.latencies.append(time.perf_counter() - started)
                    result.texts.setdefault(number % len(bodies), set()).add(text)
                elif status == 503 and not retry:
                    result.without_retry += 1
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.seconds = time.perf_counter() - started
    return result


def _ask(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, str, str]:
    kind = {"Content-Type": "multipart/form-data; boundary=" + BOUNDARY.decode()}
    try:
        connection.request("POST", "/v1/captions", body, kind)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, "", ""
    retry = response.headers.get("Retry-After", "")
    text = answer["pictures"][0]["captions"][0]["text"] if response.status == 200 else ""
    return response.status, retry, text


def bodies_of(pictures: Sequence[Path], beam: int) -> list[bytes]:
    """A request for each picture."""
    option = b'--%s\r\nContent-Disposition: form-data; name="beam"\r\n\r\n%d\r\n' % (BOUNDARY, beam)
    return [form_of(part(path.read_bytes(), path.name), option) for path in pictures]


def compare(
    servers: dict[str, RunningServer], pictures: Sequence[Path], requests: int
) -> list[dict[str, Any]]:
    """Each way, beam and concurrency, in turns; the rounds' median is kept."""
    rows = []
    for beam in BEAMS:
        bodies = bodies_of(pictures, beam)
        for connections in CONCURRENCIES:
            rounds: dict[str, list[Load]] = {way: [] for way in servers}
            for _ in range(ROUNDS):
                for way, server in servers.items():
                    load(server.port, bodies, connections, connections)
                    rounds[way].append(load(server.port, bodies, requests, connections))
            for way, loads in rounds.items():
                rows.append(_row(way, beam, connections, loads))
                print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    return rows


def _row(way: str, beam: int, connections: int, loads: Sequence[Load]) -> dict[str, Any]:
    def middle(values: Sequence[float]) -> float:
        return round(statistics.median(values), 1)

    return {
        "way": way,
        "beam": beam,
        "connections": connections,
        "captions_per_second": middle([one.rate for one in loads]),
        "rounds": [round(one.rate, 1) for one in loads],
        "p50_ms": middle([one.percentile(0.50) for one in loads]),
        "p99_ms": middle([one.percentile(0.99) for one in loads]),
        "statuses": dict(sum((one.statuses for one in loads), Counter())),
    }


def overload(server: RunningServer, bodies: Sequence[bytes], requests: int) -> dict[str, Any]:
    """Ask for more than the queue holds."""
    before = server.memory_mb()
    result = load(server.port, bodies, requests, 64)
    time.sleep(2)
    print(f"{requests} requests over 64 connections, queue of 16: {dict(result.statuses)}")
    return {
        "requests": requests,
        "statuses": dict(result.statuses),
        "without_retry_after": result.without_retry,
        "captions_per_second": round(result.rate, 1),
        "pictures_with_two_captions": sum(len(texts) > 1 for texts in result.texts.values()),
        "memory_mb": [round(before), round(server.memory_mb())],
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--pictures", type=Path, required=True, help="a folder of JPEG files")
    parser.add_argument("--count", type=int, default=64, help="pictures to take from it")
    parser.add_argument("--requests", type=int, default=128, help="requests of a round")
    parser.add_argument("--overload", type=int, default=2000, help="requests to a full queue")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    end_with_the_servers()
    pictures = sorted(options.pictures.glob("*.jpg"))[: options.count]
    if not pictures:
        parser.error(f"{options.pictures}: no .jpg files")
    loads_before = os.getloadavg()
    with (
        RunningServer([options.run], WAYS["batches"]) as batches,
        RunningServer([options.run], WAYS["one at a time"]) as single,
    ):
        servers = {"batches": batches, "one at a time": single}
        rows = compare(servers, pictures, options.requests)
    with RunningServer([options.run], ["--queue", "16"]) as small:
        flooded = overload(small, bodies_of(pictures, 1), options.overload)
    figures = {
        "run": options.run,
        "load_average_before": loads_before,
        "rows": rows,
        "overload": flooded,
    }
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    bad = {s: n for s, n in flooded["statuses"].items() if s not in (200, 503)}
    return 1 if bad or flooded["without_retry_after"] else 0


if __name__ == "__main__":
    sys.exit(main())
