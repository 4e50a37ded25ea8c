"""What comparison.json says of each model: scores with intervals, cost, curves.

    scored = read_scored(run, split="test", beams=(1, 3, 5), results=evaluate(run), language="en")
    describe_model(entrant, scored, resamples=1000, seed=0)

Stages meet at files: everything here is read from run.json, log.jsonl and the evaluation folder.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pictell.comparison.entrants import Entrant
from pictell.data.text import get_tokenizer, scoring_units
from pictell.errors import InputError
from pictell.evaluate import evaluation_folder, score_predictions
from pictell.files import read_jsonl
from pictell.metrics import Metric, bootstrap_interval
from pictell.training.checkpoint import RunFolder

CURVES = ("loss", "cross_entropy", "top5")
FREE_RUNNING = ("BLEU-4", "CIDEr-D", "ROUGE-L")


@dataclass(frozen=True, eq=False)
class Scored:
    """One model's captions and scores on a split.

    Attributes:
        results: The contents of scores.json, by beam width.
        metrics: Of the captions, by beam width and name; they can be resampled.
        by_unit: The same by unit (see `scoring_units`), beam width and name; empty for English.
        forced: Cross-entropy and top-5 accuracy as metrics, where scores.json has them by picture.
        image_ids: The pictures, in order, the same for all beam widths.
        predictions: Lines of predictions.jsonl at the largest beam width.
        language: How captions and references were cut to be scored.
    """

    results: dict[int, dict[str, Any]]
    metrics: dict[int, dict[str, Metric]]
    by_unit: dict[str, dict[int, dict[str, Metric]]]
    forced: dict[str, Metric]
    image_ids: list[str]
    predictions: list[dict[str, Any]]
    language: str

    @property
    def beam(self) -> int:
        """The largest beam width, which the report speaks of."""
        return max(self.results)


@lru_cache(maxsize=4)
def _cached_tokenize(language: str):
    """A tokeniser that remembers: all models and beam widths share their references."""
    return lru_cache(maxsize=None)(get_tokenizer(language).tokenize)


def read_scored(
    run: RunFolder,
    *,
    split: str,
    beams: Sequence[int],
    results: Sequence[Mapping[str, Any]],
    language: str,
) -> Scored:
    """Read the captions that `evaluate` wrote, and make the metrics anew from them.

    Args:
        run: The model.
        split: `train`, `val` or `test`.
        beams: Beam widths.
        results: The contents of each scores.json.
        language: In what captions are scored: the run's own, or another that cuts the same texts.

    Raises:
        InputError: Two beam widths have different pictures.
    """
    by_beam = {int(result["beam"]): dict(result) for result in results}
    wanted = {language, *scoring_units(language).values()}
    ids: list[str] = []
    found: dict[str, dict[int, dict[str, Metric]]] = {name: {} for name in wanted}
    for beam in sorted(beams):
        file = evaluation_folder(run, split, beam) / "predictions.jsonl"
        for name in wanted:
            here, found[name][beam], _ = score_predictions(
                file, get_tokenizer(name), _cached_tokenize(name)
            )
            if ids and here != ids:
                raise InputError(
                    f"{file}: holds other pictures than a smaller beam's; evaluate again"
                )
            ids = here
    largest = evaluation_folder(run, split, max(beams)) / "predictions.jsonl"
    return Scored(
        results={beam: by_beam[beam] for beam in sorted(beams)},
        metrics=found[language],
        by_unit={unit: found[name] for unit, name in scoring_units(language).items()},
        forced=_forced_metrics(by_beam[max(beams)].get("per_image", {})),
        image_ids=ids,
        predictions=read_jsonl(largest, what="predictions file"),
        language=language,
    )


def _forced_metrics(per_image: Mapping[str, Any]) -> dict[str, Metric]:
    """Means over words of what scores.json gives as sums over each picture's words."""
    if "words" not in per_image:
        return {}
    words = np.array(per_image["words"], dtype=np.float64)
    names = {"cross_entropy": "cross_entropy_sum", "top5": "top5_hits"}
    return {
        name: Metric(
            name,
            np.stack([np.array(per_image[key], dtype=np.float64), words], axis=1),
            lambda summed: summed[..., 0] / summed[..., 1],
            np.array(per_image[key]) / np.maximum(words, 1),
        )
        for name, key in names.items()
        if key in per_image
    }


