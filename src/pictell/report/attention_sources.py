"""Attention pictures of the pictures that a report shows, drawn when they are asked for.

    write_report(comparison, out, attention=attention_sources(comparison))

A caption in a report is the one that was scored; its attention is what the model looks at while it
is given just these words.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pictell.captioner import Captioner
from pictell.data.images import read_image
from pictell.data.records import read_dataset
from pictell.errors import InputError
from pictell.evaluate import evaluation_folder
from pictell.files import read_jsonl
from pictell.progress import console
from pictell.report.attention_picture import draw_attention
from pictell.training.checkpoint import RunFolder


class _Drawer:
    """Draws what one run attends to; the model is loaded with the first picture."""

    def __init__(self, run: str, paths: Mapping[str, Path], split: str, beam: int) -> None:
        self._run, self._paths = RunFolder(run), paths
        file = evaluation_folder(self._run, split, beam) / "predictions.jsonl"
        rows = read_jsonl(file, parse=lambda row: (row["image_id"], row["words"]))
        self._words: dict[str, list[str]] = dict(rows)
        self._captioner: Captioner | None = None

    def __call__(self, image_id: str) -> bytes | None:
        if self._captioner is None:
            self._captioner = Captioner.load(self._run)
        path = self._paths[image_id]
        try:
            caption = self._captioner.explain_words(path, self._words[image_id])
            image = read_image(path)
        except InputError as error:  # the report is worth having without this picture
            console.print(f"[yellow]warning:[/] no attention picture: {error}")
            return None
        assert caption.attention is not None
        drawn = draw_attention(image, caption.words, caption.attention, caption.seen_box)
        file = io.BytesIO()
        drawn.save(file, format="PNG")
        return file.getvalue()


def attention_sources(
    comparison: Mapping[str, Any],
) -> dict[str, Callable[[str], bytes | None]]:
    """For each model of a comparison that attends: a function from image id to PNG bytes."""
    dataset = Path(comparison["protocol"]["dataset"])
    try:
        paths = {example.image_id: example.path for example in read_dataset(dataset)}
    except InputError as error:
        console.print(f"[yellow]warning:[/] no attention pictures: {error}")
        return {}
    return {
        model["name"]: _Drawer(model["run"], paths, comparison["split"], comparison["beam"])
        for model in comparison["models"]
        if model["teacher_forced"]["regularisation"] > 0  # only what attends has this term
    }
