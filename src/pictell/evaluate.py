"""Evaluate a run on a split: captions first, then scores.

    evaluate(RunFolder.open("runs/flickr8k_attention"), split="test", beams=(1, 3, 5))

For each beam width a folder RUN/evaluation/SPLIT-beamK is written: `predictions.jsonl` (a line a
picture, in the order of the data set) and `scores.json` (scores with their protocol). Scores are
made from the file of captions alone, so that they can be made again without the model. What is
measured of attention (`pictell.attention.measure`) is added to the scores of the largest beam.
Several runs that write together (`evaluate_ensemble`) have a folder of their own.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pictell.attention.measure import AttentionSettings, measure_attention
from pictell.attention.printing import print_attention
from pictell.captioner import Captioner
from pictell.config import NeighboursBy, SearchConfig, TrainConfig
from pictell.data.fluency import fluency
from pictell.data.text import Tokenizer, get_tokenizer, scoring_units
from pictell.decoders.base import decoder_class
from pictell.ensemble import ensemble_task, open_members
from pictell.errors import InputError
from pictell.files import read_json, read_jsonl, write_json, write_jsonl
from pictell.machine import OtherLoad, hardware, versions
from pictell.metrics import Metric, score_captions
from pictell.progress import console, progress_bar
from pictell.training.checkpoint import RunFolder, models_hash
from pictell.training.task import SplitData, Task, all_positions, build_task
from pictell.training.validation import region_features, teacher_forced_captions

PICTURES_AT_ONCE = 32
PER_IMAGE = ("BLEU-4", "ROUGE-L", "CIDEr-D")
Forced = tuple[dict[str, float], dict[str, list[float]]]  # means of the split, sums per picture


def evaluation_folder(run: RunFolder | Path, split: str, beam: int) -> Path:
    """Where the results on a split at a beam width are kept, of a run or below another folder."""
    folder = run.path if isinstance(run, RunFolder) else run
    return folder / "evaluation" / f"{split}-beam{beam}"


@dataclass(frozen=True)
class _Subject:
    """What captions a split: a run, or several that write together.

    Attributes:
        name: To read.
        members: The runs, one or more.
        captioner: The model.
        task: The data set.
        data: The split.
        train: How captions are read under teacher forcing.
        folder: Results are kept below it.
    """

    name: str
    members: list[RunFolder]
    captioner: Captioner
    task: Task
    data: SplitData
    train: TrainConfig
    folder: Path


def evaluate(
    run: RunFolder,
    *,
    split: str = "test",
    beams: Sequence[int] = (1, 3, 5),
    length_penalty: float | None = None,
    block_repeats: int | None = None,
    patience: float | None = None,
    neighbours: int | None = None,
    neighbour_weight: float | None = None,
    neighbours_by: NeighboursBy | None = None,
    search: SearchConfig | None = None,
    weights: str = "",
    dataset: str = "",
    out: Path | None = None,
    overwrite: bool = False,
    attention: AttentionSettings | None = None,
) -> list[dict[str, Any]]:
    """Caption a split and score the captions, once per beam width.

    Args:
        run: A trained run.
        split: `train`, `val` or `test`.
        beams: Beam widths; 1 is greedy.
        length_penalty: Replaces the config's.
        block_repeats: Replaces the config's.
        patience: Replaces the config's.
        neighbours: Replaces the config's.
        neighbour_weight: Replaces the config's.
        neighbours_by: Replaces the config's.
        search: Replaces all of the config's search options; its beam is of no account.
        weights: Where the frozen encoder's weights are, if not where the config says.
        dataset: Another prepared data set than the one the run was trained on.
        out: Keep results below this folder instead of the run's.
        overwrite: Do the work again though results of the same model are there.
        attention: Measure attention too, on the captions of the largest beam width.

    Returns:
        The contents of each scores.json.

    Raises:
        InputError: Something cannot be used, attention is to be measured of a model without, or
            training pictures are to be captioned with a search that asks neighbours.
    """
    config = run.config
    if attention is not None and not attends(run):
        raise InputError(
            f"{run.path}: its decoder ({config.decoder.name}) has no attention to measure; leave "
            "--attention out"
        )
    if dataset:
        config = replace(config, data=replace(config.data, dataset=dataset))
    captioner = Captioner.load(run, weights=weights)
    task = build_task(
        config, vocabulary=run.vocabulary, encoder=captioner.encoder, device=captioner.device
    )
    data = task.split(split)
    subject = _Subject(run.name, [run], captioner, task, data, config.train, out or run.path)
    search = (search or config.search).with_given(
        length_penalty=length_penalty,
        block_repeats=block_repeats,
        patience=patience,
        neighbours=neighbours,
        neighbour_weight=neighbour_weight,
        neighbours_by=neighbours_by,
    )
    results = _results(subject, beams, search, overwrite=overwrite)
    if attention is not None:
        largest = max(range(len(beams)), key=lambda i: beams[i])
        folder = evaluation_folder(subject.folder, split, beams[largest])
        results[largest] = _with_attention(
            results[largest], folder, captioner, data, attention, overwrite=overwrite
        )
    return results


def evaluate_ensemble(
    runs: Sequence[str | Path | RunFolder],
    out: Path,
    *,
    split: str = "test",
    beams: Sequence[int] = (1, 3, 5),
    length_penalty: float | None = None,
    block_repeats: int | None = None,
    patience: float | None = None,
    neighbours: int | None = None,
    neighbour_weight: float | None = None,
    neighbours_by: NeighboursBy | None = None,
    search: SearchConfig | None = None,
    weights: str = "",
    dataset: str = "",
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """As `evaluate`, of runs that write together: the mean of their probabilities at each word.

    Args:
        runs: Run folders with the same words; search options and data are the first one's.
        out: Results are kept below this folder.
        split: As for `evaluate`, and so are the others.
        beams: Beam widths.
        length_penalty: Replaces the first run's, and so do the five below.
        block_repeats: As for `evaluate`.
        patience: As for `evaluate`.
        neighbours: As for `evaluate`.
        neighbour_weight: As for `evaluate`.
        neighbours_by: As for `evaluate`.
        search: Replaces all of the first run's search options.
        weights: Where frozen encoders' weights are.
        dataset: Another prepared data set.
        overwrite: Do the work again.

    Raises:
        InputError: A run cannot be used, or the runs' words are not the same.
    """
    members = open_members(runs)
    captioner = Captioner.load_ensemble(members, weights=weights)
    task, data = ensemble_task(
        members, captioner.encoder, captioner.device, split=split, dataset=dataset
    )
    train = replace(members[0].config.train, workers=0)  # a worker process has no models
    name = " + ".join(member.name for member in members)
    subject = _Subject(name, members, captioner, task, data, train, out)
    search = (search or members[0].config.search).with_given(
        length_penalty=length_penalty,
        block_repeats=block_repeats,
        patience=patience,
        neighbours=neighbours,
        neighbour_weight=neighbour_weight,
        neighbours_by=neighbours_by,
    )
    return _results(subject, beams, search, overwrite=overwrite)


def _results(
    subject: _Subject, beams: Sequence[int], search: SearchConfig, *, overwrite: bool
) -> list[dict[str, Any]]:
    """The contents of each scores.json; what is there of the same model and search is kept."""
    asked = any(replace(search, beam=beam).asks_neighbours for beam in beams)
    if asked and subject.data.name == "train":
        raise InputError(
            "the nearest neighbour of a training picture is itself, with the captions that it is "
            "scored with; evaluate split 'train' with search.neighbours 0 (--neighbours 0)"
        )
    forced: Forced | None = None
    results = []
    for beam in beams:
        here = replace(search, beam=beam)
        folder = evaluation_folder(subject.folder, subject.data.name, beam)
        protocol = _protocol(subject, here)
        known = _known_scores(folder, protocol)
        if known is not None and not overwrite:
            results.append(known)
            continue
        if forced is None:
            subject.captioner.expect(sum(beams) * len(subject.data.examples))
            forced = _teacher_forced(subject)
        subject.captioner.prepare(here)
        load = OtherLoad()
        seconds = _write_predictions(subject.captioner, subject.data, here, folder)
        scores = _write_scores(subject, folder, protocol, forced, seconds, load.share)
        results.append(scores)
    return results


def attends(run: RunFolder) -> bool:
    """Whether the run's decoder has attention."""
    return decoder_class(run.config.decoder.name).attends


