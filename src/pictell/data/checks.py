"""What can be wrong with a data set, found before a model is trained on it.

    facts = inspect_pictures([e.path for e in examples])
    examples, problems = drop_unusable(examples, facts)

A picture that does not decode, or whose pixels all have one colour, is left out: no model can learn
from it, and a set of black pictures trains without any error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from pictell.data.images import is_constant, read_image
from pictell.data.readers.pictures import Problems
from pictell.data.records import SPLITS, Example
from pictell.errors import InputError

_DRAFT_SIZE = 256  # large photographs are decoded no further than encoders look at them


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What the check of one picture found.

    Attributes:
        sha256: Hash of the file's bytes, in hexadecimal.
        content: Hash of the decoded pixels: the same for copies with other metadata.
        constant: Whether all pixels have one colour.
        error: Why the picture cannot be read; empty when it can.
    """

    sha256: str = ""
    content: str = ""
    constant: bool = False
    error: str = ""


def inspect_picture(path: Path) -> PictureFacts:
    """Read and decode one picture file; whatever is wrong with it is returned, not raised."""
    try:
        data = path.read_bytes()
        image = read_image(data, draft_size=_DRAFT_SIZE, name=path.name)
    except OSError as error:
        return PictureFacts(error=f"cannot be read ({error.strerror})")
    except InputError as error:
        return PictureFacts(error=str(error).removeprefix(f"{path.name}: "))
    content = hashlib.sha256(repr(image.size).encode() + image.tobytes())
    return PictureFacts(
        sha256=hashlib.sha256(data).hexdigest(),
        content=content.hexdigest(),
        constant=is_constant(image),
    )


def inspect_pictures(
    paths: Sequence[Path], *, workers: int = 2, progress: bool = True
) -> list[PictureFacts]:
    """Check pictures in threads (decoding and hashing run outside Python's lock).

    Args:
        paths: The picture files.
        workers: How many threads.
        progress: Show a bar on stderr.

    Returns:
        The facts, in the order of the paths.
    """
    with progress_bar(show=progress) as bar, ThreadPoolExecutor(max_workers=workers) as pool:
        found = pool.map(inspect_picture, paths)
        return list(bar.track(found, total=len(paths), description="checking pictures"))


def progress_bar(*, show: bool) -> Progress:
    """A bar on stderr that is gone when it is done; none where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    return Progress(
        *columns, console=console, transient=True, disable=not (show and console.is_terminal)
    )


def drop_unsplit(examples: Sequence[Example]) -> tuple[list[Example], Problems]:
    """Leave out pictures without a split where the source has splits for others."""
    if not any(example.split for example in examples):
        return list(examples), {}
    left_out = [e.image_id for e in examples if not e.split]
    return [e for e in examples if e.split], _only_found(pictures_in_no_split=left_out)


Captions = dict[str, list[list[str]]]  # image_id -> words of each of its captions


def drop_empty_captions(
    examples: Sequence[Example], tokenize: Callable[[str], list[str]], *, progress: bool = False
) -> tuple[list[Example], Captions, Problems]:
    """Leave out captions without a word, and pictures that are left without a caption.

    Returns:
        The other examples, the words of their captions, and what was left out.
    """
    kept, words, empty, bare = [], {}, [], []
    with progress_bar(show=progress) as bar:
        cut = [
            (example, [(_one_line(text), tokenize(text)) for text in example.captions])
            for example in bar.track(examples, description="cutting captions into words")
        ]
    for example, pairs in cut:
        full = [pair for pair in pairs if pair[1]]
        empty += [
            f"{example.image_id}: caption {number} is {text!r}"
            for number, (text, tokens) in enumerate(pairs, start=1)
            if not tokens
        ]
        if full:
            kept.append(replace(example, captions=tuple(text for text, _ in full)))
            words[example.image_id] = [tokens for _, tokens in full]
        else:
            bare.append(example.image_id)
    return kept, words, _only_found(empty_captions=empty, pictures_without_caption=bare)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).strip()


def drop_unusable(
    examples: Sequence[Example], facts: Sequence[PictureFacts]
) -> tuple[list[Example], Problems]:
    """Leave out pictures that do not decode or have one colour; note the hash of the others."""
    pairs = list(zip(examples, facts, strict=True))
    kept = [
        replace(example, sha256=fact.sha256)
        for example, fact in pairs
        if not fact.error and not fact.constant
    ]
    return kept, _only_found(
        unreadable_pictures=[f"{e.image_id}: {fact.error}" for e, fact in pairs if fact.error],
        constant_pictures=[example.image_id for example, fact in pairs if fact.constant],
    )


def find_copies(examples: Sequence[Example], contents: Mapping[str, str]) -> Problems:
    """Name pictures that are in the set twice.

    Args:
        examples: With their final splits.
        contents: `image_id` -> hash of the picture.

    Returns:
        `leaks`: copies in different splits (a test picture that was trained on); `copies`: copies
        in one split.
    """
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(contents[example.image_id], []).append(example)
    repeated = [group for group in groups.values() if len(group) > 1]
    leaks = [_tell(group) for group in repeated if len({e.split for e in group}) > 1]
    copies = [_tell(group) for group in repeated if len({e.split for e in group}) == 1]
    return _only_found(leaks=leaks, copies=copies)


def _tell(group: Sequence[Example]) -> str:
    ordered = sorted(group, key=lambda e: ((*SPLITS, "").index(e.split), e.image_id))
    return " = ".join(f"{e.image_id} ({e.split})" for e in ordered)


def doubt_language(captions: Iterable[str], language: str) -> list[str]:
    """One line where the captions do not look like the language they are said to be in."""
    text = "".join(captions)
    share = len(re.findall(r"[\u3400-\u9fff]", text)) / max(1, len(text))
    if language == "en" and share > 0.5:
        return ["the captions look Chinese, and are cut as English: set language to zh"]
    if language.startswith("zh") and share < 0.1:
        return [f"the captions do not look Chinese, and are cut as {language}: set language to en"]
    return []


def merge_problems(*found: Problems) -> Problems:
    """All problems in one, each kind once."""
    merged: Problems = {}
    for problems in found:
        for kind, names in problems.items():
            merged.setdefault(kind, []).extend(names)
    return merged


def _only_found(**problems: list[str]) -> Problems:
    return {kind: names for kind, names in problems.items() if names}
