"""Runners-up and occlusion of the public object, with decoders that were never trained."""

import numpy as np
import pytest
import torch

from pictell.captioner import Captioner
from pictell.data.records import read_dataset
from pictell.data.text import Vocabulary, get_tokenizer
from pictell.decoders.base import build_decoder
from pictell.encoders.encoder import load_encoder
from pictell.errors import InputError

WORDS = ["a", "red", "green", "circle", "square", "on", "white"]


@pytest.fixture
def captioner_of(tiny_config):
    def make(decoder: str) -> Captioner:
        config = tiny_config(decoder={"name": decoder}, search={"max_length": 5, "beam": 2})
        vocabulary = Vocabulary.fit([WORDS], min_count=1)
        encoder = load_encoder(config.encoder)
        torch.manual_seed(4)
        built = build_decoder(
            config.decoder,
            vocab_size=len(vocabulary),
            feature_size=encoder.feature_size,
            cells=encoder.grid,
            pooled_grid=config.encoder.pooled_grid,
        )
        with torch.no_grad():  # untrained weights say nearly the same of every picture
            for parameter in built.parameters():
                parameter.mul_(3)
        return Captioner(
            encoder, built, vocabulary, get_tokenizer("en"), config.search, torch.device("cpu")
        )

    return make


@pytest.fixture
def pictures(shapes_dataset):
    return [example.path for example in read_dataset(shapes_dataset)][:3]


def test_runners_up_are_the_most_probable_other_words(captioner_of, pictures):
    captioner = captioner_of("attention")
    caption = captioner.caption(pictures[0], alternatives=3)[0]
    given = caption.words
    for t, others in enumerate(caption.alternatives):
        values = [other.log_probability for other in others]
        assert len(others) == 3
        assert values == sorted(values, reverse=True)
        assert given[t] not in [other.word for other in others]
        for other in others:
            if other.word == "<end>":
                continue
            # The same number as of a caption that has this word in this place.
            swapped = captioner.explain_words(pictures[0], [*given[:t], other.word])
            assert swapped.word_log_probabilities[t] == pytest.approx(other.log_probability)


def test_runners_up_leave_out_what_is_never_said(captioner_of, pictures):
    caption = captioner_of("rnn").caption(pictures[0], alternatives=50)[0]
    for word, others in zip(caption.words, caption.alternatives, strict=True):
        assert {word} | {other.word for other in others} == {*WORDS, "<end>"}


def test_captions_are_the_same_with_and_without_runners_up(captioner_of, pictures):
    captioner = captioner_of("attention")
    with_them, without = captioner.caption(pictures), captioner.caption(pictures, alternatives=0)
    for one, other in zip(with_them, without, strict=True):
        assert one.words == other.words
        # The first search lays weights out for those after it, whose products round otherwise.
        assert one.word_log_probabilities == pytest.approx(other.word_log_probabilities, abs=1e-4)
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)
        assert other.alternatives == [[] for _ in other.words]


@pytest.mark.parametrize("decoder", ["rnn", "attention"])
def test_occlusion_is_the_fall_of_each_words_log_probability(captioner_of, pictures, decoder):
    captioner = captioner_of(decoder)
    captions = captioner.caption(pictures)
    occluded = captioner.occlude(pictures, captions, grid=(2, 3), batch_size=4)
    for path, caption in zip(pictures, occluded, strict=True):
        assert caption.occlusion is not None
        assert caption.occlusion.shape == (len(caption.words), 2, 3)
        assert np.abs(caption.occlusion).max() > 1e-4
        # One patch by hand: row 1, column 2 of (2, 3) over 64 pixels.
        pixels = captioner.encoder.transform.read(path)
        pixels[:, 32:, 43:] = captioner.encoder.mean.round().byte().numpy()[0]
        features = captioner.encoder(torch.from_numpy(pixels)[None])
        again = captioner.explain(features, [captioner._given(caption.words)])[0]
        fall = np.subtract(caption.word_log_probabilities, again.word_log_probabilities)
        assert np.allclose(caption.occlusion[:, 1, 2], fall, atol=1e-4)


def test_occlusion_wants_a_caption_for_each_picture(captioner_of, pictures):
    captioner = captioner_of("rnn")
    captions = captioner.caption(pictures)
    with pytest.raises(InputError, match="3 pictures but 2 captions"):
        captioner.occlude(pictures, captions[:2])
    with pytest.raises(InputError, match="100 patches along a side of 64 pixels"):
        captioner.occlude(pictures, captions, grid=(100, 1))


def test_words_that_the_model_does_not_know_are_an_error(captioner_of, pictures):
    captioner = captioner_of("rnn")
    with pytest.raises(InputError, match="cannot say 'zebra'"):
        captioner.explain_words(pictures[0], ["a", "zebra"])
    with pytest.raises(InputError, match="no words given"):
        captioner.explain_words(pictures[0], [])
