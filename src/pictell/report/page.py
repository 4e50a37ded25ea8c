"""The report: one HTML file that shows one run, or several side by side, without network.

    write_report(comparison, Path("comparison/report.html"), looks=looks_of(comparison))

Everything shown comes from comparison.json and from the picture files that it names; what the
viewers show is given by the caller, who has the models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pictell.attention.maps import map_warnings
from pictell.comparison import wording
from pictell.comparison.claims import claims_of, headline_of, lede_of
from pictell.comparison.pair import Pair
from pictell.comparison.ranking import ranking_headline
from pictell.comparison.repeats import with_repeat_sentences
from pictell.comparison.settings import warnings_of
from pictell.errors import InputError, MissingExtraError
from pictell.files import write_text
from pictell.report.curves import MODEL_COLOURS, curve_figures
from pictell.report.group_chart import group_charts
from pictell.report.intervals import interval_chart
from pictell.report.looks import Looks, galleries_of
from pictell.report.thumbnails import Thumbnails
from pictell.report.viewer import viewer_script, viewer_style
from pictell.translations import Language, check_language, say

TEMPLATES = Path(__file__).parent / "templates"
MOST_BYTES = 15_000_000


def write_report(
    comparison: Mapping[str, Any],
    out: Path | str,
    *,
    looks: Looks | None = None,
    language: Language = "en",
) -> Path:
    """Write the report, whole or not at all.

    Args:
        comparison: The contents of comparison.json (from `compare` or `describe_runs`, or read
            from the file).
        out: The HTML file to write.
        looks: What the viewers show (`looks_of`); without it pictures have captions only.
        language: Of the page; captions stay as they are.

    Returns:
        The file written.

    Raises:
        InputError: The language is not known, or the page would be larger than 15 MB.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    out = Path(out)
    check_language(language)
    spoken = {**comparison, **_sentences(comparison, language)}
    beam = str(comparison["beam"])
    page = (
        _environment(language)
        .get_template("report.html.j2")
        .render(
            **spoken,
            lang=language,
            beam_key=beam,
            css=_read("report.css") + viewer_style(),
            viewer_script=viewer_script(),
            page_script=_read("report.js"),
            looks_json=_looks_json(looks or {}, language, comparison),
            looks=looks or {},
            curves=curve_figures(comparison["models"], language),
            charts=[
                interval_chart(difference, comparison["models"], beam)
                for difference in comparison["differences"]
            ],
            group_charts=group_charts(comparison),
            colours=MODEL_COLOURS,
            thumbnail=Thumbnails(
                [picture["path"] for gallery in galleries_of(comparison) for picture in gallery]
            ).of,
        )
    )
    size = len(page.encode("utf-8"))
    if size > MOST_BYTES:
        raise InputError(
            f"{out}: the report would be {size / 1e6:.1f} MB, and {MOST_BYTES / 1e6:.0f} MB are "
            "the most; show fewer pictures (--pictures)"
        )
    write_text(out, page)
    return out


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _sentences(comparison: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """What comparison.json says in English, in the page's language, and what only a page says."""
    models, beam = comparison["models"], str(comparison["beam"])
    differences = [
        {**difference, **_pair_sentences(models, difference, beam, language)}
        if language != "en"
        else difference
        for difference in comparison["differences"]
    ]
    warnings = comparison["warnings"]
    if language != "en":
        warnings = warnings_of(
            models,
            comparison["config_differences"],
            pictures=comparison["protocol"]["pictures"],
            language=language,
        )
    return {
        "differences": differences,
        "warnings": warnings + _attention_warnings(comparison, language),
        "answer": _answer(comparison, language),
        "repeats": comparison["repeats"]
        and with_repeat_sentences(comparison["repeats"], beam, language),
    }


def _pair_sentences(
    models: Any, difference: Mapping[str, Any], beam: str, language: Language
) -> dict[str, Any]:
    first, second = models[difference["first"]], models[difference["second"]]
    claims = claims_of(first, second, difference, beam=beam, language=language)
    pair = Pair(first, second, difference["first"], difference["second"], language)
    return {
        "claims": claims,
        "headline": headline_of(models, claims, pair),
        "lede": lede_of(claims),
    }


def _attention_warnings(comparison: Mapping[str, Any], language: Language) -> list[str]:
    return [
        say(language, "{name}: {warning}", name=model["name"], warning=warning)
        for model in comparison["models"]
        if model.get("attention")
        for warning in map_warnings(model["attention"], language)
    ]


def _answer(comparison: Mapping[str, Any], language: Language) -> str | None:
    """The first sentence where no pair gives it: of a single run, and of many."""
    models, repeats = comparison["models"], comparison["repeats"]
    if repeats and len(repeats["differences"]) == 1:
        spoken = with_repeat_sentences(repeats, str(comparison["beam"]), language)
        return spoken["differences"][0]["headline"]
    if len(models) > 2:
        return ranking_headline(comparison["ranking"], models, language)
    if len(models) == 2:
        return None
    scores = models[0]["beams"][str(comparison["beam"])]["scores"]
    return say(
        language,
        "{name} writes captions with a BLEU-4 of {bleu} and a CIDEr-D of {cider}.",
        name=models[0]["name"],
        bleu=wording.number(scores["BLEU-4"]["score"], 3),
        cider=wording.number(scores["CIDEr-D"]["score"], 3),
    )


def _looks_json(looks: Looks, language: Language, comparison: Mapping[str, Any]) -> str:
    """What the page's script reads; nothing in it can end the element that holds it."""
    captions = comparison["protocol"]["language"]
    value = {
        "language": language,
        "captionLanguage": "zh" if captions.startswith("zh") else captions,
        "looks": looks,
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _environment(language: Language) -> Any:
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
        percent=partial(_percent, language),
        seconds=wording.seconds,
        listed=partial(wording.listed, language=language),
        p_text=wording.p_text,
        breakable=_breakable,
    )
    environment.globals["t"] = partial(say, language)
    return environment


def _percent(language: Language, value: float | None, digits: int = 1) -> str:
    return say(language, "{value}", value=wording.percent(value, digits))


def _breakable(text: str) -> Any:
    """A text that may break after _ and / where the line is full, and not before %."""
    from markupsafe import Markup, escape

    broken = str(escape(text))
    for mark in "_/":
        broken = broken.replace(mark, mark + "<wbr>")
    return Markup(broken.replace(" %", "\N{NO-BREAK SPACE}%"))
