"""A bounded pool of processes that decode uploaded pictures.

    decoding = DecodingPool(Limits(), transforms)
    await decoding.start()
    decoded = await decoding.decode(data, "photo.jpg")
    await decoding.stop()

A worker that takes too long or dies is replaced; the picture that it worked on is refused, the
others do not notice. What a worker may do is set in `decode_worker`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pictell.data.images import ImageTransform
from pictell.serve.decode_worker import HEAD
from pictell.serve.limits import Limits, RefusedError

PREVIEW_SIDE = 1280


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture that was decoded.

    Attributes:
        size: Width and height, upright, at full size.
        pixels: For each transform (3, S, S) uint8.
        preview: An upright JPEG, if one was asked for.
    """

    size: tuple[int, int]
    pixels: list[np.ndarray]
    preview: bytes | None


class DecodingPool:
    """Processes that decode, one picture each at a time.

    Args:
        limits: How many processes, their memory and time, and the largest picture.
        transforms: What the models' encoders want of a picture.
    """

    def __init__(self, limits: Limits, transforms: Sequence[ImageTransform]) -> None:
        self.limits, self.transforms = limits, list(transforms)
        self._workers: list[_Worker] = []
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()

    async def start(self) -> None:
        """Start the processes."""
        for _ in range(self.limits.decoders):
            self._workers.append(_Worker(self.limits.decoder_megabytes))
        await asyncio.gather(*(worker.start() for worker in self._workers))
        for worker in self._workers:
            self._idle.put_nowait(worker)

    async def stop(self) -> None:
        """End the processes."""
        await asyncio.gather(*(worker.kill() for worker in self._workers))

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that run."""
        return [worker.process_id for worker in self._workers]

    async def decode(self, data: bytes, name: str, *, preview: bool = False) -> Decoded:
        """Decode one picture; waits for a free worker.

        Raises:
            RefusedError: The picture cannot or must not be decoded.
        """
        job = {
            "name": name,
            "max_pixels": self.limits.pixels,
            "max_frames": self.limits.max_frames,
            "transforms": [vars(transform) for transform in self.transforms],
            "preview": PREVIEW_SIDE if preview else 0,
        }
        worker = await self._idle.get()
        exchange = asyncio.create_task(self._exchange(worker, job, data))
        exchange.add_done_callback(lambda task: self._release(worker, task))
        # A caller that goes away must not leave half an exchange in the pipe.
        text, parts = await asyncio.shield(exchange)
        if "status" in text:
            raise RefusedError(**text)
        return self._decoded(text, parts)

    def _release(self, worker: _Worker, exchange: asyncio.Task[Any]) -> None:
        if not exchange.cancelled():
            exchange.exception()  # whoever waited has it; nobody else needs to be told
        self._idle.put_nowait(worker)

    async def _exchange(
        self, worker: _Worker, job: dict[str, Any], data: bytes
    ) -> tuple[dict[str, Any], bytes]:
        seconds = self.limits.decode_seconds
        try:
            return await asyncio.wait_for(worker.exchange(job, data), seconds)
        except TimeoutError:
            await worker.restart()
            message = f"{job['name']}: decoding takes longer than {seconds:g} s; make it smaller"
            raise RefusedError(422, "too_slow_to_decode", message) from None
        except (OSError, asyncio.IncompleteReadError):
            await worker.restart()
            message = f"{job['name']}: the picture broke the decoder; save it again in another way"
            raise RefusedError(422, "undecodable", message) from None

    def _decoded(self, text: dict[str, Any], data: bytes) -> Decoded:
        parts, start = [], 0
        for length in text["lengths"]:
            parts.append(data[start : start + length])
            start += length
        pixels = [
            np.frombuffer(part, np.uint8).reshape(3, transform.size, transform.size)
            for part, transform in zip(parts, self.transforms, strict=False)
        ]
        preview = parts[len(self.transforms)] if len(parts) > len(self.transforms) else None
        width, height = text["size"]
        return Decoded((width, height), pixels, preview)


class _Worker:
    """One process and the pipes to it."""

    def __init__(self, megabytes: float) -> None:
        self.megabytes = megabytes
        self.process: asyncio.subprocess.Process | None = None

    @property
    def process_id(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pictell.serve.decode_worker",
            str(self.megabytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # NumPy's thread pool would reserve most of the address space that a worker may use.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            # Ctrl-C in a terminal reaches a whole group, and workers have pictures to finish.
            start_new_session=True,
        )

    async def kill(self) -> None:
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def exchange(self, job: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        assert self.process is not None
        writer, reader = self.process.stdin, self.process.stdout
        assert writer is not None and reader is not None
        text = json.dumps(job).encode()
        writer.write(HEAD.pack(len(text), len(data)) + text)
        writer.write(data)
        await writer.drain()
        text_length, data_length = HEAD.unpack(await reader.readexactly(HEAD.size))
        answer = json.loads(await reader.readexactly(text_length))
        return answer, await reader.readexactly(data_length)