def describe_model(
    entrant: Entrant, scored: Scored, *, resamples: int, seed: int
) -> dict[str, Any]:
    """The record of one model in comparison.json; `pictell.compare` documents its form."""
    run, info = entrant.run, entrant.run.info
    epochs = _epoch_lines(run.log_file)
    result = scored.results[scored.beam]
    return {
        "name": entrant.name,
        "run": str(run.path),
        "command": shlex.join(["pictell", *entrant.command]),
        "config": run.config.to_dict(),
        "trained_on_sha256": info["data"]["sha256"],
        "data_sha256": result["protocol"]["data_sha256"],
        "model_sha256": result["protocol"].get("model_sha256"),
        "vocabulary": info["data"]["vocab_size"],
        "decoder": info["decoder"],
        "encoder": info["encoder"],
        "training": training_record(run),
        "curves": _curves(epochs),
        "validation": _validation(info, epochs),
        "teacher_forced": result["teacher_forced"],
        "teacher_forced_intervals": {
            name: _interval(metric, resamples, seed) for name, metric in scored.forced.items()
        },
        "attention_floor": attention_floor(run, scored),
        "attention": result.get("attention"),
        "beams": {
            str(beam): {
                "scores": {
                    name: _interval(metric, resamples, seed)
                    for name, metric in scored.metrics[beam].items()
                },
                "scores_by_unit": {
                    unit: {
                        name: _interval(metric, resamples, seed)
                        for name, metric in metrics[beam].items()
                    }
                    for unit, metrics in scored.by_unit.items()
                },
                "decoding": scored.results[beam]["decoding"],
                "language": scored.results[beam]["language"],
            }
            for beam in scored.results
        },
        "versions": info["versions"],
        "hardware": info["hardware"],
        "evaluated_with": {key: result[key] for key in ("versions", "hardware")},
    }


def _interval(metric: Metric, resamples: int, seed: int) -> dict[str, float]:
    return vars(bootstrap_interval(metric, resamples=resamples, seed=seed)).copy()


def _epoch_lines(log: Path) -> list[dict[str, Any]]:
    lines = read_jsonl(log, what="training log") if log.exists() else []
    return [line for line in lines if line.get("kind") == "epoch"]


def training_record(run: RunFolder) -> dict[str, Any]:
    """What a finished training took and came to, from run.json and log.jsonl."""
    info, epochs = run.info, _epoch_lines(run.log_file)
    to_best = [e for e in epochs if e["epoch"] <= (info.get("best_epoch") or 0)]
    selected_by, best_score = next(iter(info.get("best_score", {}).items()), (None, None))
    return {
        "epochs": info.get("epochs", len(epochs)),
        "best_epoch": info.get("best_epoch"),
        "selected_by": selected_by,
        "best_score": best_score,
        "seconds": info.get("seconds"),
        "seconds_to_best": sum(sum(e["seconds"].values()) for e in to_best) if to_best else None,
        "epoch_seconds": _spread([e["seconds"]["train"] for e in epochs]),
        "validation_seconds": _spread([e["seconds"]["validation"] for e in epochs]),
        "captions_per_second": _spread([e["captions_per_second"] for e in epochs]),
        "peak_memory_mb": info.get("peak_memory_mb"),
        "precision": info.get("precision"),
        "processes": info.get("processes"),
        "pictures": info["data"].get("train_pictures"),
        "captions": info["data"].get("train_captions"),
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        "median": float(np.median(values)),
        "low": float(min(values)),
        "high": float(max(values)),
        "count": len(values),
    }


def _curves(epochs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    forced = [e["val"]["teacher_forced"] for e in epochs]
    return {
        "epoch": [e["epoch"] for e in epochs],
        "train": {name: [e["train"][name] for e in epochs] for name in CURVES},
        "val": {
            **{name: [values[name] for values in forced] for name in CURVES},
            **{name: [e["val"][name] for e in epochs] for name in FREE_RUNNING},
        },
    }


def _validation(
    info: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Validation numbers of the epoch whose weights were kept."""
    for epoch in epochs:
        if epoch["epoch"] == info.get("best_epoch"):
            scores = {name: epoch["val"][name] for name in FREE_RUNNING}
            return {**epoch["val"]["teacher_forced"], **scores}
    return None


def tokenized_references(scored: Scored, language: str = "") -> list[list[list[str]]]:
    """For each picture its references in words: as the scores see them, or in a language."""
    tokenize = _cached_tokenize(language or scored.language)
    return [[tokenize(text) for text in row["references"]] for row in scored.predictions]


def attention_floor(run: RunFolder, scored: Scored) -> float | None:
    """The least value that the attention term of the loss can take on the split's captions.

    Attention sums to one at each of T words, so that L regions get T/L each at best, and the mean
    over regions of (1 - sum)^2 cannot fall below (1 - T/L)^2. None where the term is not used, or
    where its target can be reached (`train.alpha_target: mean`).
    """
    config, regions = run.config, run.info["decoder"]["regions"]
    used = scored.results[scored.beam]["teacher_forced"]["regularisation"] > 0
    if not used or config.train.alpha_c == 0 or config.train.alpha_target != "one":
        return None
    lengths = [
        min(len(words), config.data.max_length) + 1  # and <end>
        for references in tokenized_references(scored, config.data.language)
        for words in references
    ]
    return float(np.mean((1 - np.array(lengths) / regions) ** 2)) * config.train.alpha_c
