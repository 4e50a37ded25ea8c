"""The top-down decoder against its equations, caption by caption and word by word."""

import gc
import weakref

import pytest
import torch
from tiny_decoders import HIDDEN, LENGTHS, tiny_batch, tiny_decoder

from pictell.config import DecoderConfig
from pictell.decoders.additive import AdditiveScoring
from pictell.decoders.base import build_decoder
from pictell.decoders.topdown import TopDownDecoder
from pictell.decoders.topdown_lstm import Weights, topdown_lstm
from pictell.encoders.grid import pooling_matrix


def topdown(*args, **options) -> TopDownDecoder:
    decoder = tiny_decoder("topdown", *args, **options)
    assert isinstance(decoder, TopDownDecoder)
    return decoder


def textbook(decoder, features, words, lengths):
    """Equations 1 to 7 of Anderson et al. 2018, with torch's own LSTM cell, on pooled regions.

    Returns logits (N, V) time by time, and attention sums (B, L).
    """
    f = torch.relu if decoder.config.activation == "relu" else torch.tanh
    query_weight, to_language, recurrent = decoder.from_attention.weight.split(decoder._widths)
    feedback, language_recurrent = decoder.from_language.weight.chunk(2)
    first_input = torch.cat([feedback, decoder.from_picture.weight, decoder.from_word.weight], 1)
    second_input = torch.cat([decoder.from_context.weight, to_language], dim=1)
    logits, all_sums = {}, []
    for i in range(len(features)):
        regions = decoder.pool @ features[i]  # (L, D)
        mean = regions.mean(dim=0)
        first = second = (torch.zeros(1, HIDDEN).double(), torch.zeros(1, HIDDEN).double())
        sums = torch.zeros(len(regions), dtype=torch.float64)
        for t in range(int(lengths[i])):
            word = decoder.embedding.weight[words[i, t]]
            given = torch.cat([second[0][0], mean, word])[None]
            first = torch.lstm_cell(
                given, first, first_input, recurrent, decoder.from_word.bias, None
            )
            keys = regions @ decoder.key.weight.T + decoder.key.bias
            scores = f(keys + query_weight @ first[0][0]) @ decoder.score.weight[0]
            alpha = torch.softmax(scores, dim=0)
            given = torch.cat([alpha @ regions, first[0][0]])[None]
            second = torch.lstm_cell(
                given, second, second_input, language_recurrent, decoder.from_context.bias, None
            )
            logits[t, i] = decoder.vocabulary(second[0][0])
            sums = sums + alpha
        all_sums.append(sums)
    return torch.stack([logits[key] for key in sorted(logits)]), torch.stack(all_sums)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("cells", "pooled_grid"), [((3, 3), 5), ((3, 3), 0), ((2, 4), 3)])
def test_equals_the_textbook_in_values_and_gradients(cells, pooled_grid, activation):
    decoder = topdown(cells, pooled_grid, activation=activation)
    features, words = tiny_batch(cells[0] * cells[1])
    features.requires_grad_(True)
    results = []
    for literal in (False, True):
        decoder.zero_grad()
        features.grad = None
        if literal:
            logits, sums = textbook(decoder, features, words, LENGTHS)
        else:
            logits, sums = vars(decoder.teacher_forced(features, words, LENGTHS)).values()
        generator = torch.Generator().manual_seed(2)
        weigh = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in (logits, sums)]
        ((logits * weigh[0]).sum() + (sums * weigh[1]).sum()).backward()
        gradients = {name: p.grad.clone() for name, p in decoder.named_parameters()}
        results.append((logits.detach(), sums.detach(), gradients, features.grad.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)
    for name, gradient in results[0][2].items():
        assert gradient.abs().max() > 0, f"{name} is not used"


def loop_inputs(dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden, attention, width, captions, words = 2, 3, 4, 3, 9
    sizes = [
        *((captions, 9, attention), (captions, 4, width), (words, 4 * hidden)),
        *((attention + 8 * hidden, hidden), (8 * hidden, hidden), (4 * hidden, width)),
        *((4 * hidden,), (attention,)),
    ]
    return [
        torch.randn(size, dtype=dtype, generator=generator, requires_grad=True) for size in sizes
    ]


def run_loop(keys, features, gates, *weights, activation="relu"):
    pool = pooling_matrix((2, 2), (3, 3)).to(keys)
    scoring = AdditiveScoring(activation)
    counts = [3, 3, 2, 1]
    return topdown_lstm(keys, features, pool, gates, Weights(*weights), counts, scoring)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_of_the_loop_are_the_slopes(activation):
    assert torch.autograd.gradcheck(
        lambda *given: run_loop(*given, activation=activation), loop_inputs()
    )


def test_nothing_is_kept_after_its_graph_is_gone():
    freed = []
    outputs = run_loop(*loop_inputs())
    weakref.finalize(outputs[0].grad_fn, freed.append, None)
    gc.disable()
    try:
        del outputs
        assert freed
    finally:
        gc.enable()


def test_mixed_precision_stays_near():
    decoder = topdown().float()
    features, words = tiny_batch()
    exact = decoder.teacher_forced(features.float(), words, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = decoder.teacher_forced(features.float(), words, LENGTHS)
    mixed.logits.sum().backward()
    torch.testing.assert_close(mixed.logits.float(), exact.logits, rtol=0.1, atol=0.1)
    torch.testing.assert_close(mixed.attention_sums.float(), exact.attention_sums, rtol=0, atol=0.1)
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


def test_parameter_count():
    d, h, a, e, v = 2048, 512, 512, 512, 9490
    with torch.device("meta"):
        decoder = build_decoder(
            DecoderConfig(name="topdown"),
            vocab_size=v,
            feature_size=d,
            cells=(8, 8),
            pooled_grid=14,
        )
    attention_lstm = 4 * h * (h + d + e + h + 1)
    language_lstm = 4 * h * (d + h + h + 1)
    rest = v * e + (d + 1) * a + h * a + a + (h + 1) * v
    assert sum(p.numel() for p in decoder.parameters()) == attention_lstm + language_lstm + rest
