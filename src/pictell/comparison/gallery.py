"""Which pictures a report shows: the best, the worst, where models differ most, a few at random.

    most_different(scored_a, scored_b, count=6)     # positions: b better, a better

Pictures are chosen by their own CIDEr-D at the largest beam width. Those are the extremes, not what
to expect; the random ones, chosen by a fixed seed before anyone looked, show the usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pictell.comparison.models import Scored

CHOSEN_BY = "CIDEr-D"
SHOWN = ("CIDEr-D", "BLEU-4", "ROUGE-L")


def most_different(first: Scored, second: Scored, *, count: int) -> tuple[list[int], list[int]]:
    """Positions where the second model is ahead most, and where the first is; most first.

    A picture on which both have the same score is in neither list.
    """
    ahead = _scores(second, CHOSEN_BY) - _scores(first, CHOSEN_BY)
    order = np.argsort(-ahead, kind="stable")
    better = [int(i) for i in order[:count] if ahead[i] > 0]
    worse = [int(i) for i in np.argsort(ahead, kind="stable")[:count] if ahead[i] < 0]
    return better, worse


def best_and_worst(scored: Sequence[Scored], *, count: int) -> tuple[list[int], list[int]]:
    """Positions with the highest and with the lowest mean score over the models.

    No picture is in both, however few there are.
    """
    order = np.argsort(-_table(scored).mean(axis=0), kind="stable")
    count = min(count, len(order) // 2)
    worst = order[::-1][:count]
    return [int(i) for i in order[:count]], [int(i) for i in worst]


def most_spread(scored: Sequence[Scored], *, count: int) -> list[int]:
    """Positions where the best and the worst of several models are furthest apart; most first."""
    table = _table(scored)
    spread = table.max(axis=0) - table.min(axis=0)
    return [int(i) for i in np.argsort(-spread, kind="stable")[:count] if spread[i] > 0]


def _table(scored: Sequence[Scored]) -> np.ndarray:
    return np.stack([_scores(one, CHOSEN_BY) for one in scored])  # (models, pictures)


def random_pictures(total: int, *, count: int, seed: int) -> list[int]:
    """Positions of a few pictures, in order, the same for the same seed."""
    chosen = np.random.default_rng(seed).choice(total, size=min(count, total), replace=False)
    return sorted(int(i) for i in chosen)


def picture_records(
    positions: Sequence[int], scored: Mapping[int, Scored], paths: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What comparison.json says of chosen pictures.

    Args:
        positions: Places in the split.
        scored: The models whose captions are shown, by their position in the comparison.
        paths: Picture files by image id; a picture without one gets an empty path.
    """
    records = []
    for position in positions:
        rows = {index: s.predictions[position] for index, s in scored.items()}
        first = next(iter(rows.values()))
        records.append(
            {
                "image_id": first["image_id"],
                "path": paths.get(first["image_id"], ""),
                "references": first["references"],
                "captions": [
                    _caption(index, row, scored[index], position) for index, row in rows.items()
                ],
            }
        )
    return records


def _caption(index: int, row: Mapping[str, Any], scored: Scored, position: int) -> dict[str, Any]:
    return {
        "model": index,
        "caption": row["caption"],
        "words": row["words"],
        "log_probability": row["log_probability"],
        "ended": row["ended"],
        "scores": {name: float(_scores(scored, name)[position]) for name in SHOWN},
    }


def _scores(scored: Scored, name: str) -> np.ndarray:
    return scored.metrics[scored.beam][name].per_image
