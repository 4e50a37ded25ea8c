"""The differences of a study as a forest plot: a point and its interval for each variation.

draw_forest(record, Path("runs/study/screening/forest"))      # .svg and .png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pictell.ablate.results import SCORES
from pictell.errors import MissingExtraError
from pictell.files import replacing
from pictell.report.fonts import chinese_font_file, holds_chinese

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by colour (Okabe and Ito 2008, safe for colour-blind readers) and by mark.
_LOOKS = {
    "better": ("#0072b2", "o"),
    "worse": ("#d55e00", "s"),
    "unsure": ("#8c6d1f", "D"),
    "within noise": ("#8a8a8a", "o"),
}
_ROW_INCHES = 0.3


def check_matplotlib() -> None:
    """Raise `MissingExtraError` unless plots can be drawn: before hours of training, not after."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "report", "drawing the plot of a study")


def draw_forest(study: Mapping[str, Any], stem: Path) -> list[Path]:
    """Write STEM.svg and STEM.png; returns them, or nothing where there is no difference to draw.

    Args:
        study: The contents of study.json.
        stem: The files' path without suffix.
    """
    shown = [variation for variation in study["variations"] if variation["differences"]]
    if not shown:
        return []
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "forest", "font.size": 9.5}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9.5, 1.5 + _ROW_INCHES * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(SCORES), sharey=True)
        for axes, name in zip(panels, SCORES, strict=True):
            _panel(axes, shown, name)
        _names(panels[0], [variation["name"] for variation in shown])
        figure.suptitle(
            f"{study['size']}, {study['split']} split: difference to the base, 95 % interval",
            fontsize=10.5,
        )
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False)
        return [_saved(figure, stem, kind) for kind in ("svg", "png")]


def _panel(axes: Axes, shown: Sequence[Mapping[str, Any]], name: str) -> None:
    for row, variation in enumerate(shown):
        entry = variation["differences"][name]
        colour, mark = _LOOKS[entry["verdict"]]
        axes.plot([entry["low"], entry["high"]], [row, row], color=colour, linewidth=1.8)
        axes.plot([entry["difference"]], [row], marker=mark, color=colour, markersize=5.5)
    axes.axvline(0, color="#333333", linewidth=1)
    axes.set_title(name, fontsize=10)
    axes.set_ylim(len(shown) - 0.5, -0.5)  # the first one on top
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    file = chinese_font_file() if any(map(holds_chinese, names)) else None
    if file is not None:
        from matplotlib.font_manager import FontProperties

        for label in axes.get_yticklabels():
            label.set_fontproperties(FontProperties(fname=str(file), size=9.5))


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=colour, marker=mark, linewidth=1.8, markersize=5.5, label=verdict)
        for verdict, (colour, mark) in _LOOKS.items()
    ]


def _saved(figure: Any, stem: Path, kind: str) -> Path:
    file = stem.with_suffix(f".{kind}")
    metadata = {"Date": None} if kind == "svg" else {}
    with replacing(file) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, facecolor="white", metadata=metadata)
    return file
