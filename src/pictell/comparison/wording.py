"""Numbers as a reader sees them in sentences and tables.

    signed(-0.0123)      # "−0.0123"
    p_text(0.002, 1000)  # "p ≤ 0.002"

What is not known (None) is a dash.
"""

from __future__ import annotations

from collections.abc import Sequence

from pictell.translations import Language

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` decimals, or with two significant ones if it would be shown as 0."""
    if value is None:
        return DASH
    text = f"{value:,.{digits}f}"
    if value != 0 and float(text.replace(",", "")) == 0:
        text = f"{value:.1e}"
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 4) -> str:
    """A number with its sign, also when it is positive."""
    return ("+" if value > 0 else "") + number(value, digits)


def percent(value: float | None, digits: int = 1) -> str:
    """A share of one as a percentage."""
    return DASH if value is None else f"{value * 100:.{digits}f} %".replace("-", MINUS)


def seconds(value: float | None) -> str:
    """A duration: 42 s, 12 min 30 s, 3 h 5 min."""
    if value is None:
        return DASH
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def p_text(p_value: float, resamples: int) -> str:
    """A p-value; the least that a number of resamples can give is shown as a bound."""
    least = 2 / (1 + resamples)
    sign = "≤" if p_value <= least * (1 + 1e-9) else "="
    return f"p {sign} {p_value:.3f}" if p_value >= 0.0005 else f"p {sign} {p_value:.1e}"


def listed(words: Sequence[str], language: Language = "en") -> str:
    """a, b and c."""
    if len(words) < 2:
        return "".join(words)
    if language == "zh":
        return "、".join(words[:-1]) + "和" + words[-1]
    return ", ".join(words[:-1]) + " and " + words[-1]
