"""Whether time grows as the number of pictures and memory does not: 1,000 to 8,000 pictures.

    python -m pictell.bench.growth epoch 4000          # seconds and peak memory, as JSON

Each size runs in a process of its own. An exponent of 1 means that twice as many pictures take
twice as long.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pictell.bench.inputs import VOCABULARY, captions_of, lengths_of
from pictell.bench.measure import peak_of
from pictell.errors import InputError

OPERATIONS = ("encoding", "epoch", "decoding")
SIZES = (1000, 2000, 4000, 8000)


def grow(operation: str, sizes: Sequence[int] = SIZES) -> dict[str, list[float]]:
    """Seconds and peak memory of an operation at each size.

    Args:
        operation: `encoding` (files to a feature store, EfficientNet-Lite0 at 224 px), `epoch` (a
            training epoch of the attention decoder on stored features) or `decoding` (beam 5).
        sizes: Numbers of pictures.

    Returns:
        `pictures`, `seconds`, `peak_mb`, one value for each size.
    """
    found: dict[str, list[float]] = {"pictures": [], "seconds": [], "peak_mb": []}
    for size in sizes:
        command = [sys.executable, "-m", "pictell.bench.growth", operation, str(size)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise InputError(f"measuring {operation} of {size} pictures failed: {done.stderr}")
        for name, value in json.loads(done.stdout.splitlines()[-1]).items():
            found[name].append(value)
    return found


def exponent(pictures: Sequence[float], seconds: Sequence[float]) -> float:
    """The power of the number of pictures with which the seconds grow (least squares of logs)."""
    return float(np.polyfit(np.log(pictures), np.log(seconds), 1)[0])


def plot(results: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Time and memory against pictures, as an SVG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (times, memory) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, values in results.items():
        power = exponent(values["pictures"], values["seconds"])
        label = f"{name}: pictures to the power {power:.2f}"
        times.loglog(values["pictures"], values["seconds"], "o-", label=label)
        memory.plot(values["pictures"], values["peak_mb"], "o-", label=name)
    times.set(xlabel="pictures", ylabel="seconds", title="time")
    memory.set(xlabel="pictures", ylabel="MB", title="peak memory")
    memory.set_ylim(bottom=0)
    times.legend(fontsize="small")
    memory.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _stored(folder: Path, pictures: int, few: np.ndarray) -> np.ndarray:
    """The features of a few pictures (n, C, D), repeated in a file that is memory-mapped."""
    file = folder / "features.npy"
    array = np.lib.format.open_memmap(file, "w+", np.float16, (pictures, *few.shape[1:]))
    for start in range(0, pictures, len(few)):
        rows = array[start : start + len(few)]
        rows[:] = few[: len(rows)]
    array.flush()
    return np.load(file, mmap_mode="r")


def _epoch(folder: Path, pictures: int) -> Callable[[], object]:
    from pictell.bench.arithmetic import Shapes
    from pictell.bench.training import CLIP, TrainingStep
    from pictell.data.batches import Captions, StoredFeatures, epoch_batches, load_batches
    from pictell.decoders.base import targets_of
    from pictell.training.loss import loss_sums

    case = TrainingStep("attention", Shapes(features=1280))
    array = _stored(folder, pictures, case.features().half().numpy())
    stored = StoredFeatures(array, np.arange(pictures))
    words = captions_of(VOCABULARY, 5 * pictures)
    lengths = lengths_of(words)
    captions = Captions(words, np.repeat(np.arange(pictures), 5), lengths)
    decoder = case.build()
    decoder.compile_loops()
    adam = torch.optim.Adam(decoder.parameters(), lr=4e-4, fused=True)

    def run() -> None:
        batches = epoch_batches(lengths, 32, seed=0, epoch=0)
        for batch in load_batches(captions, stored, batches, workers=0):
            output = decoder.teacher_forced(
                batch.pictures.float(), batch.inputs, batch.lengths, batch.owners
            )
            targets = targets_of(batch.targets, batch.lengths)
            entropy, attention = loss_sums(output, targets, batch.lengths, "one")
            (entropy / len(targets) + attention / len(batch.lengths)).backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), CLIP)
            adam.step()
            adam.zero_grad()

    return run


def _decoding(folder: Path, pictures: int) -> Callable[[], object]:
    from pictell.bench.arithmetic import Shapes
    from pictell.bench.decoding import BeamSearch

    case = BeamSearch("attention", Shapes(features=1280))
    decoder, few = case.build()
    array = _stored(folder, pictures, few.half().numpy())

    @torch.inference_mode()
    def run() -> None:
        for start in range(0, pictures, 32):
            case.ours(decoder, torch.from_numpy(array[start : start + 32]).float())

    return run


def _encoding(folder: Path, pictures: int) -> Callable[[], object]:
    from PIL import Image

    from pictell.config import EncoderConfig
    from pictell.encoders.encoder import load_encoder
    from pictell.encoders.features import content_hashes, encode_pictures, store_of

    config = EncoderConfig(
        name="tf_efficientnet_lite0", image_size=224, features=str(folder / "store")
    )
    generator = np.random.default_rng(2)
    paths = []
    for number in range(pictures):
        pixels = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).resize((320, 240)).save(paths[-1], quality=85)
    encoder = load_encoder(config)

    def run() -> None:
        encode_pictures(encoder, store_of(config, encoder), paths, content_hashes(paths))

    return run


def main(operation: str, pictures: int) -> None:
    """Run one operation once and print its seconds and peak memory."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        make = {"encoding": _encoding, "epoch": _epoch, "decoding": _decoding}[operation]
        run = make(Path(folder), pictures)
        started = time.perf_counter()
        peak = peak_of(run)
        seconds = time.perf_counter() - started
    print(json.dumps({"pictures": pictures, "seconds": seconds, "peak_mb": round(peak, 1)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
