"""Learning curves as SVG text that takes its colours from the page.

    for figure in curve_figures(comparison["models"]):
        figure.title, figure.svg

Figures are drawn with placeholder colours, which are replaced by CSS variables: the same picture
then fits a light and a dark page. Text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pictell.errors import MissingExtraError
from pictell.translations import Language, say, translate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODEL_COLOURS = 10  # --m0 to --m9 in report.css; further models begin anew
# Placeholders that nothing else is drawn in.
_INK, _RULE = "#010203", "#040506"
_MODELS = [f"#0a0b{n:02x}" for n in range(0x10, 0x10 + MODEL_COLOURS)]
_REPLACED = {
    _INK: "currentColor",
    _RULE: "var(--rule)",
    **{colour: f"var(--m{n})" for n, colour in enumerate(_MODELS)},
}
_MARKERS = "osD^vPXhp*"


@dataclass(frozen=True)
class CurveFigure:
    """One small figure: a value over epochs, for all models."""

    title: str
    note: str
    svg: str


@dataclass(frozen=True)
class _Panel:
    title: str
    key: str
    note: str
    percent: bool = False


_PANELS = (
    _Panel("Cross-entropy", "cross_entropy", "nats per word; lower is better"),
    _Panel("Total loss", "loss", "with the attention term"),
    _Panel("Top-5 accuracy", "top5", "next word, teacher-forced", percent=True),
    _Panel("BLEU-4", "BLEU-4", "validation, greedy captions"),
    _Panel("CIDEr-D", "CIDEr-D", "validation, greedy captions"),
)


def curve_figures(
    models: Sequence[Mapping[str, Any]], language: Language = "en"
) -> list[CurveFigure]:
    """A figure for each quantity that the logs hold; none where no model has a log.

    The loss is left out when it is the cross-entropy, that is, when no model has an attention term.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if not any(model["curves"]["epoch"] for model in models):
        return []
    panels = [p for p in _PANELS if p.key != "loss" or _has_attention_term(models)]
    return [
        CurveFigure(
            translate(language, panel.title),
            translate(language, panel.note),
            _draw(panel, models, language),
        )
        for panel in panels
    ]


def _has_attention_term(models: Sequence[Mapping[str, Any]]) -> bool:
    values = (model["curves"]["val"] for model in models)
    return any(val["loss"] != val["cross_entropy"] for val in values)


def _draw(panel: _Panel, models: Sequence[Mapping[str, Any]], language: Language) -> str:
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "drawing learning curves") from None
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": panel.key, "font.size": 9.5}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for index, model in enumerate(models):
            _draw_model(axes, panel, model, index)
        _style(axes, panel)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    label = say(
        language,
        "{title} over epochs ({note})",
        title=translate(language, panel.title),
        note=translate(language, panel.note),
    )
    # Translated here: matplotlib's own font has no Chinese letters to measure.
    svg = file.getvalue().replace(">epoch<", f">{translate(language, 'epoch')}<")
    svg = svg.replace(" %<", say(language, "{value}<", value=" %"))
    return _for_page(svg, label, prefix=re.sub(r"\W", "", panel.key))


def _draw_model(axes: Axes, panel: _Panel, model: Mapping[str, Any], index: int) -> None:
    """Validation as a line with marks, training dashed; the epoch that was kept is ringed."""
    curves, colour = model["curves"], _MODELS[index % MODEL_COLOURS]
    marker, scale = _MARKERS[index % len(_MARKERS)], 100 if panel.percent else 1
    if panel.key in curves["train"]:
        values = [scale * value for value in curves["train"][panel.key]]
        axes.plot(curves["epoch"], values, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    values = [scale * value for value in curves["val"][panel.key]]
    axes.plot(curves["epoch"], values, color=colour, linewidth=2, marker=marker, markersize=4)
    best = model["training"]["best_epoch"]
    for epoch, value in zip(curves["epoch"], values, strict=True):
        if epoch == best:
            ring = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.2}
            axes.plot([epoch], [value], marker="o", color=colour, **ring)


def _style(axes: Axes, panel: _Panel) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_xlabel("epoch", color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    if panel.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.margins(x=0.06, y=0.12)
    axes.grid(axis="y", color=_RULE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_RULE)


def _for_page(svg: str, label: str, *, prefix: str) -> str:
    """The <svg> element alone, in the page's colours and font, with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    opening = re.search(r"<svg[^>]*>", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert opening and box
    svg = f'<svg {box[0]} role="img" aria-label="{label}">' + svg[opening.end() :]
    for colour, replacement in _REPLACED.items():
        svg = svg.replace(colour, replacement)
    # Sizes are kept, the family is the page's.
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    return re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', svg)
