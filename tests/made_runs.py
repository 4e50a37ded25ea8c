"""Run folders made by hand, for tests of comparisons: numbers of our choice, no training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pictell.config import Config
from pictell.data.records import Example, dataset_hash, read_dataset, write_dataset
from pictell.data.text import get_tokenizer
from pictell.evaluate import language_statistics
from pictell.files import read_json, write_json, write_jsonl, write_text
from pictell.metrics import score_captions

ANIMALS = ("dog", "cat", "horse", "bird", "sheep")
PLACES = ("grass", "beach", "street", "snow", "field", "road")
HARDWARE = {"processor": "made up", "cores": 2, "threads": 2, "gpu": None, "system": "Linux"}


def make_dataset(folder: Path, *, pictures: int = 40) -> Path:
    """A data set of coloured squares; each test picture has three captions."""
    generator = np.random.default_rng(3)
    examples = []
    for number in range(pictures):
        colour = tuple(int(c) for c in generator.integers(256, size=3))
        path = folder / "pictures" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 32), colour).save(path)
        animal, place = (str(generator.choice(names)) for names in (ANIMALS, PLACES))
        captions = (
            f"A {animal} runs over the {place} .",
            f"A brown {animal} is running on the {place}",
            f"One {animal} stands near a {place}",
        )
        examples.append(
            Example(image_id=f"img{number:02}", path=path, captions=captions, split="test")
        )
    write_dataset(folder, examples)
    return folder


def captions_of(dataset: Path, *, wrong: float, seed: int = 0) -> list[list[str]]:
    """A caption per picture that resembles its first reference; a share of words is wrong."""
    generator = np.random.default_rng(seed)
    captions = []
    for example in read_dataset(dataset):
        words = get_tokenizer("en").tokenize(example.captions[0])
        captions.append([w if generator.random() > wrong else "thing" for w in words])
    return captions


def make_run(
    folder: Path,
    dataset: Path,
    captions: list[list[str]],
    *,
    decoder: str = "rnn",
    options: dict[str, dict[str, Any]] | None = None,
    info: dict[str, Any] | None = None,
    epoch_seconds: tuple[float, ...] = (50.0, 52.0, 51.0),
    cross_entropy: float = 3.0,
    top5: float = 0.65,
    beams: tuple[int, ...] = (1, 3),
    captions_per_second: float = 200.0,
    other_load: float = 0.0,
    by_picture: bool = False,
) -> Path:
    """Write a finished run with an evaluation on `test`; `info` overrides parts of run.json."""
    values = {"data": {"dataset": str(dataset)}, "decoder": {"name": decoder}, **(options or {})}
    write_text(folder / "config.yaml", Config.from_dict(values).to_yaml())
    write_text(folder / "model.safetensors", "not read here\n")
    regularisation = 0.9 if decoder == "attention" else 0.0
    write_jsonl(folder / "log.jsonl", _log(epoch_seconds, cross_entropy, top5, regularisation))
    described = _info(dataset, decoder, epoch_seconds)
    for key, value in (info or {}).items():
        described[key] = {**described[key], **value} if isinstance(value, dict) else value
    write_json(folder / "run.json", described)
    for beam in beams:
        _write_evaluation(
            folder / "evaluation" / f"test-beam{beam}",
            dataset,
            captions,
            beam=beam,
            forced={
                "loss": cross_entropy + regularisation,
                "cross_entropy": cross_entropy,
                "regularisation": regularisation,
                "top5": top5,
                "perplexity": float(np.exp(cross_entropy)),
                "alpha_c": 1.0,
            },
            captions_per_second=captions_per_second / beam,
            other_load=other_load,
            by_picture=by_picture,
        )
    return folder


def stored_results(run: Any, *, split: str, beams: Any, **_: Any) -> list[dict[str, Any]]:
    """Stands in for `evaluate`: what is on disk, without a model."""
    return [
        read_json(run.path / "evaluation" / f"{split}-beam{beam}" / "scores.json") for beam in beams
    ]


def _info(dataset: Path, decoder: str, epoch_seconds: tuple[float, ...]) -> dict[str, Any]:
    return {
        "data": {
            "dataset": str(dataset),
            "sha256": dataset_hash(read_dataset(dataset)),
            "train_pictures": 400,
            "train_captions": 2000,
            "val_pictures": 40,
            "vocab_size": 120,
        },
        "encoder": {
            "name": "resnet101",
            "key": "abc",
            "grid": [8, 8],
            "feature_size": 2048,
            "parameters": 42_500_160,
            "trained_parameters": 0,
        },
        "decoder": {
            "name": decoder,
            "parameters": 6_000_000 if decoder == "rnn" else 9_000_000,
            "regions": 196,
        },
        "precision": "no",
        "processes": 1,
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "hardware": dict(HARDWARE),
        "finished": True,
        "best_epoch": 2,
        "best_score": {"CIDEr-D": 0.4},
        "epochs": len(epoch_seconds),
        "seconds": sum(epoch_seconds) + 10,
        "peak_memory_mb": 800.0 if decoder == "rnn" else 1200.0,
    }


def _log(
    epoch_seconds: tuple[float, ...], cross_entropy: float, top5: float, regularisation: float
) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"kind": "step", "epoch": 1, "step": 20, "loss": 5.0}]
    for number, seconds in enumerate(epoch_seconds, start=1):
        entropy = cross_entropy + 1 / number
        forced = {
            "loss": entropy + regularisation,
            "cross_entropy": entropy,
            "regularisation": regularisation,
            "top5": top5 - 0.1 / number,
        }
        lines.append(
            {
                "kind": "epoch",
                "epoch": number,
                "step": 100 * number,
                "train": {**forced, "cross_entropy": entropy + 0.2, "loss": forced["loss"] + 0.2},
                "val": {
                    "BLEU-4": 0.1 + 0.02 * number,
                    "ROUGE-L": 0.4,
                    "CIDEr-D": 0.3 + 0.05 * number,
                    "distinct_captions": 0.5,
                    "teacher_forced": forced,
                },
                "best": number == 2,
                "seconds": {"train": seconds, "validation": 4.0},
                "captions_per_second": 2000 / seconds,
                "peak_memory_mb": 800.0,
            }
        )
    return lines


def _write_evaluation(
    folder: Path,
    dataset: Path,
    captions: list[list[str]],
    *,
    beam: int,
    forced: dict[str, float],
    captions_per_second: float,
    other_load: float,
    by_picture: bool,
) -> None:
    examples = read_dataset(dataset)
    rows = [
        {
            "image_id": example.image_id,
            "caption": " ".join(words),
            "words": words,
            "log_probability": -1.5,
            "word_log_probabilities": [-0.1] * len(words),
            "ended": True,
            "references": list(example.captions),
        }
        for example, words in zip(examples, captions, strict=True)
    ]
    write_jsonl(folder / "predictions.jsonl", rows)
    tokenize = get_tokenizer("en").tokenize
    metrics = score_captions(captions, [[tokenize(c) for c in e.captions] for e in examples])
    per_image: dict[str, Any] = {"image_id": [e.image_id for e in examples]}
    if by_picture:
        words = np.arange(len(examples)) % 7 + 30
        per_image["words"] = words.tolist()
        per_image["cross_entropy_sum"] = (words * forced["cross_entropy"]).tolist()
        per_image["top5_hits"] = (words * forced["top5"]).tolist()
    scores = {
        "run": folder.parent.parent.name,
        "split": "test",
        "beam": beam,
        "protocol": {
            "dataset": str(dataset),
            "data_sha256": dataset_hash(examples),
            "split": "test",
            "pictures": len(examples),
            "references_per_picture": 3.0,
            "language": "en",
            "tokenizer": "en",
            "beam": beam,
            "length_penalty": 1.0,
            "max_length": 30,
            "model_sha256": "of the weights",
        },
        "scores": {name: metric.corpus for name, metric in metrics.items()},
        "teacher_forced": forced,
        "language": language_statistics(captions, set(), language="en"),
        "decoding": {
            "seconds": 1.0,
            "captions_per_second": captions_per_second,
            "other_load": other_load,
        },
        "per_image": per_image,
        "versions": {"pictell": "0.1.0"},
        "hardware": dict(HARDWARE),
    }
    write_json(folder / "scores.json", scores)


def as_json(value: Any) -> Any:
    """What a value looks like after it was written and read again."""
    return json.loads(json.dumps(value))
