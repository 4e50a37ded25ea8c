"""Compare models on the same pictures: captions, scores with intervals, likelihood, cost.

    comparison = compare(["configs/flickr8k_rnn.yaml", "runs/flickr8k_attention"], "comparison")
    print_comparison(comparison)

Each item is a config file, which is trained first if it has no finished run, or a run folder. All
models are compared with the first. OUT/comparison.json holds every number that a report shows:

    created, command        when, and by what command
    split, beams, beam      beam widths; `beam` is the largest, of which claims and pictures speak
    bootstrap               resamples, seed, level (0.95) of all intervals and p-values
    protocol                data set and its sha256, pictures, references per picture, language,
                            tokeniser, length penalty, longest caption
    warnings                sentences to read before believing the rest
    config_differences      option and values (one per model) of each option that is not the same
    groups                  length: name, low, high (words of the references), pictures; word_class:
                            name, words, pictures; what `breakdown` speaks of
    repeats                 where experiments were run with several seeds, as
                            `pictell.comparison.repeats` gives it, each difference with `claims` and
                            `headline`; else null
    ranking                 with three or more models, as `pictell.comparison.ranking` gives it
    models                  for each: name, run, command, config, vocabulary (words), decoder and
                            encoder (name, parameters, ...), data_sha256, trained_on_sha256,
                            model_sha256
        training            epochs, best_epoch, selected_by, best_score, seconds, seconds_to_best
                            (with validation), peak_memory_mb, precision, processes, pictures,
                            captions; epoch_seconds, validation_seconds and captions_per_second as
                            median, low, high, count
        curves              epoch, train and val: lists with one value per epoch
        validation          loss, cross_entropy, regularisation, top5 and scores of the best epoch
        teacher_forced      the same of the split, and perplexity, alpha_c
        teacher_forced_intervals  cross_entropy and top5: score, low, high; empty if not known
        attention_floor     least possible value of alpha_c x attention term, or null
        attention           as `pictell.attention.measure` gives it, or null
        breakdown           length (CIDEr-D) and word_class (F1): by group score, low, high
        beams               by beam width: scores (name -> score, low, high), decoding, language;
                            scores_by_unit (unit -> name -> score, low, high): Chinese captions per
                            word and per character, else empty
        versions, hardware  of the training; evaluated_with: of the evaluation
    differences             for each model but the first: first, second (positions of the models)
        beams               by beam width and score: difference (second - first), low, high, p_value
        by_unit             by unit and score the same, at the largest beam width
        teacher_forced      cross_entropy and top5 likewise, where known
        breakdown           length and word_class: by group difference, low, high, p_value
        claims              subject, group, state (settled, open, equal), winner, sentence
        headline, lede      the answer, and the sentences that carry it
        second_better, first_better   pictures: image_id, path, references, captions; none
                            with more than three models
    best, worst             pictures by the mean of all models' CIDEr-D
    most_different          pictures where models are furthest apart, with more than three models
    random_pictures         pictures drawn with the seed; all with the captions of all models

Scores are 0 to 1 (CIDEr-D 0 to 10), losses nats per word, memory MB (10^6 bytes).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pictell.attention.measure import AttentionSettings
from pictell.comparison.breakdown import (
    Breakdown,
    breakdown,
    breakdown_difference,
    breakdown_record,
    groups_record,
)
from pictell.comparison.claims import claims_of, headline_of, lede_of
from pictell.comparison.entrants import (
    Entrant,
    check_comparable,
    common_language,
    resolve_entrants,
)
from pictell.comparison.gallery import (
    best_and_worst,
    most_different,
    most_spread,
    picture_records,
    random_pictures,
)
from pictell.comparison.models import Scored, describe_model, read_scored, tokenized_references
from pictell.comparison.pair import Pair
from pictell.comparison.printing import print_comparison
from pictell.comparison.ranking import ranking_of
from pictell.comparison.repeats import repeats_of, with_repeat_sentences
from pictell.comparison.settings import option_differences, warnings_of
from pictell.comparison.training_process import train_in_process
from pictell.data.records import SPLITS, read_dataset
from pictell.errors import InputError
from pictell.evaluate import attends, evaluate
from pictell.files import write_json
from pictell.metrics import paired_bootstrap
from pictell.progress import console

__all__ = ["COMPARISON_FILE", "REPORT_FILE", "compare", "describe_runs", "print_comparison"]

COMPARISON_FILE = "comparison.json"
REPORT_FILE = "report.html"
LEVEL = 0.95
PAIR_GALLERIES = 3  # with more models, pictures of each pair would fill the report


def compare(
    configs_or_runs: Sequence[Path | str],
    out: Path | str,
    *,
    split: str = "test",
    beams: Sequence[int] = (1, 3, 5),
    length_penalty: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    pictures: int = 6,
    weights: str = "",
    command: str = "",
    attention: AttentionSettings | None = None,
    seeds: int = 1,
) -> dict[str, Any]:
    """Train what is not trained, evaluate, compare, and write OUT/comparison.json.

    Args:
        configs_or_runs: Two or more config files or run folders; the others are compared with the
            first.
        out: The folder to write into.
        split: `train`, `val` or `test`.
        beams: Beam widths; claims and pictures are those of the largest.
        length_penalty: Replaces the configs'.
        resamples: Of the bootstrap over pictures.
        seed: Of the bootstrap and of the pictures drawn at random.
        pictures: How many to show of each kind: second better, first better, random.
        weights: Where a frozen encoder's weights are, if not where the configs say.
        command: What was typed, for the record; taken from the command line if empty.
        attention: Measure the attention of models that have it, so.
        seeds: Train each config file with this many seeds, the file's own and those after it.

    Returns:
        The contents of comparison.json.

    Raises:
        InputError: The items cannot be compared, or a training failed.
        InterruptedTraining: A training was stopped; the same call goes on from there.
    """
    out, beams = Path(out), sorted(set(beams))
    _check(out, split, beams, resamples, pictures)
    entrants = resolve_entrants(configs_or_runs, seeds=seeds)
    check_comparable(entrants)
    for entrant in entrants:
        if not entrant.finished:
            train_in_process(entrant)
    if length_penalty is not None:
        entrants = [entrant.with_length_penalty(length_penalty) for entrant in entrants]
    comparison = _record(
        entrants,
        {"split": split, "beams": beams, "weights": weights, "attention": attention},
        {"resamples": resamples, "seed": seed, "pictures": pictures},
        command,
    )
    write_json(out / COMPARISON_FILE, comparison)
    return comparison


def describe_runs(
    runs: Sequence[Path | str],
    *,
    split: str = "test",
    beams: Sequence[int] = (1, 3, 5),
    resamples: int = 1000,
    seed: int = 0,
    pictures: int = 6,
    weights: str = "",
    command: str = "",
    attention: AttentionSettings | None = None,
) -> dict[str, Any]:
    """What comparison.json would hold, of one or more finished runs; nothing is trained or written.

    Evaluations are taken from the run folders, and made where they are missing. Arguments and
    errors are those of `compare`.
    """
    beams = sorted(set(beams))
    _check(Path(), split, beams, resamples, pictures)
    entrants = resolve_entrants(runs, at_least=1)
    check_comparable(entrants)
    for entrant in entrants:
        if not entrant.finished:
            raise InputError(
                f"{entrant.source}: is not trained yet; run  pictell train {entrant.source}"
            )
    return _record(
        entrants,
        {"split": split, "beams": beams, "weights": weights, "attention": attention},
        {"resamples": resamples, "seed": seed, "pictures": pictures},
        command,
    )


def _record(
    entrants: Sequence[Entrant], evaluation: dict[str, Any], how: dict[str, Any], command: str
) -> dict[str, Any]:
    """The contents of comparison.json, of trained entrants."""
    language = common_language(entrants)
    scored = [_evaluated(entrant, language=language, **evaluation) for entrant in entrants]
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command or _typed(),
        "split": evaluation["split"],
        **_compared(entrants, scored, **how),
    }


def _check(out: Path, split: str, beams: Sequence[int], resamples: int, pictures: int) -> None:
    """Say what is wrong before hours of training, not after."""
    if split not in SPLITS:
        raise InputError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    if not beams or min(beams) < 1:
        raise InputError(f"beams is {list(beams)}; give one or more widths of at least 1")
    if resamples < 100:
        raise InputError(f"resamples is {resamples}; an interval needs at least 100")
    if pictures < 0:
        raise InputError(f"pictures is {pictures}; it must be at least 0")
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{out}: cannot be written: {place} is no folder that can be written to")


def _typed() -> str:
    program = Path(sys.argv[0])
    if program.stem == "pictell" or program.parts[-2:] == ("pictell", "__main__.py"):
        return shlex.join(["pictell", *sys.argv[1:]])
    return ""


def _evaluated(
    entrant: Entrant,
    *,
    split: str,
    beams: Sequence[int],
    language: str,
    attention: AttentionSettings | None,
    **how: Any,
) -> Scored:
    console.print(f"evaluating {entrant.name} on {split}", highlight=False)
    penalty = entrant.config.search.length_penalty
    how["attention"] = attention if attends(entrant.run) else None
    results = evaluate(entrant.run, split=split, beams=beams, length_penalty=penalty, **how)
    return read_scored(entrant.run, split=split, beams=beams, results=results, language=language)


def _compared(
    entrants: Sequence[Entrant],
    scored: Sequence[Scored],
    *,
    resamples: int,
    seed: int,
    pictures: int,
) -> dict[str, Any]:
    """All of comparison.json that comes from the runs."""
    _check_same_pictures(entrants, scored)
    models = [
        describe_model(entrant, one, resamples=resamples, seed=seed)
        for entrant, one in zip(entrants, scored, strict=True)
    ]
    differing = option_differences([entrant.config for entrant in entrants])
    references = tokenized_references(scored[0])
    parts = [breakdown(one, references) for one in scored]
    how = {"resamples": resamples, "seed": seed}
    for model, part in zip(models, parts, strict=True):
        model["breakdown"] = breakdown_record(part, **how)
    paths = _picture_paths(entrants)
    beam = scored[0].beam
    return {
        "beams": sorted(scored[0].results),
        "beam": beam,
        "bootstrap": {"resamples": resamples, "seed": seed, "level": LEVEL},
        "protocol": _protocol(scored[0]),
        "warnings": warnings_of(models, differing, pictures=len(scored[0].image_ids)),
        "config_differences": differing,
        "groups": groups_record(references, parts[0]),
        "repeats": _repeats(models, scored, **how),
        "ranking": ranking_of(scored, **how) if len(scored) > 2 else None,
        "models": models,
        "differences": [
            {
                **_difference(models, scored, parts, second, **how),
                **_pair_pictures(scored, second, paths, count=pictures),
            }
            for second in range(1, len(models))
        ],
        **_galleries(scored, paths, count=pictures, seed=seed),
    }


def _repeats(
    models: Sequence[dict[str, Any]], scored: Sequence[Scored], **how: int
) -> dict[str, Any] | None:
    """What experiments that were run with several seeds say together, in numbers and sentences."""
    repeats = repeats_of(models, scored, **how)
    if repeats is None:
        return None
    return with_repeat_sentences(repeats, str(scored[0].beam))


def _galleries(
    scored: Sequence[Scored], paths: dict[str, str], *, count: int, seed: int
) -> dict[str, Any]:
    """The pictures that are shown with the captions of all models."""
    best, worst = best_and_worst(scored, count=count)
    chosen = {
        "best": best,
        "worst": worst,
        "most_different": most_spread(scored, count=count) if len(scored) > PAIR_GALLERIES else [],
        "random_pictures": random_pictures(len(scored[0].image_ids), count=count, seed=seed),
    }
    shown = dict(enumerate(scored))
    return {name: picture_records(where, shown, paths) for name, where in chosen.items()}


def _check_same_pictures(entrants: Sequence[Entrant], scored: Sequence[Scored]) -> None:
    for entrant, other in zip(entrants[1:], scored[1:], strict=True):
        if other.image_ids != scored[0].image_ids:
            raise InputError(
                f"{entrants[0].name} and {entrant.name} were evaluated on different pictures; "
                "delete their evaluation folders and compare again"
            )


def _protocol(scored: Scored) -> dict[str, Any]:
    """What all models share; what is a model's own is said elsewhere."""
    protocol = scored.results[scored.beam]["protocol"]
    shared = {k: v for k, v in protocol.items() if k not in ("beam", "model_sha256")}
    return {**shared, "language": scored.language, "tokenizer": scored.language}


