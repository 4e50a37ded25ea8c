"""What holds for every decoder: the step interface, its states, dropout, seeds."""

import itertools

import pytest
import torch

from pictell.config import DecoderConfig
from pictell.data.text import END, START
from pictell.decoders import base
from pictell.decoders.base import (
    DECODERS,
    Decoder,
    State,
    build_decoder,
    counts_of,
    decoder_class,
    pack,
    targets_of,
    unpack,
)
from pictell.decoders.search import beam_search
from pictell.errors import InputError

BOTH = pytest.mark.parametrize("name", sorted(DECODERS))
LENGTHS = torch.tensor([6, 4, 4, 1])


def tiny_decoder(name: str, *, seed: int = 0, **options) -> Decoder:
    torch.manual_seed(seed)
    widths = {"embedding_size": 4, "hidden_size": 6, "attention_size": 5, "heads": 2}
    config = DecoderConfig(name=name, **(widths | options))
    return build_decoder(config, vocab_size=11, feature_size=8, cells=(4, 4), pooled_grid=7)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(4, 16, 8, generator=generator)
    words = torch.randint(4, 11, (4, 6), generator=generator)
    words[:, 0] = START
    return features, words


OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"region_projection": 7, "region_dropout": 0.3, "embedding_dropout": 0.3},
        {"tied_embedding": True, "embedding_size": 6, "forget_bias": 1.0},
    ],
    ids=["plain", "projection", "tied"],
)


