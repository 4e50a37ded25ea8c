"""The transformer decoder against torch's own decoder layers on pooled regions."""

import pytest
import torch
from tiny_decoders import LENGTHS, VOCABULARY, tiny_batch, tiny_decoder

from pictell.config import Config, DecoderConfig
from pictell.decoders.base import build_decoder, pack
from pictell.decoders.transformer import Layer, TransformerDecoder, positions
from pictell.errors import InputError

WIDTH, HEADS = 8, 2


def transformer(*args, **options) -> TransformerDecoder:
    sizes = {"embedding_size": WIDTH, "hidden_size": WIDTH, "heads": HEADS, "layers": 2}
    decoder = tiny_decoder("transformer", *args, **{**sizes, **options})
    assert isinstance(decoder, TransformerDecoder)
    return decoder


def attend(attention_weights, x, y, heads, mask=None):
    """torch's own multi-head attention with our weights: output and mean attention of the heads."""
    query, memory, out = attention_weights
    by_head = memory.weight.view(heads, 2, -1, memory.in_features)  # keys and values, head by head
    keys, values = by_head.transpose(0, 1).flatten(1, 2)
    key_bias, value_bias = memory.bias.view(heads, 2, -1).transpose(0, 1).flatten(1)
    return torch.nn.functional.multi_head_attention_forward(
        *(x.transpose(0, 1), y.transpose(0, 1), y.transpose(0, 1)),
        x.shape[-1],
        heads,
        None,
        torch.cat([query.bias, key_bias, value_bias]),
        *(None, None, False, 0.0),
        out.weight,
        out.bias,
        attn_mask=mask,
        use_separate_proj_weight=True,
        q_proj_weight=query.weight,
        k_proj_weight=keys,
        v_proj_weight=values,
    )


def textbook(decoder, features, words):
    """All of it on L regions, by torch's own attention: logits (B, T, V), attention (B, T, L)."""
    regions = decoder.pool @ decoder.cells(features)  # (B, L, W)
    length, width = words.shape[1], decoder.config.hidden_size
    place = torch.arange(length, dtype=torch.float64)[:, None]
    angle = place / 10_000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    codes = torch.zeros(length, width, dtype=torch.float64)
    codes[:, 0::2], codes[:, 1::2] = angle.sin(), angle.cos()
    size = decoder.config.embedding_size
    x = decoder.to_width(decoder.embedding.weight[words] * size**0.5) + codes
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    for layer in decoder.layers:
        normed = layer.word_norm(x)
        weights = layer.word_query, layer.word_memory, layer.word_out
        x = x + attend(weights, normed, normed, layer.heads, future)[0].transpose(0, 1)
        weights = layer.picture_query, layer.picture_memory, layer.picture_out
        read, attention = attend(weights, layer.picture_norm(x), regions, layer.heads)
        x = x + read.transpose(0, 1)
        x = x + layer.narrow(torch.nn.functional.gelu(layer.widen(layer.wide_norm(x))))
    return decoder.vocabulary(decoder.norm(x)), attention


@pytest.mark.parametrize("options", [{}, {"layers": 1, "heads": 4}, {"embedding_size": 6}])
@pytest.mark.parametrize(("cells", "pooled_grid"), [((3, 3), 5), ((3, 3), 0), ((2, 4), 3)])
def test_equals_torchs_attention_on_regions_in_values_and_gradients(cells, pooled_grid, options):
    decoder = transformer(cells, pooled_grid, **options)
    features, words = tiny_batch(cells[0] * cells[1])
    features.requires_grad_(True)
    results = []
    for literal in (False, True):
        decoder.zero_grad()
        features.grad = None
        if literal:
            all_logits, attention = textbook(decoder, features, words)
            real = torch.arange(5) < LENGTHS[:, None]
            logits = pack(all_logits, LENGTHS)
            sums = (attention * real[:, :, None]).sum(dim=1)
        else:
            logits, sums = vars(decoder.teacher_forced(features, words, LENGTHS)).values()
        generator = torch.Generator().manual_seed(2)
        weigh = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in (logits, sums)]
        ((logits * weigh[0]).sum() + (sums * weigh[1]).sum()).backward()
        gradients = {name: p.grad.clone() for name, p in decoder.named_parameters()}
        results.append((logits.detach(), sums.detach(), gradients, features.grad.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-10)
    for name, gradient in results[0][2].items():
        assert gradient.abs().max() > 1e-12, f"{name} is not used"


def test_words_know_nothing_of_what_follows():
    decoder = transformer()
    features, words = tiny_batch()
    full = torch.tensor([5, 5, 5, 5])
    before = decoder.teacher_forced(features, words, full).logits.view(5, 4, VOCABULARY)
    words[:, 3:] = 4 + (words[:, 3:] - 3) % 5  # others
    after = decoder.teacher_forced(features, words, full).logits.view(5, 4, VOCABULARY)
    torch.testing.assert_close(before[:3], after[:3])
    assert (before[3:] - after[3:]).abs().amax(dim=-1).min() > 1e-6


def test_places_of_a_later_word_are_those_of_training():
    like = torch.zeros((), dtype=torch.float64)
    together = positions(0, 40, 16, like)
    one_by_one = torch.cat([positions(t, 1, 16, like) for t in range(40)])
    assert torch.equal(together, one_by_one)
    assert together[0].tolist() == [0.0, 1.0] * 8
    assert torch.cdist(together, together).fill_diagonal_(9).min() > 0.1  # no two are alike


def test_dropout_of_the_layers_acts_in_training_only():
    decoder = transformer(layer_dropout=0.5, dropout=0.0)
    features, words = tiny_batch()

    def logits():
        return decoder.teacher_forced(features, words, LENGTHS).logits

    assert torch.equal(logits(), logits())
    decoder.train()
    assert not torch.equal(logits(), logits())


def test_mixed_precision_stays_near():
    decoder = transformer().float()
    features, words = tiny_batch()
    exact = decoder.teacher_forced(features.float(), words, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = decoder.teacher_forced(features.float(), words, LENGTHS)
    mixed.logits.sum().backward()
    torch.testing.assert_close(mixed.logits.float(), exact.logits, rtol=0.1, atol=0.3)
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


def test_parameter_count():
    d, w, v, layers = 2048, 512, 9490, 2
    with torch.device("meta"):
        decoder = build_decoder(
            DecoderConfig(name="transformer"),
            vocab_size=v,
            feature_size=d,
            cells=(8, 8),
            pooled_grid=14,
        )
    layer = 3 * 2 * w + 8 * (w + 1) * w + (w + 1) * 4 * w + (4 * w + 1) * w
    expected = v * w + (d + 1) * w + 2 * w + layers * layer + 2 * w + (w + 1) * v
    assert sum(p.numel() for p in decoder.parameters()) == expected
    assert sum(p.numel() for p in Layer(w, 8, 0.1).parameters()) == layer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 7}, r"decoder.heads is 7; it must be a divisor of decoder.hidden_size \(512\)"),
        ({"hidden_size": 7, "heads": 1}, "decoder.hidden_size is 7; it must be even"),
        ({"layers": 0}, "decoder.layers is 0"),
        ({"layer_dropout": 1.0}, "decoder.layer_dropout is 1.0"),
    ],
)
def test_options_that_do_not_fit_are_told(options, message):
    with pytest.raises(InputError, match=message):
        Config.from_dict({"decoder": {"name": "transformer", **options}})
