"""All that is measured of the attention of a run's captions.

    measures = measure_attention(captioner, data, words, settings)

The captions are those that were scored; each is stepped through once more for its maps, with the
features of the feature store. The deletion check alone reads pictures.

The result, as scores.json has it under `attention`:

    pictures, words, grid   how many captions and words were looked at; rows and columns of the maps
    entropy, change_over_words, change_over_pictures    as in `pictell.attention.maps`
    warnings                sentences on maps that are even, frozen or equal for all pictures
    by_class                for each class of words: words, entropy and gate (means; the gate is
                            null without one); null for a language without word classes
    boxes                   as in `pictell.attention.boxes`; null where the data have no boxes
    deletion                as in `pictell.attention.deletion`; null if it was left out
    settings                deletion_pictures, resamples and seed

Axes: T words, R rows, C columns, B images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pictell.attention.boxes import Look, box_measures, looks_at_things
from pictell.attention.deletion import Attended, deletion_check
from pictell.attention.gates import word_gates
from pictell.attention.maps import map_summary, map_warnings, relative_entropy
from pictell.captioner import Captioner
from pictell.data.images import picture_size
from pictell.data.records import Example
from pictell.data.word_classes import WORD_CLASSES, word_classes
from pictell.decoders.search import Hypothesis
from pictell.errors import InputError
from pictell.training.task import SplitData, all_positions
from pictell.training.validation import region_features

PICTURES_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """How attention is measured.

    Attributes:
        deletion_pictures: Pictures of the deletion check, drawn at random; 0 leaves it out.
        resamples: Of the bootstrap over pictures.
        seed: Of the bootstrap, of the pictures and of the random cells.
    """

    deletion_pictures: int = 30
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.deletion_pictures < 0:
            raise InputError(
                f"deletion_pictures is {self.deletion_pictures}; give 0 to leave the check out, or "
                "a number of pictures"
            )


@dataclass(frozen=True, eq=False)
class _Caption:
    """A caption with its maps (T, R, C) and, for a decoder with one, the mean gate of each word."""

    words: list[str]
    maps: np.ndarray
    gates: list[float] | None


def measure_attention(
    captioner: Captioner,
    data: SplitData,
    captions: Sequence[list[str]],
    settings: AttentionSettings,
) -> dict[str, Any]:
    """Measure the attention of given captions of a split; see the head of this file.

    Args:
        captioner: Whose decoder attends.
        data: The split.
        captions: Words of one caption per picture, in the order of the split.
        settings: How much, and by which chance.
    """
    looked = _step_through(captioner, data, captions)
    maps = [caption.maps for caption in looked]
    summary = map_summary(maps)
    class_of = word_classes(data.tokenizer.name)
    looks = [
        _looks(captioner, example, caption)
        for example, caption in zip(data.examples, looked, strict=True)
    ]
    how = {"resamples": settings.resamples, "seed": settings.seed}
    return {
        "pictures": len(looked),
        "words": sum(len(caption.words) for caption in looked),
        "grid": list(captioner.decoder.grid),
        **summary,
        "warnings": map_warnings(summary),
        "by_class": _by_class(looked, class_of) if class_of else None,
        "boxes": box_measures(looks, **how),
        "deletion": deletion_check(
            captioner, _drawn(data.examples, looked, class_of, settings), class_of, **how
        ),
        "settings": asdict(settings),
    }


def _step_through(
    captioner: Captioner, data: SplitData, captions: Sequence[list[str]]
) -> list[_Caption]:
    looked: list[_Caption] = []
    for positions in all_positions(data, PICTURES_AT_ONCE):
        with torch.inference_mode():
            pictures = data.pictures(positions)
            features = region_features(pictures, captioner.encoder, captioner.device)
        numbers = [captioner.vocabulary.encode(captions[p]) for p in positions]
        given = [Hypothesis(words, 0.0, 0.0, True) for words in numbers]
        gates = word_gates(captioner.decoder, features, numbers, device=captioner.device)
        for row, written in enumerate(captioner.explain(features, given)):
            assert written.attention is not None
            gate = None if gates is None else gates[row]
            looked.append(_Caption(written.words, written.attention, gate))
    return looked


def _looks(captioner: Captioner, example: Example, caption: _Caption) -> list[Look]:
    objects = objects_of(example)
    if not objects:
        return []
    seen = captioner.encoder.transform.seen_box(*picture_size(example.path))
    return looks_at_things(caption.words, caption.maps, objects, seen)


def objects_of(example: Example) -> list[dict[str, Any]]:
    """The things of a picture with their boxes and names; empty where the data have none.

    Raises:
        InputError: `extra.objects` is there, but not as `pictell.attention.boxes` needs it.
    """
    objects = (example.extra or {}).get("objects") or []
    try:
        for thing in objects:
            left, top, right, bottom = map(float, thing["box"])
            usable = left < right and top < bottom and not isinstance(thing["words"], str)
            if not usable or not all(isinstance(word, str) for word in thing["words"]):
                raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"picture {example.image_id}: extra.objects must be a list of objects with box (left, "
            f"top, right, bottom in pixels) and words (a list of texts), not {objects!r:.80}"
        ) from None
    return list(objects)


def _by_class(looked: Sequence[_Caption], class_of: Any) -> dict[str, dict[str, Any]]:
    names = np.array([class_of(word) for caption in looked for word in caption.words])
    entropy = np.concatenate([relative_entropy(caption.maps) for caption in looked])
    gates = None
    if all(caption.gates is not None for caption in looked):
        gates = np.array([gate for caption in looked for gate in caption.gates or ()])
    return {
        name: {
            "words": int((names == name).sum()),
            "entropy": float(entropy[names == name].mean()),
            "gate": None if gates is None else float(gates[names == name].mean()),
        }
        for name in WORD_CLASSES
        if (names == name).any()
    }


def _drawn(
    examples: Sequence[Example],
    looked: Sequence[_Caption],
    class_of: Any,
    settings: AttentionSettings,
) -> list[Attended]:
    """Pictures for the deletion check; grammar is not tested, since it hardly needs a picture."""
    tested = [
        [t for t, word in enumerate(c.words) if class_of is None or class_of(word) != "function"]
        for c in looked
    ]
    usable = [position for position, words in enumerate(tested) if words]
    count = min(settings.deletion_pictures, len(usable))
    drawn = np.random.default_rng(settings.seed).choice(len(usable), size=count, replace=False)
    return [
        Attended(
            examples[p].path,
            looked[p].words,
            looked[p].maps.reshape(len(looked[p].maps), -1),
            tested[p],
        )
        for p in (usable[int(i)] for i in sorted(drawn))
    ]