@BOTH
@OPTIONS
def test_a_chain_of_steps_equals_teacher_forcing(name, options):
    decoder = tiny_decoder(name, **options).double().eval()
    features, words = batch()
    features = features.double()
    expected = decoder.teacher_forced(features, words, LENGTHS)
    state, logits, sums = decoder.start(features), [], 0.0
    for t in range(words.shape[1]):
        step = decoder.step(state, words[:, t : t + 1])
        state = step.state
        logits.append(step.logits[:, 0])
        if step.attention is not None:
            sums = sums + step.attention[:, 0] * (t < LENGTHS[:, None])
    torch.testing.assert_close(pack(torch.stack(logits, dim=1), LENGTHS), expected.logits)
    if expected.attention_sums is not None:
        torch.testing.assert_close(sums, expected.attention_sums)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_word_that_is_read_twice_is_multiplied_once(monkeypatch, dropout):
    rows = []

    def counted(x, *layer):
        rows.append(len(x))
        return torch.nn.functional.linear(x, *layer)

    decoder = tiny_decoder("attention", embedding_dropout=dropout).double().train()
    words, layer = torch.tensor([7, 5, 7, 7, 9, 5]), decoder.from_word
    parameters = [decoder.embedding.weight, layer.weight, layer.bias]
    monkeypatch.setattr(base, "linear", counted)
    torch.manual_seed(3)
    ours = decoder.word_products(words, layer.weight, layer.bias)
    torch.manual_seed(3)
    theirs = layer(decoder.word_vectors(words))
    assert rows == [6 if dropout else 3]  # with dropout, no two are the same
    assert torch.equal(ours[0], ours[2]) is (dropout == 0)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    for mine, plain in zip(
        torch.autograd.grad(ours, parameters, weights),
        torch.autograd.grad(theirs, parameters, weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain)


@BOTH
def test_beams_are_stepped_as_if_each_were_alone(name):
    decoder = tiny_decoder(name).double().eval()
    features, words = batch()
    features = features.double()
    first = decoder.step(decoder.start(features), words[:, :1])
    assert first.logits.shape == (4, 1, 11)
    three = first.state.select_beams(torch.zeros(4, 3, dtype=torch.long))
    chosen = words[:, 1:4]
    step = decoder.step(three, chosen)
    assert step.logits.shape == (4, 3, 11)
    if step.attention is not None:
        assert step.attention.shape == (4, 3, 49)
    for beam in range(3):
        alone = decoder.step(first.state, chosen[:, beam : beam + 1])
        torch.testing.assert_close(step.logits[:, beam], alone.logits[:, 0])
    # ... and after the beams were reordered.
    order = torch.tensor([[2, 0, 0], [1, 1, 2], [0, 1, 2], [2, 1, 0]])
    reordered = decoder.step(step.state.select_beams(order), torch.full((4, 3), 5))
    straight = decoder.step(step.state, torch.full((4, 3), 5))
    rows = torch.arange(4)[:, None]
    torch.testing.assert_close(reordered.logits, straight.logits[rows, order])


@BOTH
def test_some_pictures_go_on_as_before_when_others_leave(name):
    decoder = tiny_decoder(name).double().eval()
    features, words = batch()
    step = decoder.step(decoder.start(features.double()), words[:, :1])
    all_on = decoder.step(step.state, words[:, 1:2])
    keep = torch.tensor([3, 1])
    some_on = decoder.step(step.state.select_images(keep), words[keep, 1:2])
    torch.testing.assert_close(some_on.logits, all_on.logits[keep])


@BOTH
def test_what_stands_in_the_padding_changes_nothing(name):
    decoder = tiny_decoder(name).eval()
    features, words = batch()
    expected = decoder.teacher_forced(features, words, LENGTHS)
    padded = words.clone()
    for row, length in enumerate(LENGTHS):
        padded[row, length:] = 0
    got = decoder.teacher_forced(features, padded, LENGTHS)
    assert torch.equal(got.logits, expected.logits)
    if expected.attention_sums is not None:
        assert torch.equal(got.attention_sums, expected.attention_sums)


@BOTH
def test_the_first_word_already_knows_the_picture(name):
    decoder = tiny_decoder(name).eval()
    features, words = batch()
    logits = decoder.step(decoder.start(features), words[:, :1]).logits[:, 0]
    assert (logits[0] - logits[1]).abs().max() > 1e-4


@BOTH
def test_same_seed_same_weights(name):
    first, second, other = (tiny_decoder(name, seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert not torch.equal(first["vocabulary.weight"], other["vocabulary.weight"])


@BOTH
def test_dropout_acts_in_training_only_and_before_the_vocabulary_layer(name):
    decoder = tiny_decoder(name, dropout=0.5)
    features, words = batch()
    decoder.eval()
    evaluated = [decoder.teacher_forced(features, words, LENGTHS).logits for _ in range(2)]
    assert torch.equal(*evaluated)
    seen = []
    decoder.vocabulary.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    decoder.train()
    decoder.teacher_forced(features, words, LENGTHS)
    assert 0.2 < (seen[0] == 0).float().mean() < 0.8


@BOTH
def test_captions_of_a_picture_share_what_is_its_own(name):
    """One picture given once or once for each caption: the same values and gradients."""
    decoder = tiny_decoder(name, dropout=0.0, layer_dropout=0.0).double().train()
    features, words = batch()
    features, owners = features.double(), torch.tensor([1, 0, 1, 2])
    results = []
    for shared in (True, False):
        given = features[:3].clone().requires_grad_(True)
        decoder.zero_grad()
        if shared:
            output = decoder.teacher_forced(given, words, LENGTHS, owners)
        else:
            output = decoder.teacher_forced(given[owners], words, LENGTHS)
        loss = output.logits.square().sum()
        if output.attention_sums is not None:
            loss = loss + output.attention_sums.square().sum()
        loss.backward()
        results.append((loss, given.grad, [p.grad for p in decoder.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"rnn"}))
def test_decoders_of_options_that_they_say_they_read(name):
    """Each of its options is one of the config's; what it does not name changes nothing."""
    kind = decoder_class(name)
    fields = {"attention_size": 7, "activation": "tanh", "gate": False}
    fields |= {"layers": 3, "heads": 3, "layer_dropout": 0.5}
    assert kind.options <= fields.keys() and kind.attends
    features, words = batch()

    def logits(**options) -> torch.Tensor:
        torch.manual_seed(0)
        values = {"embedding_size": 4, "hidden_size": 6, "attention_size": 5, "heads": 2}
        config = DecoderConfig(name=name, **{**values, **options})
        shape = {"vocab_size": 11, "feature_size": 8, "cells": (4, 4), "pooled_grid": 7}
        return (
            build_decoder(config, **shape).train().teacher_forced(features, words, LENGTHS).logits
        )

    before = logits()
    for option, value in fields.items():
        assert torch.equal(logits(**{option: value}), before) != (option in kind.options), option


@BOTH
@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_a_beam_as_wide_as_all_captions_finds_the_best_of_all(name, length_penalty):
    """Against every caption of up to three words, each read from its start by teacher forcing."""
    torch.manual_seed(5)
    config = DecoderConfig(name=name, embedding_size=4, hidden_size=6, attention_size=5, heads=2)
    decoder = build_decoder(config, vocab_size=7, feature_size=8, cells=(4, 4), pooled_grid=7)
    decoder = decoder.double().eval()
    for parameter in decoder.parameters():  # so that captions are far from equally probable
        torch.nn.init.normal_(parameter, std=0.7)
    features = batch()[0].double()
    device = torch.device("cpu")
    how = {"beam": 40, "max_length": 3, "length_penalty": length_penalty, "device": device}
    with torch.no_grad():
        found = beam_search(decoder.step, decoder.start(features), 4, **how)
    for picture in range(4):
        scores = {}
        for length in (1, 2):
            for caption in itertools.product((4, 5, 6), repeat=length):
                total = _log_probability(decoder, features[picture], [*caption, END])
                scores[caption] = total / (length + 1) ** length_penalty
        best = max(scores, key=scores.__getitem__)
        assert tuple(found[picture][0].words) == best
        assert found[picture][0].score == pytest.approx(scores[best], abs=1e-5)


def _log_probability(decoder: Decoder, features: torch.Tensor, caption: list[int]) -> float:
    read = torch.tensor([[START, *caption[:-1]]])
    with torch.no_grad():
        output = decoder.teacher_forced(features[None], read, torch.tensor([len(caption)]))
    return float(output.logits.log_softmax(dim=-1)[range(len(caption)), caption].sum())


def test_state_select_beams_takes_each_pictures_own():
    beams = torch.arange(6).view(2, 3, 1)  # picture 0 has 0 1 2, picture 1 has 3 4 5
    shared = torch.tensor([[7.0], [8.0]])
    state = State((shared,), (beams,)).select_beams(torch.tensor([[2, 2, 0, 1], [0, 1, 1, 2]]))
    assert state.beams[0][..., 0].tolist() == [[2, 2, 0, 1], [3, 4, 4, 5]]
    assert state.images[0] is shared  # never copied for each beam


def test_state_select_images_takes_beams_and_shared_tensors():
    state = State((torch.tensor([[7], [8], [9]]),), (torch.arange(6).view(3, 2),))
    chosen = state.select_images(torch.tensor([2, 0]))
    assert chosen.images[0].tolist() == [[9], [7]]
    assert chosen.beams[0].tolist() == [[4, 5], [0, 1]]


def test_targets_come_time_by_time_with_long_captions_first():
    targets = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 0, 0]])
    assert targets_of(targets, torch.tensor([3, 2, 1])).tolist() == [1, 4, 6, 2, 5, 3]


