"""The feature store: what a frozen encoder says of every picture, computed once.

A store is a folder: `features.npy`, an array (pictures, C, D) of fp16 that grows at its end and is
read memory-mapped; `index.jsonl`, one line a row with the picture's content hash, appended after
the row is on disk; and `store.json`, which names the encoder. Rows are found by the content of the
picture, and the folder's name holds a hash of the encoder's weights and preprocessing: a changed
picture or backbone is encoded anew, never served stale. An interrupted run goes on where it was.

Axes: C cells, D feature width.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from pictell.config import EncoderConfig
from pictell.data.records import Example
from pictell.data.views import PLAIN, View
from pictell.encoders.encoder import Encoder
from pictell.errors import InputError
from pictell.files import read_json, read_text, write_json, write_jsonl
from pictell.machine import cores, return_freed_memory

try:
    import fcntl
except ImportError:  # not a Unix system: two processes must not encode into one store there
    fcntl = None

_BATCHES_TO_TRIM = 8  # between two times that freed memory is given back: milliseconds each
_HEADER_BYTES = 128  # numpy pads the header of a .npy file, so that its first axis may grow


class FeatureStore:
    """Features of pictures, by content.

    Attributes:
        grid: Rows and columns of cells.
        feature_size: Width D of a cell.
    """

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self.description = description
        self.grid: tuple[int, int] = tuple(description["grid"])
        self.feature_size: int = description["feature_size"]
        self.rows = self._rows_on_disk()

    @classmethod
    def open(cls, encoder: Encoder, root: Path, *, source: str = "") -> FeatureStore:
        """The store of an encoder below `root` (created when new), or `root` if it is a store.

        Raises:
            InputError: `root` is a store of another encoder.
        """
        key = encoder.fingerprint()
        config = encoder.config
        described = (root / "store.json").exists()
        folder = root if described else root / f"{config.name}-{config.image_size}-{key[:12]}"
        wanted = {
            "encoder": config.name,
            "weights": config.weights,
            "image_size": config.image_size,
            "resize": config.resize,
            "earlier_layers": config.earlier_layer_names,
            "grid": list(encoder.grid),
            "feature_size": encoder.feature_size,
            "key": key,
        }
        if (folder / "store.json").exists():
            found = read_json(folder / "store.json", what="feature store")
            if found.get("key") != key:
                raise InputError(
                    f"{folder}: holds features of {found.get('encoder')} at "
                    f"{found.get('image_size')} px (key {str(found.get('key'))[:12]}), not of "
                    f"{config.name} at {config.image_size} px with the given weights (key "
                    f"{key[:12]}); name another folder with --encoder.features"
                )
            return cls(folder, found)
        write_json(folder / "store.json", wanted)
        return cls(folder, wanted)

    @property
    def _file(self) -> Path:
        return self.folder / "features.npy"

    @property
    def _index(self) -> Path:
        return self.folder / "index.jsonl"

    def _rows_on_disk(self) -> dict[str, int]:
        """Content hash -> row, without rows whose line or data were cut off."""
        row_bytes = self.grid[0] * self.grid[1] * self.feature_size * 2
        size = self._file.stat().st_size if self._file.exists() else 0
        whole = (size - _HEADER_BYTES) // row_bytes
        return {content: row for content, row in _read_index(self._index).items() if row < whole}

    def array(self) -> np.ndarray:
        """All rows, memory-mapped and read-only: (rows, C, D) fp16."""
        shape = (len(self.rows), self.grid[0] * self.grid[1], self.feature_size)
        if self._file.stat().st_size < _HEADER_BYTES + int(np.prod(shape)) * 2:
            raise InputError(
                f"{self._file}: shorter than its index says; delete {self.folder} and encode again"
            )
        return np.memmap(self._file, np.float16, "r", offset=_HEADER_BYTES, shape=shape)

    def missing(self, hashes: Sequence[str]) -> list[int]:
        """Positions of the pictures that have no row, each content once."""
        seen: set[str] = set(self.rows)
        wanted = []
        for position, content in enumerate(hashes):
            if content not in seen:
                seen.add(content)
                wanted.append(position)
        return wanted

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with open(self.folder / ".lock", "w") as lock:
            try:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{self.folder}: another process is encoding into it") from None
            self.rows = self._rows_on_disk()  # with what others have added since
            if self._index.exists() and len(self._index.read_bytes().splitlines()) > len(self.rows):
                lines = [{"row": row, "sha256": content} for content, row in self.rows.items()]
                write_jsonl(self._index, lines)  # without what was cut off
            yield


def _header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00"
    size = _HEADER_BYTES - len(magic) - 2
    return magic + size.to_bytes(2, "little") + (text.ljust(size - 1) + "\n").encode()


def _read_index(path: Path) -> dict[str, int]:
    """Content hash -> row. A last line without its end is being written, or was cut off."""
    if not path.exists():
        return {}
    lines = read_text(path, what="index").split("\n")[:-1]
    try:
        rows = [json.loads(line) for line in lines]
        return {row["sha256"]: row["row"] for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not as expected ({type(error).__name__}); delete its folder and encode again"
        ) from None


def content_hashes(paths: Sequence[Path], cache: Path | None = None) -> list[str]:
    """SHA-256 of each file.

    Args:
        paths: Pictures.
        cache: A file that remembers hashes by path, size and time of change, so that an unchanged
            file is not read again.

    Raises:
        InputError: A file is missing.
    """
    known: dict[str, list[Any]] = {}
    if cache is not None and cache.exists():
        known = read_json(cache)
    hashes, changed = [], False
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            raise InputError(
                f"{path}: no such picture; run pictell prepare again if the pictures moved"
            ) from None
        entry = known.get(str(path))
        if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror})") from None
            entry = known[str(path)] = [status.st_size, status.st_mtime_ns, digest]
            changed = True
        hashes.append(entry[2])
    if cache is not None and changed:
        write_json(cache, known)
    return hashes


class _Pictures(torch.utils.data.Dataset):
    def __init__(self, encoder: Encoder, paths: Sequence[Path], view: View) -> None:
        self.transform = encoder.transform
        self.paths, self.view = paths, view

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor | str:
        try:
            return torch.from_numpy(self.view.read(self.paths[index], self.transform))  # (3, S, S)
        except InputError as error:  # told by the main process: a worker's traceback helps nobody
            return str(error)


def _collate(items: list[Any]) -> torch.Tensor | str:
    return next((item for item in items if isinstance(item, str)), None) or torch.stack(items)


def encode_pictures(
    encoder: Encoder,
    store: FeatureStore,
    paths: Sequence[Path],
    hashes: Sequence[str],
    *,
    workers: int = 4,
    view: View = PLAIN,
    on_progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Encode the pictures that the store lacks; returns how many there were.

    Args:
        encoder: With which weights.
        store: Where to.
        paths: The pictures.
        hashes: Their names in the store: hashes of their content, or `view.name` of these.
        workers: Processes that decode.
        view: What of the pictures the encoder is shown.
        on_progress: Called with the number of pictures after each batch.

    Raises:
        InputError: A picture does not decode, or the features are not finite or all the same.
    """
    device = encoder.mean.device
    with store._writing():
        positions = store.missing(hashes)
        if not positions:
            return 0
        loader = DataLoader(
            _Pictures(encoder, [paths[p] for p in positions], view),
            batch_size=encoder.config.batch_size,
            num_workers=min(workers, cores()) if len(positions) > 64 else 0,
            collate_fn=_collate,
        )
        done = 0
        with _Writer(store) as writer:
            for pixels in loader:
                if isinstance(pixels, str):
                    raise InputError(f"{pixels}; run pictell prepare again to leave it out")
                batch = positions[done : done + len(pixels)]
                with torch.inference_mode():
                    features = encoder(pixels.to(device)).half()
                    _check_features(features, [paths[p] for p in batch], encoder.config.batch_size)
                writer.add([hashes[p] for p in batch], features.cpu().numpy())
                done += len(batch)
                if done % (_BATCHES_TO_TRIM * encoder.config.batch_size) == 0:
                    return_freed_memory()
                on_progress(len(batch))
    return done


