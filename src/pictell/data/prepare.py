"""Turn captioned pictures in any known layout into one checked data set.

    pictell prepare flickr8k flickr8k/ --out data/flickr8k

writes `data/flickr8k/dataset.jsonl` and `summary.json`, and says what was wrong with the source.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from pictell.data import readers
from pictell.data.checks import (
    Captions,
    doubt_language,
    drop_empty_captions,
    drop_unsplit,
    drop_unusable,
    find_copies,
    inspect_pictures,
    merge_problems,
    progress_bar,
)
from pictell.data.readers import Problems, Reading
from pictell.data.records import DATASET_FILE, Example, write_dataset
from pictell.data.splits import check_shares, complete_splits
from pictell.data.summary import Summary, describe_problems, print_summary, summarise
from pictell.data.text import get_tokenizer
from pictell.errors import InputError
from pictell.files import write_json

__all__ = ["Kind", "Summary", "prepare", "print_summary"]

Kind = Literal["flickr8k", "karpathy", "coco", "csv", "jsonl", "folder", "scenes"]
SUMMARY_FILE = "summary.json"


def prepare(
    kind: Kind,
    source: Path | None,
    out: Path,
    *,
    images: Path | None = None,
    language: str = "en",
    min_count: int = 5,
    val_share: float = 0.1,
    test_share: float = 0.1,
    split_seed: int = 0,
    strict: bool = False,
    workers: int = 2,
    progress: bool = True,
    pictures: int = 2400,
    size: int = 256,
    seed: int = 0,
) -> Summary:
    """Read captions and pictures, check them, and write one data set that all else works on.

    Args:
        kind: The layout of the source. flickr8k: the folder as published or from Kaggle, Flickr30k
            too. karpathy: dataset_coco.json and its like. coco: annotations/captions_*.json. csv: a
            table image,caption[,split], commas or tabs, a row a caption. jsonl: the same as JSON
            lines. folder: pictures with a .txt beside each, a caption a line. scenes: pictures are
            made up, with captions, and no source is needed.
        source: The file or folder to read.
        out: The folder to write dataset.jsonl and summary.json into. Pictures stay where they are.
        images: The folder of pictures, where they are not beside the captions.
        language: How captions are cut into words: en, zh (Chinese words) or zh-char (characters).
        min_count: A word must occur this often in the training captions to be in the vocabulary.
            Here it is only counted; training fits the vocabulary.
        val_share: Share of the pictures for validation, where the source names none.
        test_share: Share of the pictures for testing, where the source names none.
        split_seed: Which of the equally good divisions. Captions of one picture, and copies of a
            picture, always stay together.
        strict: Make every problem an error and write nothing. Without it, what cannot be used is
            left out and told.
        workers: How many pictures are decoded at a time.
        progress: Show a progress bar.
        pictures: For scenes: how many to make.
        size: For scenes: their width and height, in pixels.
        seed: For scenes: the same seed makes the same pictures.

    Returns:
        The counts and problems, as written to summary.json.

    Raises:
        InputError: The source is not as described, nothing usable is in it, or `strict` found a
            problem. Nothing is written then.
    """
    check_shares(val_share, test_share)
    tokenizer = get_tokenizer(language)
    out = Path(out)
    _check_out(out)
    if kind == "scenes":
        reading = _make_scenes(out, pictures=pictures, size=size, seed=seed, progress=progress)
    else:
        reading = _read(kind, source, images=images, language=language)
    sound = _check(reading, tokenizer.tokenize, workers=workers, progress=progress)
    if not sound.examples:
        trouble = describe_problems(sound.problems)
        raise InputError(f"{source}: no usable picture with a caption: {trouble}")
    examples, notes = complete_splits(
        sound.examples, sound.contents, val_share=val_share, test_share=test_share, seed=split_seed
    )
    problems = merge_problems(sound.problems, find_copies(examples, sound.contents))
    if strict and problems:
        raise InputError(
            f"{source}: problems found and strict is on, so nothing was written: "
            f"{describe_problems(problems)}"
        )
    doubts = doubt_language((c for e in examples for c in e.captions), language)
    summary = summarise(
        examples,
        sound.words,
        dataset=str(out / DATASET_FILE),
        language=language,
        min_count=min_count,
        problems=problems,
        notes=[*reading.notes, *notes, *doubts],
    )
    write_json(out / SUMMARY_FILE, asdict(summary))
    write_dataset(out, examples)
    return summary


@dataclass(frozen=True, kw_only=True)
class _Sound:
    """What stood the checks: examples, the words of their captions, hashes of the pictures."""

    examples: list[Example]
    words: Captions
    contents: dict[str, str]
    problems: Problems


def _check(
    reading: Reading, tokenize: Callable[[str], list[str]], *, workers: int, progress: bool
) -> _Sound:
    examples, unsplit = drop_unsplit(reading.examples)
    examples, words, empty = drop_empty_captions(examples, tokenize, progress=progress)
    facts = inspect_pictures([e.path for e in examples], workers=workers, progress=progress)
    contents = {e.image_id: fact.content for e, fact in zip(examples, facts, strict=True)}
    examples, unusable = drop_unusable(examples, facts)
    problems = merge_problems(reading.problems, unsplit, empty, unusable)
    return _Sound(examples=examples, words=words, contents=contents, problems=problems)


def _check_out(out: Path) -> None:
    """Say that `out` cannot be written before minutes are spent on checking pictures."""
    there = next((folder for folder in (out, *out.absolute().parents) if folder.exists()), None)
    if there is not None and not there.is_dir():
        raise InputError(f"{out}: cannot be written: {there} is a file, not a folder")
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{out}: cannot be written: no permission to write in {there}")


def _read(kind: str, source: Path | None, *, images: Path | None, language: str) -> Reading:
    if source is None:
        raise InputError(
            f"a source to read is missing: which file or folder holds the {kind} data?"
        )
    source = Path(source)
    images = None if images is None else Path(images)
    known: dict[str, Callable[[], Reading]] = {
        "flickr8k": lambda: readers.read_flickr(source, images=images, language=language),
        "karpathy": lambda: readers.read_karpathy(source, images=images),
        "coco": lambda: readers.read_coco(source, images=images),
        "csv": lambda: readers.read_csv(source, images=images),
        "jsonl": lambda: readers.read_jsonl(source, images=images),
        "folder": lambda: readers.read_folder(source),
    }
    if kind not in known:
        raise InputError(f"unknown kind of data {kind!r}; known: {', '.join(get_args(Kind))}")
    if kind == "folder" and images is not None:
        raise InputError("images has no use with kind folder: pictures and captions lie together")
    return known[kind]()


def _make_scenes(out: Path, *, pictures: int, size: int, seed: int, progress: bool) -> Reading:
    from pictell.data.scenes import generate_scenes  # draws with a font that is an extra

    with progress_bar(show=progress) as bar:
        task = bar.add_task("drawing scenes", total=pictures)
        examples = generate_scenes(
            out, pictures=pictures, size=size, seed=seed, progress=lambda n: bar.advance(task, n)
        )
    return Reading(examples=examples, notes=[f"scenes made with seed {seed}"])
