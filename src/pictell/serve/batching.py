"""Pictures that arrive together are worked on together.

    batcher = Batcher(models.caption, batch_size=32, threads=2)
    await batcher.start()
    answer = await batcher.submit(job)
    await batcher.stop()

Nothing is held back to fill a batch: whoever is free takes what is waiting. While one batch is in
work the next one gathers, so that batches grow with the load and a lone picture waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from pictell.machine import return_freed_memory

Job = TypeVar("Job")
Answer = TypeVar("Answer")
_REST_SECONDS = 1.0  # between two times that memory is given back, which takes milliseconds
log = logging.getLogger("pictell.serve")

_RATE_MEMORY = 0.8  # weight of the past in the running mean of pictures per second


class Batcher(Generic[Job, Answer]):
    """A queue, and threads that work it off in batches.

    Args:
        work: Answers a list of jobs, in order; called in several threads at once.
        batch_size: Most jobs that are worked on together.
        threads: How many batches may be in work.
        observe: Told the size and the seconds of each batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Answer]],
        *,
        batch_size: int,
        threads: int = 1,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.work, self.batch_size, self.threads, self.observe = work, batch_size, threads, observe
        self.rate = 0.0  # jobs per second, of all threads; 0 before the first batch
        self._waiting: asyncio.Queue[tuple[Job, asyncio.Future[Answer]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._rested = time.monotonic()

    async def start(self) -> None:
        """Start the threads."""
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="captions")
        self._tasks = [asyncio.create_task(self._serve()) for _ in range(self.threads)]

    async def stop(self) -> None:
        """End the threads; jobs that nobody waits for any more are dropped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._executor.shutdown(wait=True, cancel_futures=True)

    @property
    def healthy(self) -> bool:
        """Whether jobs are still taken from the queue."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def submit(self, job: Job) -> Answer:
        """Wait for a job's answer; a caller that goes away takes its job with it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((job, future))
        return await future

    async def _serve(self) -> None:
        while True:
            batch = await self._next_batch()
            if batch:
                await self._answer(batch)
            if self._waiting.empty():
                await self._rest()

    async def _rest(self) -> None:
        """Give back what the last batches freed; not between batches that follow each other."""
        now = time.monotonic()
        if now - self._rested > _REST_SECONDS:
            self._rested = now
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, return_freed_memory)

    async def _next_batch(self) -> list[tuple[Job, asyncio.Future[Answer]]]:
        """The first job that waits, and this thread's share of the others.

        A thread that took all would make them wait for each other, while the next thread had
        nothing to do but what comes later.
        """
        batch = [await self._waiting.get()]
        share = math.ceil((1 + self._waiting.qsize()) / self.threads)
        while len(batch) < min(share, self.batch_size) and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return [(job, future) for job, future in batch if not future.done()]

    async def _answer(self, batch: Sequence[tuple[Job, asyncio.Future[Answer]]]) -> None:
        started = time.perf_counter()
        jobs = [job for job, _ in batch]
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._executor, self.work, jobs)
        except Exception as error:
            log.exception("a batch of %d pictures failed", len(batch))
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self._observe(len(batch), time.perf_counter() - started)
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _observe(self, size: int, seconds: float) -> None:
        rate = self.threads * size / seconds
        self.rate = _RATE_MEMORY * self.rate + (1 - _RATE_MEMORY) * rate if self.rate else rate
        self.observe(size, seconds)
