"""What the report that pictell starts from claims, beside what a study measured.

    for claim in claims_of(record):
        print(claim["sentence"])

A claim on mixed precision needs a GPU; without one it says so, and no number stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pictell.ablate.study import BASE
from pictell.comparison.wording import percent

Variation = Mapping[str, Any]
_HALF = ("fp16", "bf16")


def claims_of(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each claim with `claimed`, `measured` (null where it was not) and a `sentence`.

    Args:
        study: The contents of study.json but for the claims.
    """
    cost = [
        _cost_claim(study, *claim)
        for claim in (
            ("mixed precision: speed of training", 0.40, _mixed_precision, _faster),
            ("mixed precision: peak memory", -0.30, _mixed_precision, _memory),
            ("all measures together: time of training", -0.35, _all_measures, _time),
            ("all measures together: peak memory", -0.25, _all_measures, _memory),
        )
    ]
    return [*cost, _early_stopping(study), _attention(study)]


def _claim(subject: str, claimed: str, measured: str | None, value: float | None) -> dict[str, Any]:
    return {
        "subject": subject,
        "claimed": claimed,
        "measured": value,
        "sentence": f"{subject}: claimed {claimed}; {measured or 'not measured'}",
    }


# -- mixed precision, and all measures together ----------------------------------------------------


def _cost_claim(
    study: Mapping[str, Any],
    subject: str,
    claimed: float,
    find: Callable[[Mapping[str, Any]], tuple[Variation, Variation] | None],
    measure: Callable[[Variation, Variation], float],
) -> dict[str, Any]:
    pair = find(study)
    if pair is None and not any(machine["gpu"] for machine in _machines(study)):
        return _claim(subject, _change(claimed), "needs a GPU", None)
    if pair is None:
        return _claim(subject, _change(claimed), "no variation of the study measures it", None)
    value = measure(*pair)
    return _claim(subject, _change(claimed), f"measured {_change(value)}", value)


def _change(value: float) -> str:
    return ("+" if value > 0 else "") + percent(value, 0)


def _variations(study: Mapping[str, Any]) -> dict[str, Variation]:
    return {v["name"]: v for v in study["variations"] if v["state"] == "measured"}


def _machines(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """This one, and those that the base was measured on."""
    base = _variations(study).get(BASE)
    return [study["hardware"], *(base["machines"] if base else [])]


def _mixed_precision(study: Mapping[str, Any]) -> tuple[Variation, Variation] | None:
    """Without and with it, everything else equal."""
    return _pair(study, {"train.precision"})


def _all_measures(study: Mapping[str, Any]) -> tuple[Variation, Variation] | None:
    """Without and with mixed precision, accumulation and early stopping."""
    return _pair(study, {"train.precision", "train.accumulation", "train.patience"})


def _pair(study: Mapping[str, Any], options: set[str]) -> tuple[Variation, Variation] | None:
    """A variation in these options alone and the base, the one in full precision first."""
    found = _variations(study)
    for variation in found.values():
        same = BASE in found and variation["machines"] == found[BASE]["machines"]
        if set(variation["changed"]) == options and same:
            half = variation["changed"]["train.precision"] in _HALF
            pair = found[BASE], variation
            return pair if half else (pair[1], pair[0])
    return None


def _faster(without: Variation, with_it: Variation) -> float:
    return _ratio(without, with_it, "captions_per_second")


def _memory(without: Variation, with_it: Variation) -> float:
    return _ratio(without, with_it, "peak_memory_mb")


def _time(without: Variation, with_it: Variation) -> float:
    return _ratio(without, with_it, "seconds")


def _ratio(without: Variation, with_it: Variation, name: str) -> float:
    return with_it["cost"][name] / without["cost"][name] - 1


# -- early stopping, and attention -----------------------------------------------------------------


def _early_stopping(study: Mapping[str, Any]) -> dict[str, Any]:
    subject, claimed = "early stopping", "epoch 8"
    base = _variations(study).get(BASE)
    most = study["base"]["train"]["epochs"]
    if base is None:
        return _claim(subject, claimed, None, None)
    if most <= 8:
        return _claim(subject, claimed, f"cannot be seen in {most} epochs", None)
    ended, best = base["cost"]["epochs"], base["cost"]["best_epoch"]
    how = "stopped after epoch" if ended < most else "went on to the last epoch,"
    seeds = f", mean of {len(base['seeds'])} seeds" if len(base["seeds"]) > 1 else ""
    measured = f"the base {how} {ended:.3g} and was best in epoch {best:.3g}{seeds}"
    return _claim(subject, claimed, measured, ended)


def _attention(study: Mapping[str, Any]) -> dict[str, Any]:
    """How much more BLEU-4 attention has than the plain decoder, in per cent."""
    subject, claimed = "attention against the plain decoder: BLEU-4", "+7.3 %"
    found = _variations(study)
    for variation in found.values():
        if set(variation["changed"]) == {"decoder.name"} and variation["differences"]:
            names = {variation["changed"]["decoder.name"], study["base"]["decoder"]["name"]}
            if names == {"rnn", "attention"}:
                return _attention_claim(subject, claimed, study, variation)
    return _claim(subject, claimed, "no variation of the study measures it", None)


def _attention_claim(
    subject: str, claimed: str, study: Mapping[str, Any], variation: Variation
) -> dict[str, Any]:
    entry = variation["differences"]["BLEU-4"]
    if study["base"]["decoder"]["name"] == "rnn":
        plain, low, high, difference = entry["score_a"], *_bounds(entry, 1)
    else:
        plain, high, low, difference = entry["score_b"], *_bounds(entry, -1)
    if plain == 0:
        return _claim(subject, claimed, "the plain decoder's is zero", None)
    over = "seeds and pictures" if entry["over_seeds"] else "pictures alone"
    shares = [percent(value / plain) for value in (low, high)]
    measured = (
        f"measured {'+' if difference > 0 else ''}{percent(difference / plain)} "
        f"(95 % interval {shares[0]} to {shares[1]}, over {over})"
    )
    return _claim(subject, claimed, measured, difference / plain)


def _bounds(entry: Mapping[str, Any], sign: int) -> tuple[float, float, float]:
    return sign * entry["low"], sign * entry["high"], sign * entry["difference"]
