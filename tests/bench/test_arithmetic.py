"""Counts of operations against torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pictell.bench.arithmetic import Shapes, attention_step, beam_search_terms, product, rnn_step
from pictell.bench.training import TrainingStep

SHAPES = Shapes(captions=6, features=96, width=32, vocabulary=50)
NOT_PRODUCTS = ("scores", "norm and Adam")  # torch counts products alone


@pytest.mark.parametrize("name", ["rnn", "attention"])
def test_a_training_step_is_counted_as_torch_counts_it(name):
    case = TrainingStep(name, SHAPES)
    decoder = (
        case.build().double()
    )  # in double precision no product is MKL's own, which has no count
    features = case.features().double()
    with FlopCounterMode(display=False) as counter:
        case.loss(decoder, features).backward()
    counted = sum(term.gflop for term in case.arithmetic() if term.name not in NOT_PRODUCTS)
    # What torch counts besides: the mean region, and the gradients of the attention's way back.
    assert counted == pytest.approx(counter.get_total_flops() / 1e9, rel=0.06)


def test_a_product():
    term = product("p", 10, 20, 30, passes=3)
    assert term.gflop == pytest.approx(3 * 2 * 10 * 20 * 30 / 1e9)
    assert term.megabytes == pytest.approx(4 * (3 * 10 * (20 + 30) + 3 * 20 * 30) / 1e6)


def test_a_recurrence_reads_its_weights_at_each_word():
    once, stepwise = (product("p", 12, 20, 30, passes=3, steps=steps) for steps in (1, 4))
    assert once.gflop == stepwise.gflop
    assert stepwise.megabytes - once.megabytes == pytest.approx(4 * 2 * 3 * 20 * 30 / 1e6)


@pytest.mark.parametrize("count", [rnn_step, attention_step])
def test_all_parts_count_something(count):
    terms = count(Shapes())
    assert all(term.gflop > 0 and term.megabytes > 0 for term in terms)
    assert len({term.name for term in terms}) == len(terms)


def test_a_search_counts_the_rows_of_its_steps():
    few, many = (
        {t.name: t for t in beam_search_terms(Shapes(), rows, beam=5, attention=True)}
        for rows in ([32, 160], [32, 160, 160, 80])
    )
    for name in ("vocabulary", "context to gates", "scores"):
        assert many[name].gflop / few[name].gflop == pytest.approx(432 / 192)
    assert many["keys of the cells"].gflop == few["keys of the cells"].gflop
    plain = beam_search_terms(Shapes(), [32, 160], beam=5, attention=False)
    assert {t.name for t in plain} == {"first states", "vocabulary", "state to gates"}
    assert torch.tensor([t.gflop for t in plain]).sum() < few["keys of the cells"].gflop