def _picture_paths(entrants: Sequence[Entrant]) -> dict[str, str]:
    """Picture files by image id; empty when the data set is not there any more."""
    for entrant in entrants:
        try:
            examples = read_dataset(Path(entrant.config.data.dataset))
        except InputError:
            continue
        return {example.image_id: str(example.path) for example in examples}
    return {}


def _difference(
    models: Sequence[dict[str, Any]],
    scored: Sequence[Scored],
    parts: Sequence[Breakdown],
    second: int,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The second model minus the first, with intervals and sentences."""
    before, after = scored[0], scored[second]
    how = {"resamples": resamples, "seed": seed, "level": LEVEL}
    beams = {
        str(beam): {
            name: vars(paired_bootstrap(metric, after.metrics[beam][name], **how)).copy()
            for name, metric in before.metrics[beam].items()
        }
        for beam in before.metrics
    }
    largest = before.beam
    by_unit = {
        unit: {
            name: vars(paired_bootstrap(metric, after.by_unit[unit][largest][name], **how)).copy()
            for name, metric in metrics[largest].items()
        }
        for unit, metrics in before.by_unit.items()
    }
    forced = {
        name: vars(paired_bootstrap(metric, after.forced[name], **how)).copy()
        for name, metric in before.forced.items()
        if name in after.forced and _same_words(models[0], models[second])
    }
    by_group = breakdown_difference(parts[0], parts[second], resamples=resamples, seed=seed)
    record = {
        "first": 0,
        "second": second,
        "beams": beams,
        "by_unit": by_unit,
        "teacher_forced": forced,
        "breakdown": by_group,
    }
    claims = claims_of(models[0], models[second], record, beam=str(largest))
    pair = Pair(models[0], models[second], 0, second)
    headline = headline_of(models, claims, pair)
    return {**record, "claims": claims, "headline": headline, "lede": lede_of(claims)}


def _same_words(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two models write in the same pieces, words or characters."""
    return first["config"]["data"]["language"] == second["config"]["data"]["language"]


def _pair_pictures(
    scored: Sequence[Scored], second: int, paths: dict[str, str], *, count: int
) -> dict[str, Any]:
    count = count if len(scored) <= PAIR_GALLERIES else 0
    better, worse = most_different(scored[0], scored[second], count=count)
    shown = {0: scored[0], second: scored[second]}
    return {
        "second_better": picture_records(better, shown, paths),
        "first_better": picture_records(worse, shown, paths),
    }
