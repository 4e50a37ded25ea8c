"""What an operation's products take when each runs alone, by the fastest way that torch has.

    fastest_seconds(Product("forward", 32, 512, 2048, times=11))      # of one of the eleven

The roofline holds every part against one large square product of torch's. A thin product, or one of
another library, has a pace of its own: here each is measured as it stands in the operation, with
nothing before it, nothing after it, and its factors in the cache if they fit. Their sum is what an
operation made of the same products could reach with these libraries, used in these ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from pictell.bench.case import Product, Term
from pictell.decoders.laid_out import MKLProduct, OneDNNProduct

_LEAST_SECONDS = 0.1  # that each way of a product is run


def least_seconds(terms: Sequence[Term], pace: float, bandwidth: float) -> float | None:
    """The sum over an operation's parts; None where no part is products alone.

    Args:
        terms: The parts. One that is not products counts as in the roofline.
        pace: GFLOP/s of the square product.
        bandwidth: GB/s of reading.
    """
    if not any(term.products for term in terms):
        return None
    return sum(
        sum(product.times * fastest_seconds(product) for product in term.products)
        if term.products
        else roofline_seconds(term, pace, bandwidth)
        for term in terms
    )


def roofline_seconds(term: Term, pace: float, bandwidth: float) -> float:
    """What a part's arithmetic takes at the pace, or its bytes at the bandwidth, if that is more.

    Williams, Waterman and Patterson 2009.
    """
    return max(term.gflop / pace, term.megabytes / 1e3 / bandwidth)


@torch.inference_mode()
def fastest_seconds(product: Product) -> float:
    """One product, by the fastest of the ways; laying a weight out is shared by its `times`."""
    return min(_median(run) + extra / product.times for run, extra in _ways(product))


def _ways(product: Product) -> Iterator[tuple[Callable[[], Tensor], float]]:
    """Ways of a product, and the seconds of what each has to do once beforehand."""
    rows, inner, columns = product.rows, product.inner, product.columns
    if product.form == "weight":
        left, right = torch.randn(inner, rows).t(), torch.randn(inner, columns)
    else:
        left, right = torch.randn(rows, inner), torch.randn(inner, columns)
        if product.form == "forward":
            right = torch.randn(columns, inner).t()
    yield lambda: left @ right, 0.0
    weight = right.t()
    if OneDNNProduct.available():
        yield lambda: torch.ops.mkldnn._linear_pointwise(left, weight, None, "none", [], ""), 0.0
    if product.form == "weight":
        return  # both factors are new each time
    for library in (OneDNNProduct, MKLProduct):
        if library.available():
            laid_out = library(weight, rows)
            seconds = _median(lambda library=library: library(weight, rows))
            yield lambda laid_out=laid_out: laid_out(left, None), seconds


def _median(run: Callable[[], object]) -> float:
    """Seconds."""
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=_LEAST_SECONDS).median
