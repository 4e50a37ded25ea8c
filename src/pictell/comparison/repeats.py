"""Runs that differ in their seed alone, as one statement: means, spread, and what they settle.

    repeats = repeats_of(models, scored, resamples=1000, seed=0)
    repeat_claims(repeats, repeats["differences"][0], beam="5")

The bootstrap over pictures says nothing of the seed of the training. Where an experiment was
repeated, the spread over its runs stands beside it, and differences are those of means over runs,
with intervals over seeds and pictures. What they leave open comes with the number of runs that
would settle it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pictell.comparison.claims import headline_of
from pictell.comparison.models import Scored
from pictell.comparison.pair import Claim, Pair
from pictell.comparison.settings import experiments_of
from pictell.comparison.wording import number, p_text, percent, signed
from pictell.metrics import Metric, Spread, bootstrap_over_runs, pooled_spread, runs_needed
from pictell.translations import Language

POWER = 0.8
CLAIMED = ("BLEU-4", "CIDEr-D", "ROUGE-L")


def repeats_of(
    models: Sequence[Mapping[str, Any]], scored: Sequence[Scored], *, resamples: int, seed: int
) -> dict[str, Any] | None:
    """The record `repeats` of comparison.json, or None where each experiment was run once.

    Returns:
        `experiments`: for each its `name`, `models` (positions), `seeds` and `beams`: by beam width
        and score `score` (the mean), `deviation` (standard deviation over runs, null of one run),
        `low` and `high` (least and most). `differences`: each experiment but the first against it,
        `first`, `second` and `beams`: by beam width and score the fields of `RunsBootstrap`, and
        `needed`, runs of each that would settle a difference of this size (null: no number would).
    """
    experiments = experiments_of(models)
    if all(len(members) == 1 for members in experiments):
        return None
    metrics = [[scored[i].metrics for i in members] for members in experiments]
    return {
        "experiments": [
            {
                "name": _name_of(models, members),
                "models": members,
                "seeds": [models[i]["config"]["train"]["seed"] for i in members],
                "beams": _by_beam(lambda beam, name, own=own: _spread(_of(own, beam, name)), own),
            }
            for members, own in zip(experiments, metrics, strict=True)
        ],
        "differences": [
            {
                "first": 0,
                "second": second,
                "beams": _by_beam(
                    lambda beam, name, own=own: difference_over_runs(
                        _of(metrics[0], beam, name),
                        _of(own, beam, name),
                        resamples=resamples,
                        seed=seed,
                    ),
                    own,
                ),
            }
            for second, own in enumerate(metrics[1:], start=1)
        ],
    }


_ByBeam = Mapping[int, Mapping[str, Metric]]


def _of(runs: Sequence[_ByBeam], beam: int, name: str) -> list[Metric]:
    return [run[beam][name] for run in runs]


def _by_beam(value: Any, runs: Sequence[_ByBeam]) -> dict[str, dict[str, Any]]:
    return {
        str(beam): {name: value(beam, name) for name in metrics}
        for beam, metrics in runs[0].items()
    }


def _name_of(models: Sequence[Mapping[str, Any]], members: Sequence[int]) -> str:
    """The runs' name without the seed, if it is the same for all and no other experiment's."""
    names = {re.sub(r"_seed\d+$", "", models[i]["name"]) for i in members}
    others = {re.sub(r"_seed\d+$", "", m["name"]) for i, m in enumerate(models) if i not in members}
    return names.pop() if len(names) == 1 and not names & others else models[members[0]]["name"]


def _spread(metrics: Sequence[Metric]) -> dict[str, float | None]:
    scores = [metric.corpus for metric in metrics]
    return {
        "score": float(np.mean(scores)),
        "deviation": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        "low": min(scores),
        "high": max(scores),
    }


def difference_over_runs(
    first: Sequence[Metric],
    second: Sequence[Metric],
    *,
    spread: Spread | None = None,
    **how: Any,
) -> dict[str, Any]:
    """The fields of `RunsBootstrap`, `spread` over seeds (null of one run each) and `needed`."""
    scores = [[metric.corpus for metric in metrics] for metrics in (first, second)]
    if spread is None and len(first) + len(second) > 2:
        spread = pooled_spread(scores)
    found = bootstrap_over_runs(first, second, spread=spread, **how)
    needed = None
    if spread is not None and found.difference != 0:
        needed = runs_needed(
            found.difference, spread.deviation, fixed_error=found.picture_error, power=POWER
        )
    return {**vars(found), "spread": spread and spread.deviation, "needed": needed}


def repeat_claims(
    repeats: Mapping[str, Any],
    difference: Mapping[str, Any],
    *,
    beam: str,
    language: Language = "en",
) -> list[dict[str, Any]]:
    """What the means of two experiments settle, as dictionaries with the fields of `Claim`.

    The `winner` is a position among the experiments.
    """
    return [
        asdict(_claim(pair_of(repeats, difference, language), name, beam, difference))
        for name in CLAIMED
    ]


def with_repeat_sentences(
    repeats: Mapping[str, Any], beam: str, language: Language = "en"
) -> dict[str, Any]:
    """The record with `claims` and a `headline` for each difference, in a language."""
    differences = []
    for difference in repeats["differences"]:
        claims = repeat_claims(repeats, difference, beam=beam, language=language)
        pair = pair_of(repeats, difference, language)
        headline = headline_of(repeats["experiments"], claims, pair)
        differences.append({**difference, "claims": claims, "headline": headline})
    return {**repeats, "differences": differences}


def pair_of(
    repeats: Mapping[str, Any], difference: Mapping[str, Any], language: Language = "en"
) -> Pair:
    """The two experiments of a difference."""
    first, second = difference["first"], difference["second"]
    experiments = repeats["experiments"]
    return Pair(experiments[first], experiments[second], first, second, language)


def _claim(pair: Pair, name: str, beam: str, difference: Mapping[str, Any]) -> Claim:
    entry = difference["beams"][beam][name]
    values = [_shown(one["beams"][beam][name], len(one["models"])) for one in pair.models]
    p_value = p_text(entry["p_value"], int(entry["resamples"]))
    over = "seeds and pictures" if entry["over_seeds"] else "pictures alone"
    if entry["difference"] == entry["low"] == entry["high"] == 0:
        return pair.equal(name, "quality", values[0])
    if entry["low"] <= 0 <= entry["high"]:
        sentence = pair.say(
            "The runs do not settle whose {subject} is higher: the mean of {second}'s {of_second} "
            "differs from that of {first}'s {of_first} by {by}, and the 95 % interval {low} to "
            "{high} over {over} includes 0 ({p_value}).",
            subject=name,
            second=pair.second["name"],
            first=pair.first["name"],
            of_second=_runs(pair, pair.second),
            of_first=_runs(pair, pair.first),
            by=signed(entry["difference"]),
            low=number(entry["low"]),
            high=number(entry["high"]),
            over=pair.say(over),
            p_value=p_value,
        )
        return Claim(name, "quality", "open", None, sentence + _what_would_settle(pair, entry))
    winner, loser, index = pair.order(entry["low"] > 0)
    least, most = sorted((abs(entry["low"]), abs(entry["high"])))
    sentence = pair.say(
        "{winner}'s mean {subject} is higher than {loser}'s by {by} (95 % interval {low} to {high} "
        "over {over}, {p_value}): {values}.",
        winner=winner,
        subject=name,
        loser=loser,
        by=number(abs(entry["difference"])),
        low=number(least),
        high=number(most),
        over=pair.say(over),
        p_value=p_value,
        values=pair.against(values, index),
    )
    return Claim(name, "quality", "settled", index, sentence)


def _runs(pair: Pair, experiment: Mapping[str, Any]) -> str:
    count = len(experiment["models"])
    return pair.say("{count} run" if count == 1 else "{count} runs", count=count)


def _shown(entry: Mapping[str, Any], runs: int) -> str:
    """The mean, with the standard deviation over runs where there are several."""
    mean = number(entry["score"])
    return mean if runs == 1 else f"{mean} ± {number(entry['deviation'])}"


def _what_would_settle(pair: Pair, entry: Mapping[str, Any]) -> str:
    if entry["spread"] is None or entry["difference"] == 0:
        return ""
    runs = max(entry["runs_a"], entry["runs_b"])
    if entry["needed"] is None:
        return pair.say(
            " More seeds alone would not settle a difference of this size: the choice of the "
            "pictures leaves ±{reach}, and it takes more of them.",
            reach=number(1.96 * entry["picture_error"]),
        )
    return pair.say(
        " Runs of one experiment spread by {spread} (standard deviation); {needed} of each would "
        "settle a difference of this size with a probability of {power}.",
        spread=number(entry["spread"]),
        needed=max(entry["needed"], runs + 1),
        power=percent(POWER, 0),
    )
