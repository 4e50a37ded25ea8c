"""Caption many files: decoded ahead by threads, captioned in batches.

    paths = find_pictures(["photos/"])
    failed = caption_files(captioner, paths, captioner.search, lambda path, caption: ...)

Axes: S side of the picture that the encoder sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pictell.captioner import Caption, Captioner
from pictell.config import SearchConfig
from pictell.data.images import IMAGE_SUFFIXES, ImageTransform, picture_size
from pictell.errors import InputError
from pictell.machine import cores

BATCHES_AHEAD = 2  # decoded while the model works
Failures = dict[Path, str]


def find_pictures(sources: Sequence[str | Path]) -> list[Path]:
    """The files given, and all pictures below the folders given; hidden files are left out.

    Raises:
        InputError: A folder holds no pictures.
    """
    files: list[Path] = []
    for source in map(Path, sources):
        if not source.is_dir():
            files.append(source)
            continue
        inside = sorted(p for p in source.rglob("*") if _is_picture(p))
        if not inside:
            raise InputError(f"{source}: no pictures in this folder")
        files += inside
    return list(dict.fromkeys(files))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


# -- the work --------------------------------------------------------------------------------------


def caption_files(
    captioner: Captioner,
    paths: Iterable[Path],
    search: SearchConfig,
    on_caption: Callable[[Path, Caption], None],
    *,
    batch_size: int = 32,
    on_progress: Callable[[int], None] = lambda count: None,
) -> Failures:
    """Caption files in order; what cannot be read is left out.

    Args:
        captioner: The model.
        paths: Picture files.
        search: How captions are found.
        on_caption: Told of each picture, in order.
        batch_size: Pictures that are worked on together.
        on_progress: Told the number of pictures that were done, bad ones included.

    Returns:
        Why, for each file that could not be captioned.
    """
    failed: Failures = {}
    for batch in _chunks(_decoded(captioner.encoder.transform, paths, batch_size), batch_size):
        good = [(path, read) for path, read in batch if not isinstance(read, str)]
        failed |= {path: read for path, read in batch if isinstance(read, str)}
        if good:
            captions = caption_pixels(captioner, [read for _, read in good], search)
            for (path, _), caption in zip(good, captions, strict=True):
                on_caption(path, caption)
        on_progress(len(batch))
    return failed


@torch.inference_mode()
def caption_pixels(
    captioner: Captioner,
    pictures: Sequence[tuple[np.ndarray, tuple[int, int]]],
    search: SearchConfig,
) -> list[Caption]:
    """Captions of pictures that were decoded: (3, S, S) uint8 each, with the upright size."""
    pixels = torch.from_numpy(np.stack([picture for picture, _ in pictures]))
    written = captioner.write(captioner.encoder(pixels.to(captioner.device)), search)
    seen = captioner.encoder.transform.seen_box
    return [
        Caption(**vars(caption), image_size=size, seen_box=seen(*size))
        for caption, (_, size) in zip(written, pictures, strict=True)
    ]


Read = tuple[np.ndarray, tuple[int, int]] | str


def _decoded(
    transform: ImageTransform, paths: Iterable[Path], batch_size: int
) -> Iterator[tuple[Path, Read]]:
    """Each file's pixels and size, or the reason for none; decoded by threads, in order."""
    ahead: deque[tuple[Path, Future[Read]]] = deque()
    executor = ThreadPoolExecutor(min(4, cores()), thread_name_prefix="decode")
    try:
        for path in paths:
            ahead.append((path, executor.submit(_read, transform, path)))
            if len(ahead) > BATCHES_AHEAD * batch_size:
                done, future = ahead.popleft()
                yield done, future.result()
        while ahead:
            done, future = ahead.popleft()
            yield done, future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _read(transform: ImageTransform, path: Path) -> Read:
    try:
        return transform.read(path), picture_size(path)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
