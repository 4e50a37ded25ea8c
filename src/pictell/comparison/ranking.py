"""Many models in order: who leads, and who cannot be told apart from the leader.

    ranking = ranking_of(scored, resamples=1000, seed=0)
    ranking_headline(ranking, models)

With more than a few models, differences to the first one given do not answer which is best. Here
each is compared with the one that has the highest score, on the same resamples of the pictures. The
leader was chosen for its score on these pictures, so that its lead looks somewhat larger than it
is; the more models, the more so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pictell.comparison.models import Scored
from pictell.comparison.wording import listed, number
from pictell.metrics import paired_bootstrap
from pictell.translations import Language, say

RANKED_BY = "CIDEr-D"


def ranking_of(scored: Sequence[Scored], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """The models by falling CIDEr-D at the largest beam width.

    Returns:
        For each `model` (position), `score`, and, for all but the leader, `behind`: difference,
        low, high and p_value of the leader's score minus its own. `settled` says whether that
        interval excludes zero; null for the leader.
    """
    metrics = [one.metrics[one.beam][RANKED_BY] for one in scored]
    order = sorted(range(len(metrics)), key=lambda index: -metrics[index].corpus)
    leader = metrics[order[0]]
    rows: list[dict[str, Any]] = [
        {"model": order[0], "score": leader.corpus, "behind": None, "settled": None}
    ]
    for index in order[1:]:
        behind = vars(
            paired_bootstrap(metrics[index], leader, resamples=resamples, seed=seed)
        ).copy()
        rows.append(
            {
                "model": index,
                "score": metrics[index].corpus,
                "behind": behind,
                "settled": behind["low"] > 0,
            }
        )
    return rows


def ranking_headline(
    ranking: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]],
    language: Language = "en",
) -> str:
    """The answer in a sentence or two: the leader, and who is not settled to be behind."""
    names = [models[row["model"]]["name"] for row in ranking]
    lead = say(
        language,
        "{name} has the highest CIDEr-D, {score}.",
        name=names[0],
        score=number(ranking[0]["score"]),
    )
    close = [name for name, row in zip(names, ranking, strict=True) if row["settled"] is False]
    if not close:
        return lead + say(language, " All others are behind, and the numbers settle it.")
    if len(close) == len(names) - 1:
        return lead + say(language, " The numbers do not settle that any other is behind.")
    return lead + say(
        language,
        " The numbers do not settle that {close} is behind; for all others they do."
        if len(close) == 1
        else " The numbers do not settle that {close} are behind; for all others they do.",
        close=listed(close, language),
    )
