"""What the viewers of a report show: for each picture every model's words, with maps.

    looks = looks_of(comparison, occlusion=12)
    write_report(comparison, out, looks=looks)

A caption in a report is the one that was scored; its attention is what the model looks at while it
is given just these words. A model without attention gets occlusion maps, which cost an encoder pass
for each patch, and so only on some of the pictures: the first of every group, then the second, and
so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pictell.captioner import Captioner
from pictell.errors import InputError
from pictell.progress import console, progress_bar
from pictell.report.viewer import viewer_entry
from pictell.training.checkpoint import RunFolder

Looks = dict[str, dict[int, dict[str, Any]]]  # by image id and model: entries of the viewer
OCCLUDED = 12


def galleries_of(comparison: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The groups of pictures that a report shows, in its order."""
    pairs = [
        difference[key]
        for difference in comparison["differences"]
        for key in ("second_better", "first_better")
    ]
    rest = [comparison[key] for key in ("most_different", "random_pictures", "best", "worst")]
    return [gallery for gallery in [*pairs, *rest] if gallery]


def looks_of(
    comparison: Mapping[str, Any], *, occlusion: int = OCCLUDED, weights: str = ""
) -> Looks:
    """Step every model through the captions that a report shows.

    Args:
        comparison: The contents of comparison.json.
        occlusion: On how many pictures a model without attention gets occlusion maps.
        weights: Where a frozen encoder's weights are, if not where the configs say.

    Returns:
        What could be had: of a model that does not load, or a picture that does not decode, a
        warning tells, and the report is worth having without it.
    """
    looks: Looks = {}
    for index, model in enumerate(comparison["models"]):
        try:
            captioner = Captioner.load(RunFolder.open(model["run"]), weights=weights)
        except InputError as error:
            console.print(f"[yellow]warning:[/] no viewer for {model['name']}: {error}")
            continue
        shown = list(_shown(comparison, index))
        with progress_bar() as bar:
            task = bar.add_task(f"looking, {model['name']}", total=len(shown), unit="", note="")
            for number, (image_id, path, words) in enumerate(shown):
                entry = _look(captioner, model["name"], path, words, number < occlusion)
                if entry is not None:
                    looks.setdefault(image_id, {})[index] = entry
                bar.advance(task)
    return looks


def _shown(comparison: Mapping[str, Any], model: int) -> Iterator[tuple[str, str, list[str]]]:
    """Pictures with a caption of a model, once each: id, path and words."""
    seen: set[str] = set()
    for row in zip_longest(*galleries_of(comparison)):  # the first of every group, ...
        for picture in filter(None, row):
            captions = [c for c in picture["captions"] if c["model"] == model]
            if captions and picture["image_id"] not in seen and captions[0]["words"]:
                seen.add(picture["image_id"])
                yield picture["image_id"], picture["path"], captions[0]["words"]


def _look(
    captioner: Captioner, name: str, path: str, words: Sequence[str], occlude: bool
) -> dict[str, Any] | None:
    if not Path(path).is_file():  # the report says so beside its caption
        return None
    try:
        caption = captioner.explain_words(path, words)
        if caption.attention is None and occlude:
            caption = captioner.occlude(path, [caption])[0]
    except InputError as error:
        console.print(f"[yellow]warning:[/] no viewer for a picture of {name}: {error}")
        return None
    return viewer_entry(caption, name=name)
