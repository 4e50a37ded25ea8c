"""Micro-batches: what waits is taken together, nobody waits for a batch to fill."""

import asyncio
import threading
import time

import pytest

from pictell.serve.batching import Batcher


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


class Work:
    """Doubles numbers, noting the batches; may be held up until it is released."""

    def __init__(self, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.released = threading.Event()
        if not held:
            self.released.set()

    def __call__(self, jobs):
        self.batches.append(list(jobs))
        assert self.released.wait(10)
        return [2 * job for job in jobs]


async def started(work, **options) -> Batcher:
    batcher = Batcher(work, **{"batch_size": 4, **options})
    await batcher.start()
    return batcher


def test_each_gets_its_own_answer():
    async def scenario():
        batcher = await started(Work(), batch_size=3, threads=2)
        answers = await asyncio.gather(*(batcher.submit(n) for n in range(50)))
        await batcher.stop()
        return answers

    assert run(scenario()) == [2 * n for n in range(50)]


def test_a_lone_job_does_not_wait_for_others():
    async def scenario():
        batcher = await started(Work())
        begun = time.perf_counter()
        await batcher.submit(1)
        seconds = time.perf_counter() - begun
        await batcher.stop()
        return seconds

    assert run(scenario()) < 0.5


def test_what_waits_while_a_batch_is_in_work_is_the_next_batch():
    work = Work(held=True)

    async def scenario():
        batcher = await started(work)
        first = asyncio.create_task(batcher.submit(0))
        while not work.batches:
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(batcher.submit(n)) for n in range(1, 7)]
        await asyncio.sleep(0.05)
        work.released.set()
        await asyncio.gather(first, *others)
        await batcher.stop()

    run(scenario())
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6]]  # of at most four


def test_threads_share_what_waits():
    """Neither takes all: 2 threads, 8 jobs at once, batches of at most half of what waits."""
    work = Work(held=True)

    async def scenario():
        batcher = await started(work, batch_size=32, threads=2)
        jobs = [asyncio.create_task(batcher.submit(n)) for n in range(8)]
        while len(work.batches) < 2:
            await asyncio.sleep(0.01)
        work.released.set()
        await asyncio.gather(*jobs)
        await batcher.stop()

    run(scenario())
    assert max(map(len, work.batches)) <= 4


def test_jobs_that_nobody_waits_for_are_not_worked_on():
    work = Work(held=True)

    async def scenario():
        batcher = await started(work, batch_size=1)
        first = asyncio.create_task(batcher.submit(0))
        while not work.batches:
            await asyncio.sleep(0.01)
        left, kept = (asyncio.create_task(batcher.submit(n)) for n in (1, 2))
        await asyncio.sleep(0.05)
        left.cancel()
        work.released.set()
        await asyncio.gather(first, kept)
        await batcher.stop()

    run(scenario())
    assert work.batches == [[0], [2]]


def test_a_failing_batch_fails_its_own_jobs_only(caplog):
    def work(jobs):
        if 13 in jobs:
            raise RuntimeError("bad luck")
        return jobs

    async def scenario():
        batcher = await started(work, batch_size=1)
        with pytest.raises(RuntimeError, match="bad luck"):
            await batcher.submit(13)
        answer = await batcher.submit(14)
        healthy = batcher.healthy
        await batcher.stop()
        return answer, healthy

    assert run(scenario()) == (14, True)
    assert "a batch of 1 pictures failed" in caplog.text  # with its traceback, for the operator


def test_sizes_and_the_rate_are_told():
    seen = []

    def work(jobs):
        time.sleep(0.05)
        return jobs

    async def scenario():
        batcher = await started(work, observe=lambda size, seconds: seen.append((size, seconds)))
        assert batcher.rate == 0
        await batcher.submit(1)
        await batcher.stop()
        return batcher.rate

    assert 2 < run(scenario()) < 20  # one job in 0.05 s, on a machine that may be busy
    assert seen[0][0] == 1
    assert seen[0][1] >= 0.05
