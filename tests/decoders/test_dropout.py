"""Dropout by uniform numbers against what dropout is, and against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pictell.decoders import dropout
from pictell.decoders.dropout import Dropout, dropped


@pytest.fixture(params=["AMD", "Intel"])
def maker(request, monkeypatch):
    monkeypatch.setattr(dropout, "processor_maker", lambda: request.param)
    return request.param


@pytest.mark.parametrize("share", [0.1, 0.4, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_share_is_zero_and_the_rest_is_scaled(maker, share, dtype):
    torch.manual_seed(0)
    values = torch.ones(400, 500, dtype=dtype, requires_grad=True)
    left = dropped(values, share, training=True)
    assert left.dtype == dtype
    kept = left != 0
    assert kept.double().mean() == pytest.approx(1 - share, abs=0.005)  # five standard errors
    assert kept.double().mean(dim=0).std() == pytest.approx(
        (share * (1 - share) / 400) ** 0.5, rel=0.2
    )  # no column is favoured
    torch.testing.assert_close(left[kept], torch.full_like(left[kept], 1 / (1 - share)))
    left.sum().backward()
    assert torch.equal(values.grad, left)


def test_the_seed_decides(maker):
    values = torch.ones(50, 60)

    def draw(seed):
        torch.manual_seed(seed)
        return dropped(values, 0.5, training=True)

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_nothing_is_drawn_where_nothing_is_dropped(maker):
    values, before = torch.ones(5, 6), torch.get_rng_state()
    assert dropped(values, 0.5, training=False) is values
    assert dropped(values, 0.0, training=True) is values
    assert Dropout(0.5).eval()(values) is values
    assert torch.equal(torch.get_rng_state(), before)


def test_all_of_it(maker):
    assert not dropped(torch.ones(5, 6), 1.0, training=True).any()


def test_an_intel_draws_as_torch_does(monkeypatch):
    monkeypatch.setattr(dropout, "processor_maker", lambda: "Intel")
    values = torch.randn(50, 60)
    torch.manual_seed(4)
    ours = Dropout(0.3)(values)
    torch.manual_seed(4)
    assert torch.equal(ours, functional.dropout(values, 0.3))
    assert isinstance(Dropout(0.3), nn.Dropout)
