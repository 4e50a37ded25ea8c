"""The attention decoder against a literal textbook: 196 pooled regions, all of it in the loop."""

import pytest
import torch
from tiny_decoders import FEATURES, LENGTHS, VOCABULARY, tiny_batch, tiny_decoder
from torch.nn.functional import adaptive_avg_pool2d

from pictell.config import DecoderConfig
from pictell.decoders.attention import AttentionDecoder
from pictell.decoders.base import build_decoder, pack


def attention(cells=(8, 8), pooled_grid=14, **options) -> AttentionDecoder:
    decoder = tiny_decoder("attention", cells, pooled_grid, **options)
    assert isinstance(decoder, AttentionDecoder)
    return decoder


def textbook(decoder, features, words, lengths, cells):
    """Show, Attend and Tell, word by word and caption by caption, as one would write it first.

    Returns logits (N, V) time by time with long captions first, and attention sums (B, L).
    """
    hidden_size = decoder.config.hidden_size
    images = features.transpose(1, 2).reshape(len(features), FEATURES, *cells)
    regions = adaptive_avg_pool2d(images, decoder.grid).flatten(2).transpose(1, 2)  # (B, L, D)
    query_weight, gate_weight, hidden_weight = decoder.from_hidden.weight.split(decoder._widths)
    query_bias, gate_bias, hidden_bias = decoder.from_hidden.bias.split(decoder._widths)
    input_weight = torch.cat([decoder.from_word.weight, decoder.from_context.weight], dim=1)
    logits: dict[tuple[int, int], torch.Tensor] = {}
    all_sums = []
    for i in range(len(features)):
        mean = regions[i].mean(dim=0)
        h = decoder.initial_hidden.weight @ mean + decoder.initial_hidden.bias
        c = decoder.initial_cell.weight @ mean + decoder.initial_cell.bias
        sums = torch.zeros(len(regions[i]), dtype=torch.float64)
        for t in range(int(lengths[i])):
            keys = regions[i] @ decoder.key.weight.T + decoder.key.bias  # (L, A), at every step
            summed = keys + query_weight @ h + query_bias
            summed = summed.relu() if decoder.config.activation == "relu" else summed.tanh()
            alpha = torch.softmax(summed @ decoder.score.weight[0], dim=0)  # (L,)
            context = (alpha[:, None] * regions[i]).sum(dim=0)  # (D,)
            if decoder.config.gate:
                context = torch.sigmoid(gate_weight @ h + gate_bias) * context
            word = decoder.embedding.weight[words[i, t]]
            h, c = torch.lstm_cell(
                torch.cat([word, context])[None],
                (h[None], c[None]),
                input_weight,
                hidden_weight,
                decoder.from_word.bias,
                hidden_bias,
            )
            h, c = h[0], c[0]
            logits[t, i] = decoder.vocabulary.weight @ h + decoder.vocabulary.bias
            sums = sums + alpha
        all_sums.append(sums)
    assert hidden_weight.shape == (4 * hidden_size, hidden_size)
    return torch.stack([logits[key] for key in sorted(logits)]), torch.stack(all_sums)


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    ("cells", "pooled_grid"), [((8, 8), 14), ((7, 7), 14), ((8, 8), 0), ((3, 5), 4)]
)
def test_equals_the_textbook_in_values_and_gradients(cells, pooled_grid, activation, gate):
    decoder = attention(cells, pooled_grid, activation=activation, gate=gate)
    features, words = tiny_batch(cells[0] * cells[1])
    features.requires_grad_(True)
    generator = torch.Generator().manual_seed(2)

    results = []
    for forward in (
        lambda: decoder.teacher_forced(features, words, LENGTHS),
        lambda: textbook(decoder, features, words, LENGTHS, cells),
    ):
        decoder.zero_grad()
        features.grad = None
        output = forward()
        logits, sums = output if isinstance(output, tuple) else vars(output).values()
        generator.manual_seed(2)
        weigh = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in (logits, sums)]
        ((logits * weigh[0]).sum() + (sums * weigh[1]).sum()).backward()
        gradients = {name: p.grad.clone() for name, p in decoder.named_parameters()}
        results.append((logits.detach(), sums.detach(), gradients, features.grad.clone()))

    (logits, sums, gradients, picture), (logits_, sums_, gradients_, picture_) = results
    assert logits.shape == (int(LENGTHS.sum()), VOCABULARY)
    torch.testing.assert_close(logits, logits_, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(sums, sums_, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(picture, picture_, rtol=1e-9, atol=1e-11)
    assert gradients.keys() == gradients_.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, gradients_[name], rtol=1e-9, atol=1e-11, msg=name)
        assert gradient.abs().max() > 0, f"{name} is not used"


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_mixed_precision_has_the_same_gradients_but_for_its_rounding(activation, dtype, close):
    decoder = attention(activation=activation).float()
    features, words = tiny_batch(64)
    weights = torch.randn(
        int(LENGTHS.sum()), VOCABULARY, generator=torch.Generator().manual_seed(2)
    )
    results = []
    for mixed in (False, True):
        decoder.zero_grad()
        with torch.autocast("cpu", dtype, enabled=mixed):
            output = decoder.teacher_forced(features.float(), words, LENGTHS)
        (output.logits.float() * weights).sum().add(output.attention_sums.square().sum()).backward()
        gradients = torch.cat([p.grad.flatten() for p in decoder.parameters()])
        results.append((output.logits.float(), output.attention_sums, gradients))
    assert output.logits.dtype == dtype
    assert output.attention_sums.dtype == torch.float32
    for exact, rounded in zip(*results, strict=True):
        assert 0 < (rounded - exact).norm() < close * exact.norm()


@pytest.mark.parametrize("pooled_grid", [14, 0])
def test_attention_sums_to_one_at_every_real_word(pooled_grid):
    decoder = attention(pooled_grid=pooled_grid)
    features, words = tiny_batch(64)
    sums = decoder.teacher_forced(features, words, LENGTHS).attention_sums
    assert sums.shape == (4, 196 if pooled_grid else 64)
    torch.testing.assert_close(sums.sum(dim=1), LENGTHS.double())
    step = decoder.step(decoder.start(features), words[:, :1])
    torch.testing.assert_close(step.attention.sum(dim=-1), torch.ones(4, 1, dtype=torch.float64))


def test_seven_by_seven_cells_share_their_attention_among_four_regions():
    """Attention over 196 regions is attention over 49 cells."""
    pooled, native = attention((7, 7), 14), attention((7, 7), 0)
    native.load_state_dict(pooled.state_dict())
    features, words = tiny_batch(49)
    over_regions = pooled.teacher_forced(features, words, LENGTHS)
    over_cells = native.teacher_forced(features, words, LENGTHS)
    torch.testing.assert_close(over_regions.logits, over_cells.logits)
    regions = over_regions.attention_sums.view(4, 7, 2, 7, 2)
    torch.testing.assert_close(regions.sum(dim=(2, 4)).flatten(1), over_cells.attention_sums)


def test_the_pooling_is_no_part_of_the_weights():
    names = set(attention().state_dict())
    assert names == {name for name, _ in attention().named_parameters()}


@pytest.mark.parametrize("gate", [True, False])
def test_parameter_count(gate):
    d, h, a, e, v = 2048, 512, 512, 512, 9490
    with torch.device("meta"):
        decoder = build_decoder(
            DecoderConfig(gate=gate), vocab_size=v, feature_size=d, cells=(8, 8), pooled_grid=14
        )
    expected = {
        "embedding": v * e,
        "initial_hidden": d * h + h,
        "initial_cell": d * h + h,
        "key": d * a + a,
        "score": a,
        "from_hidden": (h + 1) * (a + d * gate + 4 * h),
        "from_word": (e + 1) * 4 * h,
        "from_context": d * 4 * h,
        "vocabulary": (h + 1) * v,
    }
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in decoder.named_children()}
    assert {name: count for name, count in counts.items() if count} == expected
    assert sum(counts.values()) == (20_483_858 if gate else 19_433_234)


def test_logits_come_in_the_order_of_packed_words():
    decoder = attention()
    features, words = tiny_batch(64)
    logits = decoder.teacher_forced(features, words, LENGTHS).logits
    full = decoder.teacher_forced(features, words, torch.tensor([5, 5, 5, 5])).logits
    by_caption = full.view(5, 4, VOCABULARY).transpose(0, 1)  # (B, T, V)
    torch.testing.assert_close(logits, pack(by_caption, LENGTHS))
