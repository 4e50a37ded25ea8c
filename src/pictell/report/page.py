"""The report: one HTML file that shows a comparison, without network and without scripts.

    write_report(comparison, Path("comparison/report.html"))

Everything shown comes from comparison.json and from the picture files that it names; the attention
pictures are given by the caller, who has the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pictell.comparison import wording
from pictell.errors import MissingExtraError
from pictell.files import write_text
from pictell.progress import console
from pictell.report.curves import MODEL_COLOURS, curve_figures
from pictell.report.intervals import interval_chart
from pictell.report.thumbnails import panel_picture, thumbnail

TEMPLATES = Path(__file__).parent / "templates"
ATTENTION_BUDGET = 3_500_000  # bytes of attention pictures in a page, as base64
AttentionSource = Callable[[str], bytes | None] | Mapping[str, bytes]


def write_report(
    comparison: Mapping[str, Any],
    out: Path | str,
    *,
    attention: Mapping[str, AttentionSource] | None = None,
) -> Path:
    """Write the report, whole or not at all.

    Args:
        comparison: The contents of comparison.json (from `compare`, or read from the file).
        out: The HTML file to write.
        attention: For models with attention, by name: a function from image id to the bytes of a
            picture (`draw_attention`, saved as PNG), or a dictionary of them. Shown under the
            captions; None or a missing key shows nothing. When they get too many for a page of a
            few MB, the rest is left out and the page says so.

    Returns:
        The file written.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    out = Path(out)
    panels = AttentionPanels(comparison, attention or {})
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            **comparison,
            beam_key=str(comparison["beam"]),
            css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
            curves=curve_figures(comparison["models"]),
            charts=[
                interval_chart(difference, comparison["models"], str(comparison["beam"]))
                for difference in comparison["differences"]
            ],
            colours=MODEL_COLOURS,
            attention_of=panels.of,
            panels=panels,
        )
    )
    write_text(out, page)
    return out


class AttentionPanels:
    """Gives attention pictures to the template until the page is large enough.

    Attributes:
        shown: How many were given out.
        left_out: How many there was no room for.
    """

    def __init__(
        self, comparison: Mapping[str, Any], sources: Mapping[str, AttentionSource]
    ) -> None:
        self._names = [model["name"] for model in comparison["models"]]
        self._sources = sources
        self._room = ATTENTION_BUDGET
        self.shown = self.left_out = 0
        for name in sorted(set(sources) - set(self._names)):
            console.print(f"[yellow]warning:[/] attention pictures of {name}: no such model")

    def of(self, model: int, image_id: str) -> str | None:
        """The data URI of a model's attention picture of an image, or None."""
        source = self._sources.get(self._names[model])
        if source is None or self._room <= 0:
            self.left_out += source is not None
            return None
        picture = source.get(image_id) if isinstance(source, Mapping) else source(image_id)
        if picture is None:
            return None
        uri = panel_picture(picture)
        self._room -= len(uri)
        self.shown += 1
        return uri


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "report", "writing the report") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        number=wording.number,
        signed=wording.signed,
        percent=wording.percent,
        seconds=wording.seconds,
        listed=wording.listed,
        p_text=wording.p_text,
        breakable=_breakable,
    )
    environment.globals["thumbnail"] = thumbnail
    return environment


def _breakable(text: str) -> Any:
    """A text that may break after _ and / where the line is full, and not before %."""
    from markupsafe import Markup, escape

    broken = str(escape(text))
    for mark in "_/":
        broken = broken.replace(mark, mark + "<wbr>")
    return Markup(broken.replace(" %", "\N{NO-BREAK SPACE}%"))
