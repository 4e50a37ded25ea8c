"""What is prepared for many steps gives the same, and is forgotten when a weight changes."""

import copy

import pytest
import torch
from torch.nn.functional import embedding, linear

from pictell.decoders import laid_out
from pictell.decoders.repeated import RepeatedLinear, RepeatedProduct, WordGates

pytestmark = pytest.mark.skipif(laid_out._library() is None, reason="torch without MKL and oneDNN")


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.fixture
def layer() -> RepeatedLinear:
    torch.manual_seed(0)
    return RepeatedLinear(24, 40)


@torch.no_grad()
def test_a_laid_out_weight_gives_the_same_for_any_rows(layer):
    for _ in range(5):
        for shape in ((2, 5, 24), (10, 24), (3, 24), (1, 24), (7, 1, 24)):
            x = torch.randn(shape)
            close(layer(x), linear(x, layer.weight, layer.bias))
    assert set(layer._product._laid_out) == {10, 3}  # the two numbers of rows that came first


@torch.no_grad()
def test_a_number_of_rows_that_comes_more_often_takes_the_place(layer):
    for rows, times in ((10, 5), (3, 4), (8, 9)):
        for _ in range(times):
            layer(torch.randn(rows, 24))
    assert set(layer._product._laid_out) == {10, 8}


@torch.no_grad()
def test_a_changed_weight_is_laid_out_anew(layer):
    x = torch.randn(6, 24)
    for _ in range(4):
        layer(x)
    assert layer._product._laid_out
    layer.weight.mul_(2)
    for _ in range(4):
        close(layer(x), linear(x, layer.weight, layer.bias))


def test_a_step_of_the_optimiser_is_seen(layer):
    x, optimizer = torch.randn(6, 24), torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        with torch.no_grad():
            for _ in range(4):
                close(layer(x), linear(x, layer.weight, layer.bias))
        layer(x).square().sum().backward()
        optimizer.step()


def test_gradients_are_those_of_a_linear_layer():
    layer = RepeatedLinear(4, 3).double()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(4):
        assert torch.autograd.gradcheck(layer, (x,))
    assert not layer._product._laid_out


@torch.no_grad()
def test_without_a_bias():
    product, x, weight = RepeatedProduct(), torch.randn(5, 24), torch.randn(40, 24)
    for _ in range(4):
        close(product(x, weight, None), x @ weight.t())


@torch.no_grad()
def test_a_copy_has_weights_of_its_own(layer):
    x = torch.randn(6, 24)
    for _ in range(4):
        layer(x)
    twin = copy.deepcopy(layer)
    twin.weight.zero_()
    for _ in range(4):
        close(twin(x), twin.bias.expand(6, -1))
    close(layer(x), linear(x, layer.weight, layer.bias))


class TestWordGates:
    @torch.no_grad()
    def test_are_looked_up_once_as_many_words_were_read_as_there_are(self):
        words, gates = torch.randn(20, 8), WordGates()
        weight, bias = torch.randn(12, 8), torch.randn(12)
        for read in range(1, 6):
            numbers = torch.randint(20, (3, 2))
            close(
                gates(numbers, words, weight, bias), linear(embedding(numbers, words), weight, bias)
            )
            assert (gates._table is not None) == (6 * read >= 20)
            assert bool(gates._product._laid_out) == (read == 3)  # used often, not needed later

    @torch.no_grad()
    @pytest.mark.parametrize("changed", [0, 1, 2])
    def test_a_changed_weight_is_seen(self, changed):
        tensors, gates = [torch.randn(20, 8), torch.randn(12, 8), torch.randn(12)], WordGates()
        numbers = torch.arange(20)
        gates(numbers, *tensors)
        tensors[changed].add_(1)
        for _ in range(2):
            plain = linear(embedding(numbers, tensors[0]), *tensors[1:])
            close(gates(numbers, *tensors), plain)

    def test_gradients_reach_the_words(self):
        words = torch.randn(20, 8, requires_grad=True)
        gates = WordGates()
        for _ in range(3):
            gates(torch.arange(20), words, torch.ones(12, 8), None).sum().backward()
        assert words.grad is not None and bool((words.grad == 36).all())
