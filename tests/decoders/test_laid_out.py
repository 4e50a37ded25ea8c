"""Products with weights that are laid out beforehand, by either library."""

import pytest
import torch
from torch.nn.functional import linear

from pictell.decoders import laid_out
from pictell.decoders.laid_out import MKLProduct, OneDNNProduct, lay_out

LIBRARIES = [MKLProduct, OneDNNProduct]


def tensors(rows: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(rows, 20), torch.randn(48, 20), torch.randn(48)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rows", [2, 7, 32])
@torch.no_grad()
def test_both_libraries_give_the_product(library, rows):
    if not library.available():
        pytest.skip("torch was built without it")
    x, weight, bias = tensors()
    product = library(weight, rows)
    assert product.takes(rows) and not product.takes(rows + 1)
    for fewer in range(1, rows + 1):
        if product.takes(fewer):
            part = x[:fewer]
            torch.testing.assert_close(product(part, bias), linear(part, weight, bias))
            torch.testing.assert_close(product(part, None), linear(part, weight))


@torch.no_grad()
def test_rows_may_be_part_of_wider_ones():
    _, weight, bias = tensors()
    product = lay_out(weight, 8)
    if product is None:
        pytest.skip("torch was built without MKL and oneDNN")
    wide = torch.randn(8, 50)[:, 10:30]
    torch.testing.assert_close(product(wide, bias), linear(wide, weight, bias))


@pytest.mark.parametrize(
    ("maker", "capability", "there", "chosen"),
    [
        ("Intel", "AVX512", LIBRARIES, MKLProduct),
        ("Intel", "AVX512", [OneDNNProduct], OneDNNProduct),
        ("AMD", "AVX512", LIBRARIES, OneDNNProduct),
        ("AMD", "AVX512", [MKLProduct], MKLProduct),
        ("unknown", "AVX512", LIBRARIES, MKLProduct),
        ("Intel", "AVX2", LIBRARIES, OneDNNProduct),
        ("AMD", "AVX2", LIBRARIES, OneDNNProduct),
        ("AMD", "AVX2", [MKLProduct], MKLProduct),
        ("AMD", "DEFAULT", LIBRARIES, MKLProduct),
        ("AMD", "DEFAULT", [OneDNNProduct], None),
        ("AMD", "AVX2", [], None),
    ],
)
def test_the_processor_decides_which_library(monkeypatch, maker, capability, there, chosen):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(laid_out, "processor_maker", lambda: maker)
    for library in LIBRARIES:
        monkeypatch.setattr(library, "available", staticmethod(lambda own=library: own in there))
    assert laid_out._library() is chosen


def test_what_cannot_be_laid_out():
    _, weight, _ = tensors()
    assert lay_out(weight, 1) is None
    assert lay_out(weight.double(), 8) is None
    assert lay_out(weight.to("meta"), 8) is None
