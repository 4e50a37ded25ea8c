import pytest
import torch

from pictell.config import DecoderConfig
from pictell.data.text import END, PAD, START, UNKNOWN
from pictell.decoders.base import DECODERS, build_decoder
from pictell.training.scheduled_sampling import mix_own_words

LENGTHS = torch.tensor([7, 5, 2, 1])


def decoder_and_batch(name: str):
    torch.manual_seed(0)
    config = DecoderConfig(name=name, embedding_size=4, hidden_size=6, attention_size=5, heads=2)
    decoder = build_decoder(config, vocab_size=12, feature_size=8, cells=(2, 2), pooled_grid=0)
    words = torch.randint(4, 12, (4, 7))
    words[:, 0] = START
    words[torch.arange(7) >= LENGTHS[:, None]] = PAD
    return decoder, torch.randn(4, 4, 8), words


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_words_are_replaced_by_what_the_decoder_expects_there(name):
    decoder, features, words = decoder_and_batch(name)
    with torch.no_grad():  # after word w it is sure of w + 1, and of nothing after the last
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.vocabulary.bias[9] = 50.0
    mixed = mix_own_words(decoder, features, words, LENGTHS, None, 1.0)
    own = (torch.arange(7) > 0) & (torch.arange(7) < LENGTHS[:, None])
    assert torch.equal(mixed, torch.where(own, torch.tensor(9), words))


def test_each_word_is_drawn_from_the_prediction_at_its_own_place():
    decoder, features, words = decoder_and_batch("attention")
    decoder.eval()
    with torch.no_grad():
        decoder.vocabulary.weight.mul_(1e5)  # certain, and different from place to place
    expected, state = words.clone(), decoder.start(features)
    for t in range(6):
        step = decoder.step(state, words[:, t : t + 1])
        logits = step.logits[:, 0]
        logits[:, [PAD, START, END, UNKNOWN]] = -torch.inf
        state, expected[:, t + 1] = step.state, logits.argmax(dim=-1)
    read = torch.arange(7) < LENGTHS[:, None]
    expected = torch.where(read, expected, words)
    assert len(expected[read].unique()) > 3
    assert torch.equal(mix_own_words(decoder, features, words, LENGTHS, None, 1.0), expected)


def test_the_share_of_own_words_is_the_probability():
    decoder, features, _ = decoder_and_batch("rnn")
    words = torch.full((4, 500), 4)
    words[:, 0] = START
    with torch.no_grad():
        decoder.vocabulary.bias[9] = 50.0
    mixed = mix_own_words(decoder, features, words, torch.full((4,), 500), None, 0.25)
    assert (mixed == 9).float().mean().item() == pytest.approx(0.25, abs=0.04)


def test_a_decoder_in_training_stays_in_training_and_words_stay_as_they_were():
    decoder, features, words = decoder_and_batch("rnn")
    decoder.train()
    before, statistics = (
        words.clone(),
        decoder.state_dict()["initial_hidden.1.running_mean"].clone(),
    )
    mixed = mix_own_words(decoder, features, words, LENGTHS, None, 0.9)
    assert decoder.training
    assert torch.equal(words, before)
    assert not torch.equal(mixed, before)
    assert torch.equal(decoder.state_dict()["initial_hidden.1.running_mean"], statistics)


def test_captions_that_share_a_picture():
    decoder, features, words = decoder_and_batch("attention")
    decoder.eval()
    owners = torch.tensor([0, 1, 0, 1])
    torch.manual_seed(3)
    shared = mix_own_words(decoder, features[:2], words, LENGTHS, owners, 0.5)
    torch.manual_seed(3)
    apart = mix_own_words(decoder, features[:2][owners], words, LENGTHS, None, 0.5)
    assert torch.equal(shared, apart)


def test_no_word_is_replaced_where_the_coin_says_no():
    decoder, features, words = decoder_and_batch("rnn")
    assert torch.equal(mix_own_words(decoder, features, words, LENGTHS, None, 0.0), words)
