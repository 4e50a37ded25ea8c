"""The least time of an operation's products, each measured alone."""

import pytest
import torch

from pictell.bench import alone
from pictell.bench.alone import fastest_seconds, least_seconds
from pictell.bench.arithmetic import Shapes, attention_step, beam_search_terms, product, rnn_step
from pictell.bench.case import Product, Term


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(alone, "_LEAST_SECONDS", 0.0)


@pytest.mark.parametrize("form", ["forward", "back", "weight"])
def test_all_ways_give_the_same_product(form):
    torch.manual_seed(0)
    asked = Product(form, 6, 40, 24, times=3)
    with torch.inference_mode():
        ways = [(run(), extra) for run, extra in alone._ways(asked)]
    for result, extra in ways:
        assert extra >= 0
        assert result.shape == (6, 24)
        torch.testing.assert_close(result, ways[0][0], rtol=1e-5, atol=1e-5)


def test_laying_out_is_shared_by_the_uses(monkeypatch):
    monkeypatch.setattr(alone, "_ways", lambda _: iter([("plain", 0.0), ("laid out", 6.0)]))
    monkeypatch.setattr(alone, "_median", {"plain": 3.0, "laid out": 1.0}.__getitem__)
    assert fastest_seconds(Product("forward", 1, 1, 1, times=2)) == 3.0
    assert fastest_seconds(Product("forward", 1, 1, 1, times=4)) == 2.5


def test_parts_that_are_not_products_count_as_in_the_roofline(monkeypatch):
    monkeypatch.setattr(alone, "fastest_seconds", lambda product: 0.25)
    terms = [
        Term(name="a", shape="", gflop=1.0, products=(Product("forward", 2, 2, 2, times=3),)),
        Term(name="b", shape="", gflop=1.0, megabytes=4000.0),
    ]
    assert least_seconds(terms, pace=100.0, bandwidth=40.0) == pytest.approx(0.75 + 0.1)
    assert least_seconds(terms[1:], pace=100.0, bandwidth=40.0) is None


def test_a_product_takes_more_for_more():
    small, large = (fastest_seconds(Product("forward", 64, n, n)) for n in (64, 1024))
    assert 0 < small < large


@pytest.mark.parametrize("count", [rnn_step, attention_step])
def test_products_hold_the_arithmetic_of_their_part(count):
    terms = [*count(Shapes()), *beam_search_terms(Shapes(), [160, 160], beam=5, attention=True)]
    assert sum(bool(term.products) for term in terms) >= 7
    for term in terms:
        if term.products:
            held = sum(2e-9 * p.rows * p.inner * p.columns * p.times for p in term.products)
            assert held == pytest.approx(term.gflop)


def test_forms_of_a_training_step():
    forms = product("p", 12, 20, 30, passes=3, steps=4).products
    assert forms == (
        Product("forward", 3, 20, 30, 4),
        Product("back", 3, 30, 20, 4),
        Product("weight", 30, 12, 20),
    )
