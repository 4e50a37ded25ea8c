"""The RNN decoder against a loop over torch's LSTMCell with the batch norm written out."""

import pytest
import torch
from tiny_decoders import EMBEDDING, HIDDEN, LENGTHS, tiny_batch, tiny_decoder

from pictell.config import DecoderConfig
from pictell.decoders.base import build_decoder
from pictell.decoders.rnn import RNNDecoder
from pictell.encoders.grid import pooling_matrix


def rnn(cells=(8, 8), pooled_grid=14) -> RNNDecoder:
    decoder = tiny_decoder("rnn", cells, pooled_grid, dropout=0.0)
    assert isinstance(decoder, RNNDecoder)
    for norm in (decoder.initial_hidden[1], decoder.initial_cell[1]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return decoder.train()


def written_out_norm(norm: torch.nn.BatchNorm1d, x: torch.Tensor, training: bool) -> torch.Tensor:
    mean = x.mean(dim=0) if training else norm.running_mean
    variance = x.var(dim=0, unbiased=False) if training else norm.running_var
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def textbook(decoder, features, words, lengths, training):
    """Logits (N, V), time by time, long captions first."""
    pooled = pooling_matrix((8, 8), decoder.grid) @ features  # (B, L, D)
    mean = pooled.mean(dim=1)
    state = []
    for linear, norm in (decoder.initial_hidden, decoder.initial_cell):
        state.append(written_out_norm(norm, mean @ linear.weight.T + linear.bias, training))
    h, c = state
    cell = torch.nn.LSTMCell(EMBEDDING, HIDDEN, dtype=torch.float64)
    names = {name: f"{name}_l0" for name in dict(cell.named_parameters())}
    for name, theirs in names.items():  # the very tensors, so that gradients go there
        delattr(cell, name)
        setattr(cell, name, getattr(decoder.lstm, theirs))
    logits = []
    for t in range(int(lengths.max())):
        h, c = cell(decoder.embedding.weight[words[:, t]], (h, c))
        logits.append((h @ decoder.vocabulary.weight.T + decoder.vocabulary.bias)[lengths > t])
    return torch.cat(logits)


@pytest.mark.parametrize("pooled_grid", [14, 0])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_textbook_in_values_and_gradients(training, pooled_grid):
    decoder = rnn(pooled_grid=pooled_grid).train(training)
    features, words = tiny_batch(64)
    results = []
    for forward in (
        lambda: decoder.teacher_forced(features, words, LENGTHS).logits,
        lambda: textbook(decoder, features, words, LENGTHS, training),
    ):
        decoder.zero_grad()
        logits = forward()
        generator = torch.Generator().manual_seed(2)
        (
            logits * torch.randn(logits.shape, dtype=logits.dtype, generator=generator)
        ).sum().backward()
        results.append(
            (logits.detach(), {n: p.grad.clone() for n, p in decoder.named_parameters()})
        )
    (logits, gradients), (logits_, gradients_) = results
    torch.testing.assert_close(logits, logits_, rtol=1e-10, atol=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, gradients_[name], rtol=1e-8, atol=1e-11, msg=name)
        batch_norm_hides_it = training and name.endswith(".0.bias")  # the mean is taken off again
        assert gradient.abs().max() > 1e-9 or batch_norm_hides_it, f"{name} is not used"


def test_the_librarys_lstm_is_the_same():
    """The way of GPUs and of mixed precision."""
    decoder = rnn().eval()
    features, words = tiny_batch(64)
    library = decoder._library_lstm(*decoder._initial(features), words, LENGTHS)
    ours = decoder.teacher_forced(features, words, LENGTHS)
    torch.testing.assert_close(ours.logits, library.logits, rtol=1e-10, atol=1e-12)


def test_there_is_no_attention():
    decoder = rnn().eval()
    features, words = tiny_batch(64)
    assert decoder.teacher_forced(features, words, LENGTHS).attention_sums is None
    assert decoder.step(decoder.start(features), words[:, :1]).attention is None


def test_a_batch_of_one_caption_trains():
    """Captions rarely divide by the batch size; torch's batch norm refuses a batch of one."""
    decoder = rnn().train()
    features, words = tiny_batch(64)
    before = {name: tensor.clone() for name, tensor in decoder.named_buffers()}
    decoder.teacher_forced(features[:1], words[:1], LENGTHS[:1]).logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters() if p.grad is not None)
    assert decoder.initial_hidden[0].weight.grad.abs().max() > 0
    after = dict(decoder.named_buffers())
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_batch_norm_learns_its_statistics_in_training():
    decoder = rnn().train()
    features, words = tiny_batch(64)
    before = decoder.initial_hidden[1].running_mean.clone()
    decoder.teacher_forced(features, words, LENGTHS)
    assert not torch.equal(decoder.initial_hidden[1].running_mean, before)


def test_parameter_count():
    d, h, e, v = 2048, 512, 512, 9490
    with torch.device("meta"):
        decoder = build_decoder(
            DecoderConfig(name="rnn"), vocab_size=v, feature_size=d, cells=(8, 8), pooled_grid=14
        )
    initial = 2 * (d * h + h + 2 * h)  # two linear layers, two batch norms
    expected = v * e + initial + 4 * h * (e + h) + 2 * 4 * h + (h + 1) * v
    assert sum(p.numel() for p in decoder.parameters()) == expected == 13_928_722
