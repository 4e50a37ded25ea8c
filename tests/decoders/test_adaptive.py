"""The adaptive decoder against its equations, caption by caption and word by word."""

import pytest
import torch
from tiny_decoders import HIDDEN, LENGTHS, tiny_batch, tiny_decoder

from pictell.config import DecoderConfig
from pictell.decoders.adaptive import AdaptiveDecoder
from pictell.decoders.base import build_decoder


def adaptive(*args, **options) -> AdaptiveDecoder:
    decoder = tiny_decoder("adaptive", *args, **options)
    assert isinstance(decoder, AdaptiveDecoder)
    return decoder


def textbook(decoder, features, words, lengths):
    """Equations 1 and 6 to 13 of Lu et al. 2017, with the sentinel as one more region.

    Returns logits (N, V) time by time, attention sums (B, L), and each word's beta, in order.
    """
    f = torch.relu if decoder.config.activation == "relu" else torch.tanh
    logits, betas, all_sums = {}, {}, []
    for i in range(len(features)):
        values = decoder.pool @ torch.relu(decoder.cell_values(features[i]))  # (L, H)
        mean = (decoder.pool @ features[i]).mean(dim=0)
        picture = torch.relu(decoder.picture(mean))
        h = c = torch.zeros(HIDDEN, dtype=torch.float64)
        sums = torch.zeros(len(values), dtype=torch.float64)
        for t in range(int(lengths[i])):
            x = torch.cat([decoder.embedding.weight[words[i, t]], picture])
            from_x = torch.cat([decoder.from_word.weight, decoder.from_picture.weight], dim=1)
            gates = from_x @ x + decoder.from_word.bias + decoder.from_hidden.weight @ h
            take, forget, new, give, show = gates.view(5, HIDDEN)
            c = torch.sigmoid(forget) * c + torch.sigmoid(take) * torch.tanh(new)
            h = torch.sigmoid(give) * torch.tanh(c)
            sentinel = torch.sigmoid(show) * torch.tanh(c)
            asked = decoder.query.weight @ h
            keys = torch.cat([decoder.key(values), decoder.sentinel_key(sentinel)[None]])
            both = torch.softmax(f(keys + asked) @ decoder.score.weight[0], dim=0)  # (L + 1,)
            beta = both[-1]
            context = both[:-1] @ values + beta * sentinel
            logits[t, i] = decoder.vocabulary(context + h)
            betas[t, i] = beta
            sums = sums + both[:-1] / (1 - beta)
        all_sums.append(sums)
    order = sorted(logits)
    return (
        torch.stack([logits[key] for key in order]),
        torch.stack(all_sums),
        torch.stack([betas[key] for key in order]),
    )


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("cells", "pooled_grid"), [((3, 3), 5), ((3, 3), 0), ((2, 4), 3)])
def test_equals_the_textbook_in_values_and_gradients(cells, pooled_grid, activation):
    decoder = adaptive(cells, pooled_grid, activation=activation)
    features, words = tiny_batch(cells[0] * cells[1])
    features.requires_grad_(True)
    results = []
    for literal in (False, True):
        decoder.zero_grad()
        features.grad = None
        if literal:
            logits, sums, _ = textbook(decoder, features, words, LENGTHS)
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


def test_the_gate_of_a_step_is_what_the_sentinel_leaves():
    decoder = adaptive()
    features, words = tiny_batch()
    _, _, betas = textbook(decoder, features, words, torch.full((4,), 5))
    state, gates = decoder.start(features), []
    for t in range(5):
        step = decoder.step(state, words[:, t : t + 1])
        state = step.state
        assert step.gate.shape == (4, 1, 1)
        torch.testing.assert_close(step.attention.sum(dim=-1), torch.ones(4, 1).double())
        gates.append(step.gate[:, 0, 0])
    torch.testing.assert_close(torch.cat(gates), 1 - betas)


def test_a_sentinel_far_ahead_of_all_regions_is_all_that_is_read():
    """The two ends of the gate, where a softmax written out would lose its digits."""
    decoder = adaptive()
    features, words = tiny_batch()
    decoder.key.weight.data.zero_()
    decoder.query.weight.data.zero_()
    decoder.sentinel_key.weight.data.zero_()
    decoder.score.weight.data.fill_(1.0)
    for far, share in ((200.0, 0.0), (0.0, 1.0)):
        decoder.sentinel_key.bias.data.fill_(far)
        decoder.key.bias.data.fill_(200.0 - far)
        step = decoder.step(decoder.start(features), words[:, :1])
        torch.testing.assert_close(step.gate, torch.full((4, 1, 1), share).double())
        torch.testing.assert_close(step.attention, torch.full((4, 1, 25), 1 / 25).double())


def test_mixed_precision_stays_near():
    decoder = adaptive().float()
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
            DecoderConfig(name="adaptive"),
            vocab_size=v,
            feature_size=d,
            cells=(8, 8),
            pooled_grid=14,
        )
    expected = {
        "embedding": v * e,
        "cell_values": (d + 1) * h,
        "picture": (d + 1) * h,
        "from_word": (e + 1) * 5 * h,
        "from_picture": h * 5 * h,
        "from_hidden": h * 5 * h,
        "key": (h + 1) * a,
        "query": h * a,
        "sentinel_key": (h + 1) * a,
        "score": a,
        "vocabulary": (h + 1) * v,
    }
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in decoder.named_children()}
    assert {name: count for name, count in counts.items() if count} == expected
