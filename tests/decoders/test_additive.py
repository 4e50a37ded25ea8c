"""Scores of additive attention, block by block and compiled, against the formula in one line."""

import pytest
import torch

from pictell.decoders import additive
from pictell.decoders.additive import AdditiveScoring, scores_over_words

FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh}
BOTH = pytest.mark.parametrize("activation", ["relu", "tanh"])
COUNTS = [5, 5, 3, 1]  # pictures that have a first, second, third, fourth word


def tensors(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def random(*size):
        return torch.randn(size, dtype=dtype, generator=generator, requires_grad=True)

    keys, vector = random(5, 7, 6), random(6)
    queries = [random(n, 6) for n in COUNTS]
    d_scores = [random(n, 7).detach() for n in COUNTS]
    return keys, vector, queries, d_scores


@pytest.fixture(params=["all at once", "picture by picture"])
def blocks(request, monkeypatch):
    """Both ways through the pictures, whatever their size."""
    if request.param == "picture by picture":
        monkeypatch.setattr(additive, "_BLOCK_BYTES", 1)


def check(scoring, activation, dtype=torch.float64, **tolerance):
    keys, vector, queries, d_scores = tensors(dtype)
    f = FUNCTIONS[activation]
    expected = [f(keys[: len(q)] + q[:, None]) @ vector for q in queries]
    sum((e * d).sum() for e, d in zip(expected, d_scores, strict=True)).backward()
    with torch.no_grad():
        query_sums = []
        for query, d_score, score in zip(queries, d_scores, expected, strict=True):
            here = keys[: len(query)]
            ours = scoring.scores(here, query[:, None], vector)[:, 0]
            torch.testing.assert_close(ours, score, **tolerance)
            query_sums.append(scoring.query_sums(here, query, d_score))
            torch.testing.assert_close(query_sums[-1] * vector, query.grad, **tolerance)
        key_sums = scoring.key_sums(keys, queries, d_scores)
        torch.testing.assert_close(key_sums * vector, keys.grad, **tolerance)
        d_vector = scoring.vector_gradient(keys, queries, d_scores, query_sums, key_sums)
        torch.testing.assert_close(d_vector, vector.grad, **tolerance)


@BOTH
def test_scores_and_derivatives(activation, blocks):
    check(AdditiveScoring(activation), activation)


@BOTH
def test_several_queries_of_a_picture(activation, blocks):
    keys, vector, _, _ = tensors()
    queries = torch.randn(5, 3, 6, dtype=torch.float64)
    expected = FUNCTIONS[activation](keys[:, None] + queries[:, :, None]) @ vector
    with torch.no_grad():
        ours = AdditiveScoring(activation).scores(keys, queries, vector)
    torch.testing.assert_close(ours, expected)


@BOTH
def test_scores_can_be_differentiated(activation):
    keys, vector, queries, _ = tensors()
    scoring = AdditiveScoring(activation)
    arguments = (keys, queries[0][:, None], vector)
    assert torch.autograd.gradcheck(scoring.scores, arguments)


@BOTH
def test_scores_over_words_and_their_slopes(activation, blocks):
    keys, vector, queries, _ = tensors()
    scoring, together = AdditiveScoring(activation), torch.cat(queries).detach().requires_grad_()
    expected = [FUNCTIONS[activation](keys[: len(q)] + q[:, None]) @ vector for q in queries]
    ours = scores_over_words(keys, together, vector, COUNTS, scoring)
    torch.testing.assert_close(ours, torch.cat(expected))
    assert torch.autograd.gradcheck(
        lambda *given: scores_over_words(*given, COUNTS, scoring), (keys, together, vector)
    )


@pytest.mark.slow
@BOTH
def test_compiled(activation):
    scoring = AdditiveScoring(activation)
    if not scoring.compile():
        pytest.skip("there is no compiler here")
    check(scoring, activation, torch.float32, rtol=1e-5, atol=1e-5)
    check(scoring, activation)
    keys, vector, _, _ = tensors()
    for pictures, beams in ((5, 3), (1, 3), (5, 1), (4, 7)):
        queries = torch.randn(pictures, beams, 6, dtype=torch.float64)
        here = keys[:pictures].detach()
        ours = scoring.scores(here, queries, vector.detach())
        torch.testing.assert_close(ours, AdditiveScoring(activation).scores(here, queries, vector))


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch):
    def fail(activation):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(additive, "_compiled", fail)
    scoring = AdditiveScoring("relu")
    assert not scoring.compile()
    check(scoring, "relu")
