"""Where the bars of the answer stand."""

import pytest

from pictell.report.intervals import interval_chart

METRICS = ("BLEU-4", "CIDEr-D", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3")


def chart_of(score=0.5, **entries):
    entry = {"difference": 0.0, "low": -0.01, "high": 0.01}
    difference = {
        "first": 0,
        "second": 1,
        "beams": {"5": {name: {**entry, **entries.get(name[:4], {})} for name in METRICS}},
    }
    models = [{"beams": {"5": {"scores": {name: {"score": score} for name in METRICS}}}}]
    return interval_chart(difference, models, "5")


def test_bars_are_relative_and_on_one_axis():
    chart = chart_of(CIDE={"difference": 0.05, "low": 0.025, "high": 0.1})
    bar = next(bar for bar in chart.bars if bar.name == "CIDEr-D")
    assert (bar.difference, bar.low, bar.high) == pytest.approx((10, 5, 20))
    assert bar.winner == 1
    ticks = {label: at for at, label in chart.ticks}
    assert ticks["0 %"] == chart.zero
    low, high = ticks["+10 %"], ticks["+20 %"]
    assert bar.at == pytest.approx(low)
    assert bar.start == pytest.approx((low + chart.zero) / 2)
    assert bar.start + bar.width == pytest.approx(high)


def test_winner_by_the_interval():
    chart = chart_of(ROUG={"difference": -0.05, "low": -0.1, "high": -0.01})
    winners = {bar.name: bar.winner for bar in chart.bars}
    assert winners["ROUGE-L"] == 0
    assert winners["BLEU-4"] is None


@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.3, 40.0])
def test_everything_lies_on_the_axis(scale):
    chart = chart_of(BLEU={"difference": 0.1 * scale, "low": -scale, "high": 2 * scale})
    assert 3 <= len(chart.ticks) <= 9
    assert chart.ticks[0][0] == 0 and chart.ticks[-1][0] == 100
    for bar in chart.bars:
        assert 0 <= bar.start <= bar.at <= bar.start + bar.width <= 100


def test_identical_models_have_an_axis_too():
    flat = {"difference": 0.0, "low": 0.0, "high": 0.0}
    chart = chart_of(BLEU=flat, CIDE=flat, ROUG=flat)
    assert all(bar.at == chart.zero == 50 for bar in chart.bars)


def test_no_chart_of_nothing():
    assert chart_of(score=0.0) is None
