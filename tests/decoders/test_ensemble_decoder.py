"""An ensemble against its members: their probabilities averaged by hand."""

import pytest
import torch

from pictell.config import DecoderConfig
from pictell.decoders.base import build_decoder
from pictell.decoders.ensemble import EnsembleDecoder, pack_features
from pictell.decoders.search import beam_search

VOCABULARY, SHAPES = 11, [(4, 6), (9, 5)]  # cells and width of two encoders
LENGTHS = torch.tensor([4, 3])
WORDS = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 0]])


def decoder(name, shape, seed):
    torch.manual_seed(seed)
    side = int(shape[0] ** 0.5)
    config = DecoderConfig(name=name, embedding_size=6, hidden_size=7, attention_size=5)
    made = build_decoder(
        config, vocab_size=VOCABULARY, feature_size=shape[1], cells=(side, side), pooled_grid=3
    )
    for parameter in made.parameters():  # fresh vocabularies are too even to tell words apart
        torch.nn.init.normal_(parameter, std=0.7)
    return made.eval()


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(2, *shape, generator=generator) for shape in SHAPES]


def pair():
    """An attention decoder on the first encoder, a plain one on the second."""
    return decoder("attention", SHAPES[0], 1), decoder("rnn", SHAPES[1], 2)


def probabilities(member, features):
    """By stepping along WORDS: (T, B, V)."""
    state, found = member.start(features), []
    for t in range(WORDS.shape[1]):
        step = member.step(state, WORDS[:, t : t + 1])
        state = step.state
        found.append(step.logits[:, 0].softmax(dim=-1))
    return torch.stack(found)


def test_two_members_are_averaged(features):
    members = pair()
    both = EnsembleDecoder(members, parts=SHAPES, reads=[0, 1])
    by_hand = sum(probabilities(m, f) for m, f in zip(members, features, strict=True)) / 2
    torch.testing.assert_close(probabilities(both, pack_features(features)), by_hand)


def test_members_may_share_an_encoder(features):
    members = decoder("attention", SHAPES[0], 1), decoder("rnn", SHAPES[0], 4)
    both = EnsembleDecoder(members, parts=SHAPES[:1], reads=[0, 0])
    by_hand = sum(probabilities(m, features[0]) for m in members) / 2
    torch.testing.assert_close(probabilities(both, pack_features(features[:1])), by_hand)


def test_all_members_compile_their_loops(monkeypatch):
    members, asked = pair(), []
    for member, can in zip(members, (True, False), strict=True):
        monkeypatch.setattr(member, "compile_loops", lambda can=can: asked.append(can) or can)
    assert EnsembleDecoder(members, parts=SHAPES, reads=[0, 1]).compile_loops()
    assert asked == [True, False]


@pytest.mark.parametrize("name", ["attention", "rnn"])
def test_one_member_is_that_member(features, name):
    alone = decoder(name, SHAPES[0], 5)
    same = EnsembleDecoder([alone], parts=SHAPES[:1], reads=[0])
    packed = pack_features(features[:1])
    torch.testing.assert_close(probabilities(same, packed), probabilities(alone, features[0]))
    how = {"beam": 3, "max_length": 8, "length_penalty": 0.7, "device": torch.device("cpu")}
    found = [
        beam_search(one.step, one.start(given), 2, **how)
        for one, given in ((alone, features[0]), (same, packed))
    ]
    for first, second in zip(*found, strict=True):
        assert [h.words for h in first] == [h.words for h in second]
        for a, b in zip(first, second, strict=True):
            assert a.log_probability == pytest.approx(b.log_probability, abs=1e-5)


def test_stepping_gives_what_teacher_forcing_gives(features):
    both = EnsembleDecoder(pair(), parts=SHAPES, reads=[0, 1])
    packed = pack_features(features)
    forced = both.teacher_forced(packed, WORDS, LENGTHS)
    assert forced.attention_sums is None
    stepped = probabilities(both, packed)
    expected = [stepped[t, b] for t in range(4) for b in range(2) if t < LENGTHS[b]]
    torch.testing.assert_close(forced.logits.softmax(dim=-1), torch.stack(expected))


def test_beams_are_reordered_for_all_members(features):
    both = EnsembleDecoder(pair(), parts=SHAPES, reads=[0, 1])
    state = both.start(pack_features(features)).select_beams(torch.zeros(2, 3, dtype=torch.long))
    step = both.step(state, torch.tensor([[1, 5, 6], [7, 8, 9]]))
    order = torch.tensor([[2, 0, 1], [1, 1, 0]])
    words = torch.tensor([[4, 5, 6], [6, 5, 4]])
    moved = both.step(step.state.select_beams(order), words).logits
    for picture in range(2):
        for beam in range(3):
            one = step.state.select_images(torch.tensor([picture])).select_beams(
                order[picture : picture + 1, beam : beam + 1]
            )
            alone = both.step(one, words[picture : picture + 1, beam : beam + 1]).logits
            torch.testing.assert_close(moved[picture, beam], alone[0, 0])


def test_attention_is_averaged_where_all_look_at_the_same_regions(features):
    members = decoder("attention", SHAPES[0], 1), decoder("attention", SHAPES[0], 6)
    packed = pack_features(features[:1])
    both = EnsembleDecoder(members, parts=SHAPES[:1], reads=[0, 0])
    first = WORDS[:, :1]
    maps = [m.step(m.start(features[0]), first).attention for m in members]
    found = both.step(both.start(packed), first).attention
    torch.testing.assert_close(found, (maps[0] + maps[1]) / 2)
    apart = EnsembleDecoder(members, parts=SHAPES[:1], reads=[0, 0], share_maps=False)
    assert apart.step(apart.start(packed), first).attention is None
    mixed = EnsembleDecoder(pair(), parts=SHAPES, reads=[0, 1])
    assert mixed.step(mixed.start(pack_features(features)), first).attention is None