def _with_attention(
    scores: dict[str, Any],
    folder: Path,
    captioner: Captioner,
    data: SplitData,
    settings: AttentionSettings,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Scores with attention measured as asked for, from the file if they are there."""
    known = scores.get("attention")
    if known is not None and known["settings"] == vars(settings) and not overwrite:
        return scores
    file = folder / "predictions.jsonl"
    captions = read_jsonl(file, what="predictions file", parse=lambda row: row["words"])
    scores = {**scores, "attention": measure_attention(captioner, data, captions, settings)}
    write_json(folder / "scores.json", scores)
    return scores


def _protocol(subject: _Subject, search: SearchConfig) -> dict[str, Any]:
    """All that a score depends on."""
    task, data = subject.task, subject.data
    return {
        "dataset": task.config.data.dataset,
        "data_sha256": task.data_hash,
        "split": data.name,
        "pictures": len(data.examples),
        "references_per_picture": round(
            sum(len(e.captions) for e in data.examples) / len(data.examples), 2
        ),
        "language": task.config.data.language,
        "tokenizer": get_tokenizer(task.config.data.language).name,
        "beam": search.beam,
        "length_penalty": search.length_penalty,
        "max_length": search.max_length,
        "block_repeats": search.block_repeats,
        **({"patience": search.patience} if search.enough != search.beam else {}),
        **_asked_neighbours(search),
        "model_sha256": models_hash(subject.members),
    }


def _asked_neighbours(search: SearchConfig) -> dict[str, Any]:
    """How neighbours chose the captions; nothing where they did not."""
    if not search.asks_neighbours:
        return {}
    return {
        "neighbours": search.neighbours,
        "neighbour_weight": search.neighbour_weight,
        "neighbours_by": search.neighbours_by,
    }


def _known_scores(folder: Path, protocol: dict[str, Any]) -> dict[str, Any] | None:
    file = folder / "scores.json"
    if not file.exists():
        return None
    known = read_json(file)
    found = {"block_repeats": 0, **known.get("protocol", {})}  # older files do not name it
    return known if found == protocol else None


def _teacher_forced(subject: _Subject) -> Forced:
    """Means over the split, and sums for each picture."""
    train, captioner, data = subject.train, subject.captioner, subject.data
    captions = teacher_forced_captions(
        captioner.decoder, data, captioner.encoder, captioner.device, train
    )
    means = captions.tally().means(train.alpha_c)
    sums = captions.per_picture(data.captions.images, len(data.examples))
    return (
        {**means, "perplexity": math.exp(means["cross_entropy"]), "alpha_c": train.alpha_c},
        {
            "words": sums["words"].tolist(),
            "cross_entropy_sum": sums["cross_entropy"].round(5).tolist(),
            "top5_hits": sums["top5"].tolist(),
        },
    )


def _write_predictions(
    captioner: Captioner, data: SplitData, search: SearchConfig, folder: Path
) -> float:
    """Write predictions.jsonl; returns the seconds spent in search, features given."""
    rows, seconds = [], 0.0
    with progress_bar() as bar:
        shown = bar.add_task(
            f"{data.name}, beam {search.beam}", total=len(data.examples), unit="pictures", note=""
        )
        for positions in all_positions(data, PICTURES_AT_ONCE):
            with torch.inference_mode():
                features = region_features(
                    data.pictures(positions), captioner.encoder, captioner.device
                )
            started = time.perf_counter()
            chosen = [h[0] for h in captioner.hypotheses(features, search)]
            seconds += time.perf_counter() - started
            for position, caption in zip(
                positions, captioner.explain(features, chosen), strict=True
            ):
                example = data.examples[position]
                rows.append(
                    {
                        "image_id": example.image_id,
                        "caption": caption.text,
                        "words": caption.words,
                        "log_probability": round(caption.log_probability, 6),
                        "word_log_probabilities": [
                            round(v, 6) for v in caption.word_log_probabilities
                        ],
                        "ended": caption.ended,
                        "references": list(example.captions),
                    }
                )
            bar.advance(shown, len(positions))
    write_jsonl(folder / "predictions.jsonl", rows)
    return seconds


def score_predictions(
    file: Path, tokenizer: Tokenizer, tokenize: Callable[[str], list[str]] | None = None
) -> tuple[list[str], dict[str, Metric], list[list[str]]]:
    """Score a file of captions: picture ids, metrics, and the captions' words.

    Args:
        file: predictions.jsonl with `image_id`, `words` and `references` in each line.
        tokenizer: Of the model's language, or another that cuts the same texts.
        tokenize: Its own, or one that remembers.
    """
    tokenize = tokenize or tokenizer.tokenize
    rows = read_jsonl(
        file,
        what="predictions file",
        parse=lambda row: (
            row["image_id"],
            tokenizer.as_scored(row["words"]),
            [tokenize(caption) for caption in row["references"]],
        ),
    )
    ids, words, references = (list(column) for column in zip(*rows, strict=True))
    return ids, score_captions(words, references), words


def _write_scores(
    subject: _Subject,
    folder: Path,
    protocol: dict[str, Any],
    forced: Forced,
    seconds: float,
    other_load: float,
) -> dict[str, Any]:
    task, file = subject.task, folder / "predictions.jsonl"
    ids, metrics, words = score_predictions(file, task.tokenizer)
    scores = {
        "run": subject.name,
        "members": [str(member.path) for member in subject.members],
        "split": subject.data.name,
        "beam": protocol["beam"],
        "protocol": protocol,
        "scores": _corpus_scores(metrics),
        **_scores_by_unit(file, task.tokenizer.name),
        "teacher_forced": forced[0],
        "language": language_statistics(
            words, _training_captions(task), language=task.config.data.language
        ),
        "decoding": {
            "seconds": round(seconds, 3),
            "captions_per_second": round(len(ids) / max(seconds, 1e-9), 2),
            "pictures_at_once": PICTURES_AT_ONCE,
            "other_load": other_load,  # share of the processor that other programs took
        },
        "per_image": {
            "image_id": ids,
            **{name: metrics[name].per_image.round(6).tolist() for name in PER_IMAGE},
            **forced[1],  # sums over the words of a picture's captions
        },
        "versions": versions(),
        "hardware": hardware(),
    }
    write_json(folder / "scores.json", scores)
    return scores


def _corpus_scores(metrics: Mapping[str, Metric]) -> dict[str, float]:
    return {name: metric.corpus for name, metric in metrics.items()}


def _scores_by_unit(file: Path, language: str) -> dict[str, dict[str, dict[str, float]]]:
    """`scores_by_unit`, where captions are scored in more than their own words; else nothing."""
    units = {
        unit: _corpus_scores(score_predictions(file, get_tokenizer(other))[1])
        for unit, other in scoring_units(language).items()
    }
    return {"scores_by_unit": units} if units else {}


def _training_captions(task: Task) -> set[tuple[str, ...]]:
    return {
        tuple(task.tokenizer.tokenize(caption))
        for example in task.examples
        if example.split == "train"
        for caption in example.captions
    }


def language_statistics(
    captions: Sequence[Sequence[str]], training: set[tuple[str, ...]], *, language: str
) -> dict[str, float]:
    """What the captions of a split look like as a body of text.

    Returns:
        What `pictell.data.fluency.fluency` gives; `shortest`, `longest`; `share_in_training`
        (captions that stand verbatim in the training set); `share_repeated` (captions that another
        picture got too); `distinct_captions`.
    """
    counts = Counter(tuple(words) for words in captions)
    lengths = [len(words) for words in captions]
    total = len(captions)
    return {
        **fluency(captions, language),
        "shortest": min(lengths),
        "longest": max(lengths),
        "distinct_captions": len(counts),
        "share_in_training": round(sum(n for c, n in counts.items() if c in training) / total, 4),
        "share_repeated": round(sum(n for n in counts.values() if n > 1) / total, 4),
    }


def print_scores(results: Sequence[dict[str, Any]]) -> None:
    """The scores of one run as a table, to standard output."""
    from rich.console import Console
    from rich.table import Table

    first = results[0]
    protocol = first["protocol"]
    table = Table(
        title=f"{first['run']} on {first['split']} ({protocol['pictures']:,} pictures)",
        title_justify="left",
    )
    names = list(first["scores"])
    unit = {"zh-char": "characters"}.get(protocol["tokenizer"], "words")
    for column in ("beam", *names, unit, "captions/s"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            str(result["beam"]),
            *(f"{result['scores'][name]:.4f}" for name in names),
            f"{result['language']['mean_words']:.1f}",
            f"{result['decoding']['captions_per_second']:.0f}",
        )
    out = Console()
    out.print(table)
    if "scores_by_unit" in first:
        out.print(_units_table(results))
    forced = first["teacher_forced"]
    out.print(
        f"teacher-forced: cross-entropy {forced['cross_entropy']:.4f} (perplexity "
        f"{forced['perplexity']:.2f}), top-5 accuracy {forced['top5']:.2%}, attention term "
        f"{forced['regularisation']:.4f}",
        highlight=False,
    )
    for result in results:
        if result.get("attention"):
            print_attention(result, out)
    asked = results[-1]["protocol"]
    more = ""
    if asked["block_repeats"]:
        more += f"no repeat of {asked['block_repeats']} in a row, "
    if "patience" in asked:
        more += f"patience {asked['patience']}, "
    if "neighbours" in asked:
        more += (
            f"{asked['neighbours']} neighbours by {asked['neighbours_by']} (weight "
            f"{asked['neighbour_weight']}), "
        )
    console.print(
        f"protocol: tokeniser {protocol['tokenizer']}, length penalty "
        f"{protocol['length_penalty']}, at most {protocol['max_length']} words, {more}data "
        f"{protocol['data_sha256'][:12]}",
        highlight=False,
    )


def _units_table(results: Sequence[Mapping[str, Any]]) -> Any:
    """The same captions scored per word and per character."""
    from rich.table import Table

    table = Table(title="the same captions, per word and per character", title_justify="left")
    names = list(results[0]["scores"])
    for column in ("beam", "scores per", *names):
        table.add_column(column, justify="right")
    for result in results:
        for unit, scores in result["scores_by_unit"].items():
            table.add_row(str(result["beam"]), unit, *(f"{scores[name]:.4f}" for name in names))
    return table
