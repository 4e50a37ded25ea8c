"""Products of training by oneDNN, where that is the faster library, against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pictell.decoders import products
from pictell.decoders.laid_out import OneDNNProduct
from pictell.decoders.products import Linear, linear, way_back


@pytest.fixture
def by_onednn(monkeypatch):
    """As on a processor where oneDNN is the faster."""
    if not OneDNNProduct.available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)


def tensors(*shape: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """x (*shape, 20), weight (48, 20), bias (48,)."""
    torch.manual_seed(0)
    given = [torch.randn(*shape, 20), torch.randn(48, 20), torch.randn(48)]
    return [tensor.to(dtype).requires_grad_() for tensor in given]


def gradients(product, given, d_y):
    y = product(*given)
    return [y, *torch.autograd.grad(y, given, d_y)]


@pytest.mark.parametrize("shape", [(2,), (33,), (4, 5), (3, 4, 2)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_same_product_and_gradients(by_onednn, shape, with_bias):
    given = tensors(*shape)[: 2 + with_bias]
    d_y = torch.randn(*shape, 48)
    assert "OneDNN" in str(linear(*given).grad_fn.next_functions)  # behind the view
    for ours, theirs in zip(
        gradients(linear, given, d_y), gradients(functional.linear, given, d_y), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_parts_of_wider_rows(by_onednn):
    wide, weight, bias = torch.randn(8, 50), *tensors(8)[1:]
    part = wide[:, 10:30]
    torch.testing.assert_close(linear(part, weight, bias), functional.linear(part, weight, bias))
    d_y = torch.randn(8, 100)[:, 30:78]
    torch.testing.assert_close(way_back(d_y, weight.detach()), d_y @ weight.detach())


@pytest.mark.parametrize("rows", [1, 2, 32])
def test_the_way_back(by_onednn, rows):
    weight, d_y = tensors(rows)[1].detach(), torch.randn(rows, 48)
    torch.testing.assert_close(way_back(d_y, weight), d_y @ weight)


def test_gradients_that_nobody_asks_for_are_left_out(by_onednn):
    x, weight, bias = tensors(5)
    linear(x.detach(), weight, bias.detach()).sum().backward()
    assert x.grad is None and bias.grad is None and weight.grad is not None


def test_all_else_is_torchs_own(by_onednn, monkeypatch):
    def refuse(*_):
        raise AssertionError("by oneDNN")

    monkeypatch.setattr(products, "_by_onednn", refuse)
    x, weight, bias = tensors(8)
    double = tensors(8, dtype=torch.float64)
    linear(*double).sum().backward()
    assert torch.equal(linear(*double), functional.linear(*double))
    assert torch.equal(
        way_back(double[0] @ double[1].t(), double[1]).detach(),
        (double[0] @ double[1].t() @ double[1]).detach(),
    )
    with torch.no_grad():
        linear(x, weight, bias)
    linear(x, weight.detach(), bias)
    linear(x[:1], weight, bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    monkeypatch.setattr(products, "prefers_onednn", lambda: False)
    linear(x, weight, bias)


def test_a_layer_keeps_torchs_names_and_first_weights():
    torch.manual_seed(0)
    ours = Linear(20, 48)
    torch.manual_seed(0)
    theirs = nn.Linear(20, 48)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 20)
    assert torch.equal(ours.weight, theirs.weight)
    torch.testing.assert_close(ours(x), theirs(x))
