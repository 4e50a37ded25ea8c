"""What two models' cost settles: speed, memory, parameters.

    training_speed_claim(pair).sentence

Training speed is settled when the epochs of the two do not overlap in speed. What was measured
once is settled when the two differ by more than a margin, which the sentence tells; parameters are
exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pictell.comparison.pair import Claim, Pair
from pictell.comparison.settings import machine_of, same_training_machine
from pictell.comparison.wording import number, percent

MEASURED_ONCE = 0.10  # two single measurements of a speed that differ by less are not told apart
MEMORY_MARGIN = 0.05


def _open(subject: str, sentence: str) -> Claim:
    return Claim(subject, "cost", "open", None, sentence)


def _unknown(pair: Pair, subject: str) -> Claim:
    sentence = pair.say("The {subject} of {both} is not known for both.", subject=subject)
    return _open(subject, sentence)


def training_speed_claim(pair: Pair) -> Claim:
    """Captions a second in training."""
    subject = "training speed"
    spreads = [model["training"]["captions_per_second"] for model in pair.models]
    if None in spreads:
        return _unknown(pair, subject)
    if not same_training_machine(*pair.models):
        return _other_machine(pair, subject, "trained")
    if min(spread["count"] for spread in spreads) < 2:
        return _measured_once(pair, subject, "trains", [s["median"] for s in spreads])
    return _by_spread(pair, subject, spreads)


def _by_spread(pair: Pair, subject: str, spreads: Sequence[Mapping[str, float]]) -> Claim:
    second_wins = spreads[1]["median"] > spreads[0]["median"]
    fast, slow = (spreads[1], spreads[0]) if second_wins else spreads
    winner, loser, index = pair.order(second_wins)
    if fast["low"] <= slow["high"]:
        texts = [
            pair.say("{low:,.0f} to {high:,.0f}", low=s["low"], high=s["high"]) for s in spreads
        ]
        sentence = pair.say(
            "The numbers do not settle which trains faster: the epochs of {both} ran at {first} "
            "and {second} captions/s, ranges that overlap.",
            first=texts[0],
            second=texts[1],
        )
        return _open(subject, sentence)
    sentence = pair.say(
        "{winner} trains {times:.2f} times as fast as {loser}: {fast:,.0f} against {slow:,.0f} "
        "captions/s in the median epoch, and its slowest epoch ({slowest:,.0f}) was faster than "
        "the other's fastest ({fastest:,.0f}).",
        winner=winner,
        loser=loser,
        times=fast["median"] / slow["median"],
        fast=fast["median"],
        slow=slow["median"],
        slowest=fast["low"],
        fastest=slow["high"],
    )
    return Claim(subject, "cost", "settled", index, sentence)


def decoding_speed_claim(pair: Pair, beam: str) -> Claim:
    """Captions a second in search."""
    subject = f"decoding speed (beam {beam})"
    machines = [machine_of(model["evaluated_with"]["hardware"]) for model in pair.models]
    if machines[0] != machines[1]:
        return _other_machine(pair, subject, "evaluated")
    decoding = [model["beams"][beam]["decoding"] for model in pair.models]
    loads = [measured.get("other_load", 0.0) for measured in decoding]
    if max(loads) > MEASURED_ONCE:
        return _beside_others(pair, subject, loads)
    values = [measured["captions_per_second"] for measured in decoding]
    return _measured_once(pair, subject, "writes captions", values)


def _other_machine(pair: Pair, subject: str, doing: str) -> Claim:
    sentence = pair.say(
        "The {subject} of {both} cannot be compared: they were {doing} on different hardware or "
        "precision.",
        subject=subject,
        doing=pair.say(doing),
    )
    return _open(subject, sentence)


def _beside_others(pair: Pair, subject: str, loads: Sequence[float]) -> Claim:
    sentence = pair.say(
        "The {subject} of {both} cannot be compared: other programs took {first} and {second} of "
        "the processor meanwhile.",
        subject=subject,
        first=percent(loads[0], 0),
        second=percent(loads[1], 0),
    )
    return _open(subject, sentence)


def _measured_once(pair: Pair, subject: str, verb: str, values: Sequence[float]) -> Claim:
    winner, loser, index = pair.order(values[1] > values[0])
    fast, slow = max(values), min(values)
    if fast <= slow * (1 + MEASURED_ONCE):
        sentence = pair.say(
            "The numbers do not settle which {verb} faster: {first} and {second} captions/s, each "
            "measured once, differ by no more than {margin}.",
            verb=pair.say(verb),
            first=number(values[0], 1),
            second=number(values[1], 1),
            margin=percent(MEASURED_ONCE, 0),
        )
        return _open(subject, sentence)
    sentence = pair.say(
        "{winner} {verb} {times:.2f} times as fast as {loser}: {fast} against {slow} captions/s, "
        "each measured once.",
        winner=winner,
        verb=pair.say(verb),
        times=fast / slow,
        loser=loser,
        fast=number(fast, 1),
        slow=number(slow, 1),
    )
    return Claim(subject, "cost", "settled", index, sentence)


def memory_claim(pair: Pair) -> Claim:
    """Peak memory of the training."""
    subject = "peak memory"
    values: list[Any] = [model["training"]["peak_memory_mb"] for model in pair.models]
    if None in values:
        return _unknown(pair, subject)
    if not same_training_machine(*pair.models):
        return _other_machine(pair, subject, "trained")
    if values[0] == values[1]:
        return pair.equal(subject, "cost", f"{values[0]:,.0f} MB")
    winner, loser, index = pair.order(values[1] < values[0])
    small, large = min(values), max(values)
    if large <= small * (1 + MEMORY_MARGIN):
        sentence = pair.say(
            "The numbers do not settle which needs less memory: the peaks of {both}, {first:,.0f} "
            "and {second:,.0f} MB, differ by no more than {margin}.",
            first=values[0],
            second=values[1],
            margin=percent(MEMORY_MARGIN, 0),
        )
        return _open(subject, sentence)
    sentence = pair.say(
        "{winner} needs {less} less memory than {loser} in training: a peak of {small:,.0f} "
        "against {large:,.0f} MB.",
        winner=winner,
        less=percent(1 - small / large, 0),
        loser=loser,
        small=small,
        large=large,
    )
    return Claim(subject, "cost", "settled", index, sentence)


def parameters_claim(pair: Pair, part: str) -> Claim:
    """Numbers of weights of the `decoder` or `encoder`."""
    subject = f"{part} parameters"
    values = [model[part]["parameters"] for model in pair.models]
    if values[0] == values[1]:
        return pair.equal(subject, "cost", f"{values[0]:,}")
    winner, loser, index = pair.order(values[1] < values[0])
    small, large = min(values), max(values)
    sentence = pair.say(
        "{winner}'s {part} has {less} fewer parameters than {loser}'s: {small:,} against "
        "{large:,}.",
        winner=winner,
        part=pair.say(part),
        less=percent(1 - small / large, 0),
        loser=loser,
        small=small,
        large=large,
    )
    return Claim(subject, "cost", "settled", index, sentence)
