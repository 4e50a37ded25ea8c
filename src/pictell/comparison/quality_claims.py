"""What two models' scores settle: a difference whose 95 % interval excludes zero.

    score_claim(pair, "BLEU-4", "5", difference["beams"]["5"]["BLEU-4"]).sentence

Without an interval nothing is settled, however large a difference looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pictell.comparison.pair import Claim, Group, Pair
from pictell.comparison.wording import number, p_text, signed


def score_claim(pair: Pair, name: str, beam: str, entry: Mapping[str, float]) -> Claim:
    """BLEU, ROUGE-L or CIDEr-D of the captions at a beam width."""
    values = [model["beams"][beam]["scores"][name]["score"] for model in pair.models]
    return _with_interval(pair, name, "quality", values, entry, lower_wins=False)


def forced_claim(pair: Pair, subject: str, key: str, entry: Mapping[str, float] | None) -> Claim:
    """Cross-entropy or top-5 accuracy on the words that people wrote.

    Args:
        pair: The models.
        subject: What to call it.
        key: Its name in `teacher_forced`.
        entry: Its difference with interval, if that is known.
    """
    values = [model["teacher_forced"][key] for model in pair.models]
    if len({model["config"]["data"]["language"] for model in pair.models}) > 1:
        sentence = pair.say(
            "The {subject} of {both} cannot be compared: the one is in words, the other in "
            "characters.",
            subject=subject,
        )
        return Claim(subject, "likelihood", "open", None, sentence)
    sizes = [model["vocabulary"] for model in pair.models]
    if sizes[0] != sizes[1]:
        sentence = pair.say(
            "The {subject} of {both} cannot be compared: their vocabularies have {first:,} and "
            "{second:,} words.",
            subject=subject,
            first=sizes[0],
            second=sizes[1],
        )
        return Claim(subject, "likelihood", "open", None, sentence)
    lower_wins = key == "cross_entropy"
    unit = pair.say(" nats a word") if lower_wins else ""
    if entry is None:
        return _without_interval(pair, subject, values, lower_wins, unit)
    return _with_interval(pair, subject, "likelihood", values, entry, lower_wins, unit)


def _with_interval(
    pair: Pair,
    subject: str,
    group: Group,
    values: Sequence[float],
    entry: Mapping[str, float],
    lower_wins: bool,
    unit: str = "",
) -> Claim:
    low, high = entry["low"], entry["high"]
    p_value = p_text(entry["p_value"], int(entry["resamples"]))
    word = pair.say("lower" if lower_wins else "higher")
    if entry["difference"] == low == high == 0:
        return pair.equal(subject, group, number(values[0]))
    if low <= 0 <= high:
        sentence = pair.say(
            "The numbers do not settle whose {subject} is {word}: {second}'s differs from "
            "{first}'s by {by}, and the 95 % interval {low} to {high} includes 0 ({p_value}).",
            subject=subject,
            word=word,
            second=pair.second["name"],
            first=pair.first["name"],
            by=signed(entry["difference"]) + unit,
            low=number(low),
            high=number(high),
            p_value=p_value,
        )
        return Claim(subject, group, "open", None, sentence)
    winner, loser, index = pair.order((low > 0) != lower_wins)
    least, most = sorted((abs(low), abs(high)))
    sentence = pair.say(
        "{winner}'s {subject} is {word} than {loser}'s by {by} (95 % interval {low} to {high}, "
        "{p_value}): {values}.",
        winner=winner,
        subject=subject,
        word=word,
        loser=loser,
        by=number(abs(entry["difference"])) + unit,
        low=number(least),
        high=number(most),
        p_value=p_value,
        values=pair.against([number(value) for value in values], index),
    )
    return Claim(subject, group, "settled", index, sentence)


def _without_interval(
    pair: Pair, subject: str, values: Sequence[float], lower_wins: bool, unit: str
) -> Claim:
    if values[0] == values[1]:
        return pair.equal(subject, "likelihood", number(values[0]))
    winner, loser, index = pair.order((values[1] < values[0]) == lower_wins)
    sentence = pair.say(
        "{winner}'s {subject} is {word} than {loser}'s by {by} ({values}), but without an interval "
        "the numbers do not settle it.",
        winner=winner,
        subject=subject,
        word=pair.say("lower" if lower_wins else "higher"),
        loser=loser,
        by=number(abs(values[1] - values[0])) + unit,
        values=pair.against([number(value) for value in values], index),
    )
    return Claim(subject, "likelihood", "open", None, sentence)
