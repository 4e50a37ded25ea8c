"""What the variations of a study come to: scores, cost, differences to the base.

    variations = results_of(plan, size, failures, kept, resamples=10_000, seed=0)

Scores are those of captions at each variation's own search; a difference is that of the means over
seeds, on the same pictures. Each variation is one more chance of a false alarm: Holm's correction
over the variations allows for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pictell.ablate.kept import KeptResults, Key, Result
from pictell.ablate.plan import Plan, Planned, slug
from pictell.ablate.study import BASE, Size
from pictell.ablate.training_jobs import Failures
from pictell.comparison.entrants import Entrant
from pictell.comparison.models import training_record
from pictell.comparison.repeats import difference_over_runs
from pictell.config import SearchConfig
from pictell.data.text import get_tokenizer
from pictell.errors import InputError
from pictell.evaluate import evaluate, evaluate_ensemble, evaluation_folder, score_predictions
from pictell.metrics import Metric, Spread, holm, pooled_spread
from pictell.progress import console

SCORES = ("CIDEr-D", "BLEU-4")  # the ones that differences are told of
ALARM = 0.05
COST = (
    *("best_epoch", "epochs", "seconds", "seconds_to_best", "epoch_seconds"),
    *("captions_per_second", "peak_memory_mb", "decoding_captions_per_second"),
)


@dataclass
class _Measured:
    """One variation's captions by seed, and what became of the others."""

    results: dict[int, Result] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    @property
    def metrics(self) -> dict[int, dict[str, Metric]]:
        return {seed: result.metrics for seed, result in self.results.items()}


