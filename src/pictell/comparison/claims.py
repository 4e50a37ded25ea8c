"""One sentence for each thing that the numbers say, and for each that they leave open.

    for claim in claims_of(models[0], models[1], difference, beam="5"):
        print(claim["state"], claim["sentence"])

Sentences are made from the records of comparison.json alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pictell.comparison.cost_claims import (
    decoding_speed_claim,
    memory_claim,
    parameters_claim,
    training_speed_claim,
)
from pictell.comparison.pair import Model, Pair
from pictell.comparison.quality_claims import forced_claim, score_claim
from pictell.comparison.wording import listed
from pictell.translations import Language

QUALITY = ("BLEU-4", "CIDEr-D", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3")
HEADLINE = ("BLEU-4", "CIDEr-D", "ROUGE-L")


def claims_of(
    first: Model,
    second: Model,
    difference: Mapping[str, Any],
    *,
    beam: str,
    language: Language = "en",
) -> list[dict[str, Any]]:
    """All claims on two models, as dictionaries with the fields of `Claim`.

    Args:
        first: Record of the model that is compared against.
        second: Record of the other.
        difference: The pair's record: `first`, `second` (positions), `beams`, `teacher_forced`.
        beam: The beam width whose captions are spoken of.
        language: Of the sentences.
    """
    pair = Pair(first, second, difference["first"], difference["second"], language)
    forced = difference["teacher_forced"]
    claims = [score_claim(pair, name, beam, difference["beams"][beam][name]) for name in QUALITY]
    claims += [
        forced_claim(pair, "cross-entropy", "cross_entropy", forced.get("cross_entropy")),
        forced_claim(pair, "top-5 accuracy", "top5", forced.get("top5")),
        training_speed_claim(pair),
        decoding_speed_claim(pair, beam),
        memory_claim(pair),
        parameters_claim(pair, "decoder"),
    ]
    if first["encoder"]["name"] != second["encoder"]["name"]:
        claims.append(parameters_claim(pair, "encoder"))
    return [asdict(claim) for claim in claims]


def headline_of(models: Sequence[Model], claims: Sequence[Mapping[str, Any]], pair: Pair) -> str:
    """The answer in one sentence: what BLEU-4, CIDEr-D and ROUGE-L settle.

    Args:
        models: All models of the comparison.
        claims: Those of the pair.
        pair: The two that are compared.
    """
    chosen = {claim["subject"]: claim for claim in claims if claim["subject"] in HEADLINE}
    if all(claim["state"] == "equal" for claim in chosen.values()):
        return pair.say("There is no difference: {both} have the same scores.")
    won: dict[int, list[str]] = {}
    for name in HEADLINE:
        if chosen[name]["state"] == "settled":
            won.setdefault(chosen[name]["winner"], []).append(name)
    names = {index: models[index]["name"] for index in won}
    if not won:
        return pair.say("The scores do not settle which writes better captions, {both}.")
    if len(won) == 2:
        parts = [_favour(pair, by, names[winner]) for winner, by in won.items()]
        return pair.say("The scores disagree: {first}, {second}.", first=parts[0], second=parts[1])
    ((winner, by),) = won.items()
    return pair.say(
        "{winner} writes the higher-scoring captions, by {scores}{tail}.",
        winner=names[winner],
        scores=listed(by, pair.language),
        tail=_left_open(pair, [name for name in HEADLINE if name not in by]),
    )


def _favour(pair: Pair, scores: Sequence[str], name: str) -> str:
    text = "{scores} favour {name}" if len(scores) > 1 else "{scores} favours {name}"
    return pair.say(text, scores=listed(scores, pair.language), name=name)


def _left_open(pair: Pair, scores: Sequence[str]) -> str:
    if not scores:
        return ""
    text = "; {scores} leave it open" if len(scores) > 1 else "; {scores} leaves it open"
    return pair.say(text, scores=listed(scores, pair.language))


def lede_of(claims: Sequence[Mapping[str, Any]]) -> str:
    """The sentences that carry the headline: BLEU-4, and what training costs."""
    wanted = ("BLEU-4", "training speed", "peak memory")
    found = {claim["subject"]: claim["sentence"] for claim in claims}
    return " ".join(found[subject] for subject in wanted)
