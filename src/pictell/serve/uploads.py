"""Read pictures and options out of a multipart request, within limits and in memory alone.

A request is refused as early as can be: by its head, while its bytes come in, or by its parts.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from pictell.serve.limits import Limits, RefusedError

FIELD = "pictures"
MAX_FIELDS = 32
MAX_FIELD_BYTES = 4096
MAX_NAME = 120  # characters
DRAIN_SECONDS, DRAIN_BYTES = 1.0, 8_000_000
EXAMPLE = "for example  curl -F pictures=@photo.jpg http://127.0.0.1:8000/v1/captions"


@dataclass(frozen=True, eq=False)
class Upload:
    """A file as it came: a name to call it by, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, eq=False)
class Form:
    """What a request holds: pictures, and values by the name of their field."""

    pictures: list[Upload]
    fields: dict[str, list[str]]


class ByteBudget:
    """Bytes of requests that are in memory; what does not fit is refused, not queued."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.used = 0

    @asynccontextmanager
    async def reserve(self, request: Request) -> AsyncIterator[None]:
        """Hold what a request says that it will send, or the most that it may.

        Raises:
            RefusedError: The request is too large, or too much is in memory already.
        """
        size = _declared_bytes(request, self.limits)
        if self.used + size > self.limits.bytes_in_flight:
            message = "too much is being sent at once; try again in a moment"
            raise RefusedError(503, "busy", message, retry_after=1)
        self.used += size
        try:
            yield
        finally:
            self.used -= size


def _declared_bytes(request: Request, limits: Limits) -> int:
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        return limits.request_bytes
    if int(declared) > limits.request_bytes:
        raise _too_many_bytes(limits)
    return int(declared)


def _too_many_bytes(limits: Limits) -> RefusedError:
    message = (
        f"the request is larger than the {limits.request_bytes / 1e6:.0f} MB that are taken; "
        "send fewer or smaller pictures"
    )
    return RefusedError(413, "request_too_large", message)


async def read_form(request: Request, limits: Limits) -> Form:
    """Read the whole request.

    Raises:
        RefusedError: It is no multipart form, holds no picture or too many, is too large, or comes
            too slowly.
        starlette.requests.ClientDisconnect: The client went away.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        message = f"send pictures as multipart/form-data, {EXAMPLE}"
        raise RefusedError(415, "not_multipart", message)
    parser = _MemoryParser(request, limits)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        message = f"the multipart form does not parse ({error.message}); {EXAMPLE}"
        raise RefusedError(400, "bad_form", message) from None
    pictures: list[Upload] = []
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            pictures.append(await _upload(name, value, len(pictures) + 1))
        else:
            fields.setdefault(name, []).append(value)
    if not pictures:
        message = f"no picture in the request; send one or more in the field {FIELD}, {EXAMPLE}"
        raise RefusedError(400, "no_picture", message)
    return Form(pictures, fields)


class _MemoryParser(MultiPartParser):
    """Starlette's parser, with files that stay in memory and a bounded number of them."""

    def __init__(self, request: Request, limits: Limits) -> None:
        super().__init__(
            request.headers,
            _bounded_stream(request, limits),
            max_fields=MAX_FIELDS,
            max_part_size=MAX_FIELD_BYTES,
        )
        self.limits = limits
        self.spool_max_size = limits.request_bytes + 1  # never reached: nothing goes to disk

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_files > self.limits.max_pictures:
            message = (
                f"more than {self.limits.max_pictures} pictures in one request; send several "
                "requests"
            )
            raise RefusedError(413, "too_many_pictures", message)


async def _bounded_stream(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The request's bytes, refused when there are too many or when they take too long."""
    received = 0
    stream = request.stream()
    deadline = asyncio.get_running_loop().time() + limits.timeout
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            message = f"the request took longer than {limits.timeout:g} s to arrive; send it faster"
            raise RefusedError(408, "too_slow", message) from None
        received += len(chunk)
        if received > limits.request_bytes:
            raise _too_many_bytes(limits)
        yield chunk


async def _upload(field: str, file: UploadFile, number: int) -> Upload:
    if field != FIELD:
        message = f"a file came in the field {field[:MAX_NAME]!r}; send pictures in {FIELD!r}"
        raise RefusedError(400, "unknown_field", message)
    return Upload(safe_name(file.filename or "", number), await file.read())


def safe_name(name: str, number: int) -> str:
    """The last part of a file name, fit to be shown; it is never used as a path."""
    last = PurePosixPath(name.replace("\\", "/")).name
    shown = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip()
    return shown[:MAX_NAME] if shown.strip(".") else f"picture {number}"


async def drain(request: Request) -> None:
    """Read on for a moment after a refusal: a client that is still sending misses the answer."""
    received = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while received < DRAIN_BYTES:
                message: Any = await request.receive()
                received += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except (TimeoutError, RuntimeError):
        return