def results_of(
    plan: Plan,
    size: Size,
    failures: Failures,
    kept: KeptResults,
    *,
    resamples: int,
    seed: int,
    names: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Evaluate what is trained, and compare it with the base.

    Args:
        plan: From `Plan.make`.
        size: The study's size.
        failures: From `run_trainings`.
        kept: Results that are known, and where new ones are written.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        names: Of variations that train nothing, write captions for these alone; empty for all.

    Returns:
        The records `variations` of study.json, see `pictell.ablate.run`.
    """
    measured = {
        name: _measure(planned, plan.folder, size, failures, kept, asked=not names or name in names)
        for name, planned in plan.planned.items()
    }
    base = measured[BASE]
    spreads = _Spreads.of(plan, measured)
    records = [
        _record(planned, measured[name], base, spreads, resamples=resamples, seed=seed)
        for name, planned in plan.planned.items()
    ]
    _correct(records)
    return records


@dataclass(frozen=True)
class _Spreads:
    """How scores spread over seeds, by score: Spread, or None where each has one seed.

    Two or three seeds hardly tell their spread; all trainings of a study together do. What the
    search changes in a training spreads much less, and is taken together by itself.
    """

    of_trainings: dict[str, Spread | None]
    of_decoding: dict[str, Spread | None]

    @classmethod
    def of(cls, plan: Plan, measured: Mapping[str, _Measured]) -> _Spreads:
        base = measured[BASE].metrics
        trained: dict[str, list[list[float]]] = {name: [] for name in SCORES}
        decoded: dict[str, list[list[float]]] = {name: [] for name in SCORES}
        for variation, planned in plan.planned.items():
            found = measured[variation].metrics
            for name in SCORES:
                scores = {seed: metrics[name].corpus for seed, metrics in found.items()}
                if planned.kind in ("base", "training"):
                    trained[name].append(list(scores.values()))
                elif planned.kind == "decoding":
                    differences = [s - base[seed][name].corpus for seed, s in scores.items()]
                    decoded[name].append(differences)
        return cls(*({n: _pooled(groups[n]) for n in SCORES} for groups in (trained, decoded)))


def _pooled(groups: Sequence[Sequence[float]]) -> Spread | None:
    several = [scores for scores in groups if len(scores) > 1]
    return pooled_spread(several) if several else None


def _measure(
    planned: Planned,
    folder: Path,
    size: Size,
    failures: Failures,
    kept: KeptResults,
    *,
    asked: bool,
) -> _Measured:
    found = _Measured()
    writes = asked or planned.kind in ("base", "training")
    if not planned.measured:
        return found
    for seed, runs in planned.runs.items():
        key = Key(planned, seed, size.split)
        broken = [failures[run.run.path] for run in runs if run.run.path in failures]
        try:
            if kept.has(key):
                found.results[seed] = kept.read(key)
            elif broken:
                found.failures[seed] = broken[0]
            elif not (writes and all(run.finished for run in runs)):
                found.missing.append(seed)
            else:
                found.results[seed] = kept.write(key, *_scored(key, runs, folder))
        except InputError as error:
            found.failures[seed] = str(error)
    return found


def _scored(
    key: Key, runs: Sequence[Entrant], folder: Path
) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Metrics and cost of a variation's captions."""
    planned, config = key.planned, key.planned.configs[key.seed]
    console.print(f"evaluating {planned.variation.name}, seed {key.seed}", highlight=False)
    result, place = _evaluated(planned, key.seed, runs, folder, key.split, config.search)
    file = evaluation_folder(place, key.split, config.search.beam) / "predictions.jsonl"
    metrics = score_predictions(file, get_tokenizer(config.data.language))[1]
    return metrics, _cost(planned, runs, result)


def _evaluated(
    planned: Planned,
    seed: int,
    runs: Sequence[Entrant],
    folder: Path,
    split: str,
    search: SearchConfig,
) -> tuple[dict[str, Any], Path]:
    """scores.json, and the folder below which it lies."""
    how: dict[str, Any] = {"split": split, "beams": [search.beam], "search": search}
    if planned.kind in ("base", "training"):
        return evaluate(runs[0].run, **how)[0], runs[0].run.path
    place = folder / "decoded" / f"{slug(planned.variation.name)}_seed{seed}"
    if planned.kind == "ensemble":
        return evaluate_ensemble([run.run for run in runs], place, **how)[0], place
    return evaluate(runs[0].run, out=place, **how)[0], place


def _cost(planned: Planned, runs: Sequence[Entrant], result: Mapping[str, Any]) -> dict[str, Any]:
    decoding = {"decoding_captions_per_second": result["decoding"]["captions_per_second"]}
    if planned.kind not in ("base", "training"):
        return decoding  # nothing was trained for it
    training = training_record(runs[0].run)
    medians = {
        name: (training[name] or {}).get("median")
        for name in ("epoch_seconds", "captions_per_second")
    }
    return {**{name: training.get(name) for name in COST}, **medians, **decoding}


def _record(
    planned: Planned,
    found: _Measured,
    base: _Measured,
    spreads: _Spreads,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    return {
        "name": planned.variation.name,
        "kind": planned.kind,
        "options": planned.variation.options,
        "ensemble": list(planned.variation.ensemble),
        "changed": planned.changed,
        "state": _state(planned, found),
        "seeds": list(found.results),
        "pictures": _pictures(found),
        "failures": [{"seed": s, "reason": reason} for s, reason in found.failures.items()],
        "runs": [str(run.run.path) for runs in planned.runs.values() for run in runs],
        "scores": _scores(found) if found.results else {},
        "cost": _mean_cost(found) if found.results else {},
        "machines": _machines(found),
        "differences": _differences(planned, found, base, spreads, resamples=resamples, seed=seed),
    }


def _pictures(found: _Measured) -> int:
    """How many were captioned for each seed."""
    some = next(iter(found.metrics.values()), {})
    return len(next(iter(some.values())).per_image) if some else 0


def _state(planned: Planned, found: _Measured) -> str:
    """measured, failed, not trained, not measured (of what trains nothing), unchanged or needs a
    GPU."""
    if not planned.measured:
        return planned.kind
    if found.results:
        return "measured"
    if found.failures:
        return "failed"
    return "not trained" if planned.kind in ("base", "training") else "not measured"


def _scores(found: _Measured) -> dict[str, dict[str, Any]]:
    """By score the mean over seeds, their standard deviation, and each."""
    table = {
        name: [metrics[name].corpus for metrics in found.metrics.values()]
        for name in next(iter(found.metrics.values()))
    }
    return {
        name: {
            "score": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "by_seed": values,
        }
        for name, values in table.items()
    }


def _mean_cost(found: _Measured) -> dict[str, float | None]:
    costs = [result.cost for result in found.results.values()]
    return {name: _mean([cost.get(name) for cost in costs]) for name in COST}


def _machines(found: _Measured) -> list[dict[str, Any]]:
    """The different machines that it was measured on."""
    machines: list[dict[str, Any]] = []
    for result in found.results.values():
        if result.machine not in machines:
            machines.append(result.machine)
    return machines


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _differences(
    planned: Planned, found: _Measured, base: _Measured, spreads: _Spreads, **how: int
) -> dict[str, dict[str, Any]]:
    """By score the variation minus the base, with what `difference_over_runs` tells."""
    if planned.kind == "base" or not (found.metrics and base.metrics):
        return {}
    same = planned.kind == "decoding"
    seeds = sorted(found.metrics) if same else sorted(base.metrics)
    spread = spreads.of_decoding if same else spreads.of_trainings
    return {
        name: difference_over_runs(
            [base.metrics[seed][name] for seed in seeds],
            [found.metrics[seed][name] for seed in sorted(found.metrics)],
            same_runs=same,
            spread=spread[name],
            **how,
        )
        for name in SCORES
    }


def _correct(records: Sequence[dict[str, Any]]) -> None:
    """Add Holm's p-value over the variations, and what it comes to."""
    for name in SCORES:
        entries = [r["differences"][name] for r in records if name in r["differences"]]
        for entry, p_value in zip(entries, holm([e["p_value"] for e in entries]), strict=True):
            entry["p_holm"] = p_value
            entry["verdict"] = _verdict(entry)


def _verdict(entry: Mapping[str, Any]) -> str:
    """better, worse, within noise, or unsure: an interval without 0 that many looks may explain."""
    if entry["low"] <= 0 <= entry["high"]:
        return "within noise"
    if entry["p_holm"] >= ALARM:
        return "unsure"
    return "better" if entry["difference"] > 0 else "worse"
