"""The wording of generated scenes: true English sentences about groups of things.

    describe("left of", (Group("car", "red"), Group("dog", count=2)), "beach", random.Random(0))

Every sentence names the groups in the same order, which a reader can know from the picture: the
left group before the right one, the upper before the lower, and what is in between before its left
and its right neighbour. Where a sentence differs from another one, it differs in its form alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

CAPTIONS_PER_SCENE = 5

BACKGROUNDS = {
    "meadow": "in a meadow",
    "beach": "on a beach",
    "night": "under the stars",
    "snow": "in the snow",
    "city": "in a city",
    "room": "in a room",
}

PLACES = {
    "top left": "in the top left corner",
    "top": "at the top",
    "top right": "in the top right corner",
    "left": "on the left",
    "middle": "in the middle",
    "right": "on the right",
    "bottom left": "in the bottom left corner",
    "bottom": "at the bottom",
    "bottom right": "in the bottom right corner",
}

# {a}, {b}, {c}: the groups; {is}: "is" or "are", as the first group wants; {on}: the background.
SENTENCES = {
    "left of": (
        "{a} to the left of {b} {on}",
        "{a} {is} to the left of {b} {on}",
        "there {is} {a} to the left of {b} {on}",
        "{on}, {a} {is} to the left of {b}",
        "{on}, there {is} {a} to the left of {b}",
        "{a} with {b} to the right {on}",
        "{a} on the left and {b} on the right {on}",
    ),
    "above": (
        "{a} above {b} {on}",
        "{a} {is} above {b} {on}",
        "there {is} {a} above {b} {on}",
        "{on}, {a} {is} above {b}",
        "{on}, there {is} {a} above {b}",
        "{a} with {b} below {on}",
        "{a} at the top and {b} at the bottom {on}",
    ),
    "between": (
        "{a} between {b} and {c} {on}",
        "{a} {is} between {b} and {c} {on}",
        "there {is} {a} between {b} and {c} {on}",
        "{on}, {a} {is} between {b} and {c}",
        "{on}, there {is} {a} between {b} and {c}",
        "{a} halfway between {b} and {c} {on}",
    ),
    "alone": (
        "{a} {place} {on}",
        "{a} {is} {place} {on}",
        "there {is} {a} {place} {on}",
        "{on}, {a} {is} {place}",
        "{on}, there {is} {a} {place}",
        "{a} can be seen {place} {on}",
    ),
}

_NUMBERS = ("", "a", "two", "three", "four")
_PLURALS = {"fish": "fish", "bus": "buses", "cactus": "cactuses", "butterfly": "butterflies"}


@dataclass(frozen=True)
class Group:
    """One to four things of a kind that stand together.

    Attributes:
        kind: The noun, in the singular.
        color: The word for the colour, if the kind comes in several.
        size: `small` or `big` for a single thing of a kind without colours, else nothing.
        count: 1 to 4.
    """

    kind: str
    color: str = ""
    size: str = ""
    count: int = 1

    @property
    def phrase(self) -> str:
        """The noun phrase: `a red car`, `three dogs`."""
        # A single thing always has an adjective, and none begins with a vowel: "a" is right.
        noun = self.kind if self.count == 1 else plural(self.kind)
        return " ".join(filter(None, (_NUMBERS[self.count], self.size, self.color, noun)))


def plural(noun: str) -> str:
    """The plural of a kind's name."""
    return _PLURALS.get(noun, noun + "s")


def nouns(kind: str) -> list[str]:
    """The words that captions use for a kind: singular and plural, once if they are the same."""
    return list(dict.fromkeys((kind, plural(kind))))


def sentences(relation: str, groups: tuple[Group, ...], background: str) -> list[str]:
    """All sentences that can be said of a scene.

    Args:
        relation: `left of`, `above`, `between`, or a place (a key of `PLACES`) of a single group.
        groups: In the order in which they are named.
        background: A key of `BACKGROUNDS`.
    """
    words = {
        "is": "is" if groups[0].count == 1 else "are",
        "on": BACKGROUNDS[background],
        "place": PLACES.get(relation, ""),
        **dict(zip("abc", (group.phrase for group in groups), strict=False)),
    }
    texts = (form.format(**words) for form in SENTENCES.get(relation, SENTENCES["alone"]))
    return [text[0].upper() + text[1:] + "." for text in texts]


def describe(
    relation: str, groups: tuple[Group, ...], background: str, rng: random.Random
) -> tuple[str, ...]:
    """Five different sentences about a scene, in random order."""
    return tuple(rng.sample(sentences(relation, groups, background), CAPTIONS_PER_SCENE))
