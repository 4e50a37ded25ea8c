"""Run the page and the API until a signal comes.

    serve(["runs/rnn", "runs/attention"], port=8000)

The first Ctrl-C (or SIGTERM) takes no more requests, finishes those that were taken, and ends; a
second Ctrl-C ends at once.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

import torch
import uvicorn

from pictell.errors import InputError
from pictell.machine import cores
from pictell.serve.app import create_app
from pictell.serve.limits import Limits
from pictell.serve.models import Models
from pictell.serve.service import Service

BACKLOG = 256
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def serve(
    runs: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    batch_size: int = 32,
    threads: int = 0,
    weights: str = "",
) -> None:
    """Serve until interrupted.

    Args:
        runs: Run folders.
        host: Address to listen on.
        port: Port; 0 for any that is free.
        limits: What requests may ask for.
        batch_size: Most pictures that are worked on together.
        threads: How many batches may be in work; 0 for one on a GPU, else one for each core.
        weights: Where the frozen encoders' weights are, if not where the configs say.

    Raises:
        InputError: A run cannot be used, the address is taken, or a number makes no sense.
    """
    limits = limits or Limits()
    _check(port, batch_size, threads)
    with contextlib.closing(_listen(host, port)) as listening:  # before the slow work
        models = Models.load(runs, weights=weights)
        threads = threads or _default_threads()
        # Threads share the cores: several batches on a thread each beat one on several.
        torch.set_num_threads(max(1, cores() // threads))
        models.warm_up()
        service = Service(models, limits, batch_size=batch_size, threads=threads)
        app = create_app(service, hosts=LOOPBACK_NAMES if _is_loopback(host) else None)
        _announce(models.names, listening, host)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(2 * limits.timeout) + 1,
        )
        # A form that does not parse is the client's fault, and the client is told.
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        with _signals_end_quietly():
            uvicorn.Server(config).run(sockets=[listening])
    print("stopped", file=sys.stderr)


def _check(port: int, batch_size: int, threads: int) -> None:
    if not 0 <= port <= 65535:
        raise InputError(f"port is {port}; it must be 0 to 65535")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be 1 or more")
    if threads < 0:
        raise InputError(f"threads is {threads}; it must be 0 (chosen for you) or more")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, asyncio turns Nagle's algorithm off for each connection. With it
        # on, an answer's body waits for the client to confirm the head, and is lost if the server
        # closes meanwhile on a client that is still sending.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise InputError(f"host is {host!r}, which is no address here ({error.strerror})") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror}); "
            "--port 0 takes any port that is free"
        ) from None
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _default_threads() -> int:
    return 1 if torch.cuda.is_available() else cores()


def _announce(names: Sequence[str], listening: socket.socket, host: str) -> None:
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}  serves {', '.join(names)}; Ctrl-C stops", flush=True)
    if not _is_loopback(host):
        print(
            f"warning: {host} is open to others, without a password or encryption; put a proxy "
            "with both in front of it",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more when it is done; that was its end."""
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: None) for number in stops}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
