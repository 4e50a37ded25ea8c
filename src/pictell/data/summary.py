"""What is in a data set, in numbers: the summary that `prepare` prints and writes.

summary = summarise(examples, words, min_count=5, ...)
print_summary(summary)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pictell.data.readers.pictures import Problems
from pictell.data.records import SPLITS, Example, dataset_hash
from pictell.data.text import SPECIAL_WORDS, UNKNOWN, Vocabulary
from pictell.errors import InputError

# Kind of problem -> (what it is, what was done about it).
PROBLEMS = {
    "captions_without_picture": ("captions without a picture", "left out"),
    "pictures_without_caption": ("pictures without a caption", "left out"),
    "split_entries_without_picture": ("names in a split list without a picture", "ignored"),
    "pictures_in_no_split": ("pictures in no split", "left out"),
    "unreadable_pictures": ("pictures that do not decode", "left out"),
    "constant_pictures": ("pictures of one single colour", "left out"),
    "empty_captions": ("captions without a word", "left out"),
    "leaks": ("copies of a picture in different splits: a leak", "kept"),
    "copies": ("copies of a picture in one split", "kept"),
}
SHOWN_NAMES = 5


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a number is spread: over captions, or over pictures."""

    min: int
    mean: float
    median: float
    p95: float
    max: int


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """One split in numbers.

    Attributes:
        pictures: How many.
        captions: How many.
        captions_per_picture: Their spread over pictures.
        words_per_caption: Their spread over captions.
        known_words: Share of the words, as often as they occur, that the vocabulary holds.
        known_captions: Share of the captions all of whose words the vocabulary holds.
    """

    pictures: int
    captions: int
    captions_per_picture: Spread
    words_per_caption: Spread
    known_words: float
    known_captions: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `prepare` found and wrote.

    Attributes:
        dataset: The file written.
        sha256: Hash of the data set (`records.dataset_hash`), for records of experiments.
        language: Which tokeniser counted the words.
        min_count: How often a word must occur in the training captions to be in the vocabulary.
        vocabulary: Words in the vocabulary, without the four special ones.
        different_words: Different words in the training captions.
        splits: Name of the split -> its numbers; only splits that hold pictures.
        problems: Kind of problem (a key of `PROBLEMS`) -> the names, all of them.
        notes: What else there is to know.
    """

    dataset: str
    sha256: str
    language: str
    min_count: int
    vocabulary: int
    different_words: int
    splits: dict[str, SplitSummary]
    problems: Problems
    notes: list[str]


def summarise(
    examples: Sequence[Example],
    words: Mapping[str, list[list[str]]],
    *,
    dataset: str,
    language: str,
    min_count: int,
    problems: Problems,
    notes: Sequence[str],
) -> Summary:
    """Count; the vocabulary is fitted on the training captions alone.

    Args:
        examples: With their final splits.
        words: `image_id` -> the words of each caption, in the order of `Example.captions`.
        dataset: Name of the file, for the record.
        language: Name of the tokeniser that made `words`, for the record.
        min_count: See `Vocabulary.fit`.
        problems: For the record.
        notes: For the record.
    """
    by_split = {
        split: [words[e.image_id] for e in examples if e.split == split] for split in SPLITS
    }
    training = [caption for picture in by_split["train"] for caption in picture]
    notes = list(notes)
    try:
        vocabulary = Vocabulary.fit(training, min_count=min_count)
    except InputError:
        vocabulary = Vocabulary(SPECIAL_WORDS)
        if training:
            notes.append(
                f"no word occurs {min_count} times in the training captions: bring more captions "
                "or lower min_count"
            )
    return Summary(
        dataset=dataset,
        sha256=dataset_hash(examples),
        language=language,
        min_count=min_count,
        vocabulary=len(vocabulary) - len(SPECIAL_WORDS),
        different_words=len({word for caption in training for word in caption}),
        splits={name: _count(found, vocabulary) for name, found in by_split.items() if found},
        problems={kind: problems[kind] for kind in PROBLEMS if kind in problems},
        notes=notes,
    )


def _count(pictures: Sequence[list[list[str]]], vocabulary: Vocabulary) -> SplitSummary:
    captions = [vocabulary.encode(caption) for picture in pictures for caption in picture]
    counts = Counter(number == UNKNOWN for caption in captions for number in caption)
    return SplitSummary(
        pictures=len(pictures),
        captions=len(captions),
        captions_per_picture=_spread([len(picture) for picture in pictures]),
        words_per_caption=_spread([len(caption) for caption in captions]),
        known_words=counts[False] / max(1, counts.total()),
        known_captions=sum(UNKNOWN not in caption for caption in captions) / max(1, len(captions)),
    )


def _spread(values: Sequence[int]) -> Spread:
    median, p95 = np.percentile(values, [50, 95])
    return Spread(
        min=min(values),
        mean=round(float(np.mean(values)), 3),
        median=float(median),
        p95=float(p95),
        max=max(values),
    )


def describe_problems(problems: Problems) -> str:
    """All problems in one line: counts, and the first names of each kind."""
    return "; ".join(
        f"{len(names):,} {PROBLEMS[kind][0]} ({_first(names, ', ')})"
        for kind, names in problems.items()
    )


def _first(names: Sequence[str], separator: str) -> str:
    more = len(names) - SHOWN_NAMES
    return separator.join([*names[:SHOWN_NAMES], *([f"and {more:,} more"] if more > 0 else [])])


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Show a summary as two tables: the splits, and what was wrong with at most 5 names a kind."""
    console = console or Console()
    console.print(_split_table(summary))
    share = f"{summary.vocabulary:,} of {summary.different_words:,} different training words"
    lines = [f"words known: {share}, those that occur at least {summary.min_count} times"]
    lines += summary.notes
    if summary.problems:
        console.print(_problem_table(summary))
        lines.append("every name is in summary.json, beside the data set")
    else:
        lines.append("no problems found")
    lines.append(f"data set: {summary.dataset} ({summary.sha256[:12]})")
    for line in lines:
        console.print(Text(line))  # Text: a name with [brackets] is no markup


def _split_table(summary: Summary) -> Table:
    table = Table(title=f"Data set ({summary.language})", title_justify="left")
    columns = "pictures", "captions", "per\npicture", "words per caption\nmin/mean/median/max"
    for name in ("split", *columns, "words\nknown", "captions\nall known"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in summary.splits.items():
        table.add_row(
            name,
            f"{split.pictures:,}",
            f"{split.captions:,}",
            _show_range(split.captions_per_picture),
            _show_spread(split.words_per_caption),
            f"{split.known_words:.1%}",
            f"{split.known_captions:.1%}",
        )
    return table


def _show_range(spread: Spread) -> str:
    return str(spread.min) if spread.min == spread.max else f"{spread.min} to {spread.max}"


def _show_spread(spread: Spread) -> str:
    return f"{spread.min} / {spread.mean:.1f} / {spread.median:g} / {spread.max}"


def _problem_table(summary: Summary) -> Table:
    table = Table(title="Problems", title_justify="left", show_lines=True)
    table.add_column("what")
    table.add_column("how many", justify="right")
    table.add_column("then")
    table.add_column("names", overflow="fold")
    for kind, names in summary.problems.items():
        what, then = PROBLEMS[kind]
        table.add_row(what, f"{len(names):,}", then, Text(_first(names, "\n")))
    return table