class _Writer:
    """Adds rows (D wide, C cells) at the end of a store.

    Data go to the file at once, so that memory holds one batch; the index tells of them after they
    are on disk, so that a cut loses nothing. Bringing each batch to the disk by itself would cost
    more than encoding it: that is done every few seconds, and however the block ends.
    """

    def __init__(self, store: FeatureStore, seconds: float = 5.0) -> None:
        self._store, self._seconds = store, seconds
        self._hashes: list[str] = []  # whose data are written, but not surely on disk
        self._shape: tuple[int, ...] = ()
        self._since = time.monotonic()

    def add(self, hashes: Sequence[str], features: np.ndarray) -> None:
        """Add rows: (rows, C, D) fp16."""
        row = len(self._store.rows) + len(self._hashes)
        self._file.seek(_HEADER_BYTES + row * features[0].nbytes)
        self._file.write(np.ascontiguousarray(features).data)
        self._hashes += hashes
        self._shape = features.shape[1:]
        if time.monotonic() - self._since > self._seconds:
            self._commit()

    def _commit(self) -> None:
        rows, self._since = self._store.rows, time.monotonic()
        if not self._hashes:
            return
        self._file.seek(0)
        self._file.write(_header((len(rows) + len(self._hashes), *self._shape)))
        self._file.flush()
        os.fsync(self._file.fileno())
        with open(self._store._index, "a", encoding="utf-8") as index:
            for content in self._hashes:
                rows[content] = len(rows)
                index.write(json.dumps({"row": rows[content], "sha256": content}) + "\n")
        self._hashes = []

    def __enter__(self) -> _Writer:
        path = self._store._file
        self._file = open(path, "r+b" if path.exists() else "w+b")
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._commit()


