"""Sources made by hand that several tests read: small pictures, tables, what a reader found."""

import random
from pathlib import Path

from PIL import Image

from pictell.data.prepare import prepare


def make_picture(path: Path, number: int) -> None:
    """A small picture that differs from those of other numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.Random(number).randbytes(8 * 8 * 3)
    Image.frombytes("RGB", (8, 8), pixels).save(path)


def make_table(folder: Path, pictures: int = 20, splits: str = "") -> Path:
    """A CSV with two captions a picture; `splits` gives the split of each, by its first letter."""
    names = {"t": "train", "v": "val", "e": "test", " ": ""}
    lines = ["image,split,caption"]
    for number in range(pictures):
        make_picture(folder / f"{number:02d}.png", number)
        split = names[splits[number]] if splits else ""
        lines += [f"{number:02d}.png,{split},a dog runs {word}" for word in ("here", "there")]
    file = folder / "captions.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def prepare_quietly(source: Path | None, out: Path, kind="csv", **options):
    return prepare(kind, source, out, **{"min_count": 1, "progress": False, **options})


def make_pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)


def captions_of(reading) -> dict[str, tuple[str, ...]]:
    return {example.image_id: example.captions for example in reading.examples}


def splits_of(reading) -> dict[str, str]:
    return {example.image_id: example.split for example in reading.examples}
