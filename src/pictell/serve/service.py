"""From uploaded bytes to captions: decoding, the queue, the models, and the limits on all three."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pictell.captioner import Caption
from pictell.report.viewer import viewer_entry
from pictell.serve.batching import Batcher
from pictell.serve.decoding import DecodingPool
from pictell.serve.limits import MAX_BEAM, MAX_LENGTH, Limits, RefusedError
from pictell.serve.metrics import Metrics
from pictell.serve.models import OCCLUSION_PICTURES, Job, Models, Order
from pictell.serve.schemas import CaptionOptions
from pictell.serve.uploads import ByteBudget, Upload

LONGEST_RETRY = 30  # seconds


class Service:
    """Models behind a bounded queue.

    Args:
        models: What captions.
        limits: What is taken.
        batch_size: Most pictures that are worked on together.
        threads: How many batches may be in work.
    """

    def __init__(self, models: Models, limits: Limits, *, batch_size: int, threads: int) -> None:
        self.models, self.limits = models, limits
        self.metrics = Metrics()
        self.metrics.watch_pending(lambda: self.pending)
        self.budget = ByteBudget(limits)
        self.decoding = DecodingPool(limits, models.transforms)
        self.batcher = Batcher(
            models.caption,
            batch_size=batch_size,
            threads=threads,
            observe=self.metrics.observe_batch,
        )
        # A look by occlusion takes as long as many captions; those must not wait behind it.
        self.looks = Batcher(models.caption_with_occlusion, batch_size=1)
        self.pending = 0
        self.stopping = False

    async def start(self) -> None:
        """Start processes and threads."""
        await self.decoding.start()
        await self.batcher.start()
        await self.looks.start()

    async def stop(self) -> None:
        """Stop them; requests in work should be answered before."""
        self.stopping = True
        await self.batcher.stop()
        await self.looks.stop()
        await self.decoding.stop()

    def admit(self) -> None:
        """Refuse a request before its pictures are read, if they could not be taken.

        Raises:
            RefusedError: The queue is full, or the server is about to stop.
        """
        if self.stopping:
            message = "the server is stopping; try again in a moment"
            raise RefusedError(503, "stopping", message, retry_after=5)
        if self.pending >= self.limits.queue:
            raise self._busy()

    @asynccontextmanager
    async def room_for(self, pictures: int) -> AsyncIterator[None]:
        """Hold places in the queue.

        Raises:
            RefusedError: There are not as many.
        """
        # A single look may be larger than the queue; it is let in when nothing else waits.
        if self.pending and self.pending + pictures > self.limits.queue:
            raise self._busy()
        self.pending += pictures
        try:
            yield
        finally:
            self.pending -= pictures

    def _busy(self) -> RefusedError:
        seconds = self.pending / self.batcher.rate if self.batcher.rate else 1.0
        wait = min(max(1, math.ceil(seconds)), LONGEST_RETRY)
        message = f"{self.pending} pictures are waiting already; try again in {wait} s"
        return RefusedError(503, "busy", message, retry_after=wait)

    def orders(self, options: CaptionOptions) -> tuple[Order, ...]:
        """What is wanted of each picture.

        Raises:
            RefusedError: A model is not there.
        """
        for name in options.models:
            if name not in self.models.names:
                known = ", ".join(self.models.names)
                message = f"no model is named {name[:100]!r}; there are: {known}"
                raise RefusedError(422, "unknown_model", message)
        return tuple(
            self.models.order(
                name,
                beam=options.beam,
                length_penalty=options.length_penalty,
                max_length=options.max_length,
                block_repeats=options.block_repeats,
            )
            for name in dict.fromkeys(options.models or self.models.names)
        )

    async def caption(
        self, uploads: Sequence[Upload], options: CaptionOptions
    ) -> list[dict[str, Any] | RefusedError]:
        """Caption the pictures of a request; each gets an answer or the reason for none.

        Raises:
            RefusedError: All of them are refused for the same reason: no room, no such model, no
                time.
        """
        orders = self.orders(options)
        if options.occlusion and len(uploads) > 1:
            message = "occlusion maps are made for one picture a request; send the others apart"
            raise RefusedError(422, "one_at_a_time", message)
        cost = OCCLUSION_PICTURES * len(orders) if options.occlusion else len(uploads)
        async with self.room_for(cost):
            answers = [self._one(upload, orders, options) for upload in uploads]
            try:
                async with asyncio.timeout(self.limits.timeout):
                    return await asyncio.gather(*answers)
            except TimeoutError:
                message = f"no answer within {self.limits.timeout:g} s; try again later"
                raise RefusedError(503, "busy", message, retry_after=LONGEST_RETRY) from None

    async def _one(
        self, upload: Upload, orders: tuple[Order, ...], options: CaptionOptions
    ) -> dict[str, Any] | RefusedError:
        try:
            answer = await self._captioned(upload, orders, options)
        except RefusedError as refused:
            self.metrics.pictures.labels(refused.code).inc()
            return refused
        self.metrics.pictures.labels("captioned").inc()
        return answer

    async def _captioned(
        self, upload: Upload, orders: tuple[Order, ...], options: CaptionOptions
    ) -> dict[str, Any]:
        if len(upload.data) > self.limits.picture_bytes:
            message = (
                f"{upload.name}: {len(upload.data) / 1e6:.1f} MB are more than the "
                f"{self.limits.max_megabytes:g} MB that are taken; make it smaller"
            )
            raise RefusedError(413, "too_many_bytes", message)
        decoded = await self.decoding.decode(upload.data, upload.name, preview=options.preview)
        batcher = self.looks if options.occlusion else self.batcher
        captions = await batcher.submit(Job(decoded.pixels, decoded.size, orders))
        answer = {
            "file": upload.name,
            "width": decoded.size[0],
            "height": decoded.size[1],
            "captions": [
                _to_dict(caption, order.model, options.detail)
                for caption, order in zip(captions, orders, strict=True)
            ],
        }
        if decoded.preview is not None:
            encoded = base64.b64encode(decoded.preview).decode("ascii")
            answer["preview"] = f"data:image/jpeg;base64,{encoded}"
        return answer

    def health(self) -> dict[str, Any]:
        """What /healthz says."""
        works = self.batcher.healthy and self.looks.healthy
        status = "stopping" if self.stopping else "ok" if works else "broken"
        return {
            "status": status,
            "models": self.models.names,
            "pending": self.pending,
            "queue": self.limits.queue,
        }

    def describe(self) -> dict[str, Any]:
        """What /v1/models says."""
        limits = self.limits
        return {
            "models": list(self.models.descriptions.values()),
            "limits": {
                "picture_bytes": limits.picture_bytes,
                "request_bytes": limits.request_bytes,
                "pixels": limits.pixels,
                "frames": limits.max_frames,
                "pictures": limits.max_pictures,
                "seconds": limits.timeout,
                "beam": MAX_BEAM,
                "max_length": MAX_LENGTH,
            },
        }


def _to_dict(caption: Caption, model: str, detail: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "model": model,
        "text": caption.text,
        "log_probability": caption.log_probability,
        "ended": caption.ended,
    }
    if detail == "text":
        return answer
    kind = "occlusion" if caption.occlusion is not None else None
    entry = viewer_entry(caption, name=model, kind=kind)
    answer["words"] = entry["words"]
    if detail == "maps":
        answer |= {key: entry[key] for key in ("kind", "seen", "grid", "maps") if key in entry}
    return answer
