"""Missing splits are made by picture: one picture's captions, and its copies, are never parted.

    examples, notes = complete_splits(examples, contents, val_share=0.1, test_share=0.1, seed=0)

The order of the file has no say; the same pictures and seed give the same splits everywhere.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pictell.data.records import SPLITS, Example, Split
from pictell.errors import InputError


def complete_splits(
    examples: Sequence[Example],
    contents: Mapping[str, str],
    *,
    val_share: float,
    test_share: float,
    seed: int,
) -> tuple[list[Example], list[str]]:
    """Give every split that training and testing need, touching as little as possible.

    No split at all: shares of all pictures. No validation: carved from training. No test: half of
    validation, or carved from training where there is no validation either. No training pictures:
    nothing is moved, the set serves for testing alone.

    Args:
        examples: All with a split or all without.
        contents: `image_id` -> a hash of the picture; equal hashes stay in one split.
        val_share: Share of the pictures for validation, 0 for none.
        test_share: Share of the pictures for testing, 0 for none.
        seed: Which of the equally good divisions.

    Returns:
        The examples, in their order, and one line for each thing done.
    """
    check_shares(val_share, test_share)
    present = {example.split for example in examples} - {""}
    if present and "train" not in present:
        return list(examples), ["no training pictures: this set can be tested on, not trained on"]
    source: Split = "train" if present else ""
    take: dict[Split, float] = {}
    if "val" not in present and val_share:
        take["val"] = val_share
    if "test" not in present and test_share:
        if "val" in present:
            source, take["test"] = "val", 0.5
        else:
            take["test"] = test_share
    if present and not take:
        return list(examples), []
    pool = [e for e in examples if e.split == source]
    moved = _divide(pool, contents, take, rest=source or "train", seed=seed)
    done = [replace(e, split=moved.get(e.image_id, e.split)) for e in examples]
    return done, [_tell(source, Counter(moved.values()), seed)]


def check_shares(val_share: float, test_share: float) -> None:
    """Raise `InputError` unless both are shares that leave something to train on."""
    for name, share in (("val_share", val_share), ("test_share", test_share)):
        if not 0 <= share < 1:
            raise InputError(f"{name} is {share}; a share lies from 0 to below 1, such as 0.1")
    if val_share + test_share >= 1:
        raise InputError(f"val_share {val_share} and test_share {test_share} leave no training")


def with_fewer_training_pictures(
    examples: Sequence[Example], pictures: int, *, source: str
) -> list[Example]:
    """Leave all but some training pictures out; the other splits stay as they are.

    Which ones depends on their ids alone, and those of a smaller number are among those of a larger
    one, so that trials of growing size share what was made for each picture.

    Args:
        examples: All splits.
        pictures: How many training pictures with captions to keep; 0 keeps all.
        source: Where they come from, for messages.

    Raises:
        InputError: There are not so many.
    """
    if not pictures:
        return list(examples)
    training = [e.image_id for e in examples if e.split == "train" and e.captions]
    if pictures > len(training):
        raise InputError(
            f"data.pictures is {pictures:,}, but the training split of {source} has "
            f"{len(training):,} pictures with captions; 0 takes all of them"
        )
    kept = set(sorted(training, key=lambda image_id: _lot(image_id, 0))[:pictures])
    return [e for e in examples if e.split != "train" or e.image_id in kept]


def _divide(
    pool: Sequence[Example],
    contents: Mapping[str, str],
    take: Mapping[Split, float],
    *,
    rest: Split,
    seed: int,
) -> dict[str, Split]:
    """`image_id` -> split, filling each split of `take` with whole groups of equal pictures."""
    groups: dict[str, list[str]] = {}
    for example in pool:
        groups.setdefault(contents.get(example.image_id, example.image_id), []).append(
            example.image_id
        )
    waiting = sorted(groups.values(), key=lambda ids: _lot(min(ids), seed))
    if len(waiting) <= len(take):
        raise InputError(
            f"{len(waiting)} different pictures cannot be divided into {', '.join((rest, *take))}; "
            "bring more, name the splits in the source, or set val_share and test_share to 0"
        )
    moved: dict[str, Split] = {}
    for split, share in take.items():
        wanted, taken, left = max(1, round(share * len(pool))), 0, []
        for ids in waiting:
            if taken == 0 or taken + len(ids) <= wanted:
                moved.update(dict.fromkeys(ids, split))
                taken += len(ids)
            else:
                left.append(ids)
        waiting = left
    moved.update({image_id: rest for ids in waiting for image_id in ids})
    return moved


def _lot(image_id: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{image_id}".encode()).hexdigest()


def _tell(source: Split, counts: Counter[Split], seed: int) -> str:
    shown = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS if counts[split])
    origin = f"made from the source's {source} pictures" if source else "made by picture"
    return f"splits {origin} with seed {seed}: {shown}"