def _check_features(features: torch.Tensor, paths: Sequence[Path], batch_size: int) -> None:
    # Done where the features are: numpy is slow at half precision, and a GPU would wait for it.
    means = features.float().mean(dim=1)  # (B, D): not finite where a cell is not
    finite = means.isfinite().all(dim=1)
    if not finite.all():
        path = paths[int(finite.int().argmin())]
        raise InputError(f"{path}: its features are not finite in fp16; choose another encoder")
    # A float picture stored as bytes, or weights that do not fit, give equal features for all.
    # In a short last batch it may be one picture, saved twice.
    several = len(features) >= min(batch_size, 8) > 1
    if several and means.std(dim=0, correction=0).max() < 1e-6:
        raise InputError(
            f"{paths[0]} and the {len(paths) - 1} pictures after it have the same features: "
            "the pictures are all alike (black?), or the encoder's weights are broken"
        )


def store_of(config: EncoderConfig, encoder: Encoder) -> FeatureStore:
    """The feature store that a config means."""
    return FeatureStore.open(encoder, Path(config.features))


def rows_of(
    store: FeatureStore, examples: Sequence[Example], views: Sequence[View] = (PLAIN,)
) -> np.ndarray:
    """The store's row of each view of each example's picture: (views * examples,) int64, all
    pictures of a view together.

    Raises:
        InputError: A picture has no row: it is new or was changed after encoding.
    """
    hashes = content_hashes([e.path for e in examples], store.folder / "hashes.json")
    rows = [store.rows.get(view.name(content), -1) for view in views for content in hashes]
    if rows and min(rows) < 0:
        example = examples[rows.index(-1) % len(examples)]
        raise InputError(f"{example.path}: not in {store.folder}; run pictell encode first")
    return np.array(rows, dtype=np.int64)