def test_unpacked_words_stand_where_they_stood():
    lengths = torch.tensor([3, 2, 1])
    padded = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 0, 0]])
    assert torch.equal(unpack(pack(padded, lengths), counts_of(lengths)), padded)


def test_an_unknown_decoder_is_told():
    with pytest.raises(InputError, match=r"decoder.name is 'transformr'; known: rnn, attention"):
        tiny_decoder("transformr")


@BOTH
def test_a_projection_is_trained_and_narrows_what_reads_the_regions(name):
    decoder, plain = tiny_decoder(name, region_projection=3), tiny_decoder(name)
    features, words = batch()
    decoder.teacher_forced(features, words, LENGTHS).logits.sum().backward()
    projection = decoder.regions.projection
    assert projection is not None
    assert projection.weight.grad is not None
    assert projection.weight.grad.abs().sum() > 0
    readers = [n for n, p in plain.named_parameters() if p.dim() > 1 and p.shape[1] == 8]
    assert readers
    own = dict(decoder.named_parameters())
    assert all(own[name].shape[1] == 3 for name in readers)


@BOTH
def test_gradients_through_the_projection(name):
    decoder = tiny_decoder(name, region_projection=3, dropout=0.0, activation="tanh").double()
    decoder.eval()
    features, words = batch()
    features = features.double()

    def logits(weight, bias):
        assert decoder.regions.projection is not None
        given = {"regions.projection.weight": weight, "regions.projection.bias": bias}
        arguments = (features, words, LENGTHS)
        return torch.func.functional_call(_TeacherForced(decoder), _prefixed(given), arguments)

    layer = decoder.regions.projection
    assert layer is not None
    inputs = tuple(p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
    assert torch.autograd.gradcheck(logits, inputs)


class _TeacherForced(torch.nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        return self.decoder.teacher_forced(*arguments).logits


def _prefixed(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"decoder.{name}": value for name, value in parameters.items()}


@BOTH
def test_tied_words_are_one_matrix_with_one_gradient(name):
    tied = tiny_decoder(name, tied_embedding=True, embedding_size=6)
    apart = tiny_decoder(name, embedding_size=6)
    assert tied.vocabulary.weight is tied.embedding.weight
    shared = sum(p.numel() for p in tied.parameters())
    assert sum(p.numel() for p in apart.parameters()) - shared == 11 * 6
    state = tied.state_dict()
    apart.load_state_dict(state)
    for decoder in (tied.eval(), apart.eval()):
        features, words = batch()
        decoder.teacher_forced(features, words, LENGTHS).logits.square().sum().backward()
    parts = (apart.vocabulary.weight.grad, apart.embedding.weight.grad)
    assert tied.embedding.weight.grad is not None
    torch.testing.assert_close(tied.embedding.weight.grad, sum(p for p in parts if p is not None))


@BOTH
def test_a_forget_bias_moves_the_forget_gates_alone(name):
    plain, started = (tiny_decoder(name, forget_bias=value) for value in (0.0, 1.5))
    before, after = plain.state_dict(), started.state_dict()
    moved = [n for n in before if not torch.equal(before[n], after[n])]
    assert len(moved) == {"topdown": 2, "transformer": 0}.get(name, 1)
    for bias in moved:
        expected = torch.zeros_like(before[bias])
        expected[6:12] = 1.5  # the second of the gates, H = 6
        torch.testing.assert_close(after[bias] - before[bias], expected)


@BOTH
def test_dropout_on_words_and_regions_acts_in_training_only(name):
    features, words = batch()
    for option in ("embedding_dropout", "region_dropout"):
        decoder = tiny_decoder(name, dropout=0.0, **{option: 0.5})
        first, second = (decoder.teacher_forced(features, words, LENGTHS) for _ in range(2))
        assert not torch.equal(first.logits, second.logits)
        decoder.eval()
        first, second = (decoder.teacher_forced(features, words, LENGTHS) for _ in range(2))
        assert torch.equal(first.logits, second.logits)
