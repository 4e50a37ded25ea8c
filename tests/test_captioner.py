"""The public object: pictures in whatever form, captions that do not depend on company."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from pictell import Captioner
from pictell.data.text import Vocabulary, get_tokenizer
from pictell.decoders.base import build_decoder
from pictell.encoders.encoder import load_encoder
from pictell.errors import InputError
from pictell.training.loop import train

WORDS = ["a", "red", "green", "circle", "square", "on", "white"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shapes_dataset, encoder_weights, feature_folder):
    """A run of each decoder that knows the shapes."""
    from pictell.config import Config

    folder = tmp_path_factory.mktemp("runs")
    for name in ("rnn", "attention"):
        config = Config.from_dict(
            {
                "data": {"dataset": str(shapes_dataset), "min_count": 1},
                "encoder": {
                    "name": "test_resnet",
                    "weights": str(encoder_weights),
                    "image_size": 64,
                    "pooled_grid": 3,
                    "features": str(feature_folder),
                },
                "decoder": {"name": name, "embedding_size": 16, "hidden_size": 32},
                "train": {"batch_size": 4, "epochs": 12, "decoder_lr": 1e-2, "workers": 0},
                "search": {"max_length": 12},
            }
        )
        train(config, folder / name)
    return folder


@pytest.fixture
def pictures(shapes_dataset):
    return sorted((shapes_dataset / "pictures").glob("train_*.png"))


@pytest.mark.parametrize("name", ["rnn", "attention"])
def test_a_path_its_bytes_and_the_decoded_picture_get_one_caption(runs, pictures, name):
    captioner = Captioner.load(runs / name)
    path = pictures[0]
    forms = [path, str(path), path.read_bytes(), Image.open(path)]
    captions = captioner.caption(forms)
    assert len({caption.text for caption in captions}) == 1
    assert len({caption.log_probability for caption in captions}) == 1
    assert captions[0].image_size == (64, 64)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", ["rnn", "attention"])
def test_alone_and_in_a_batch(runs, pictures, name, beam):
    captioner = Captioner.load(runs / name)
    together = captioner.caption(pictures, beam=beam)
    for path, caption in zip(pictures, together, strict=True):
        alone = captioner.caption(path, beam=beam)[0]
        assert alone.words == caption.words
        assert alone.log_probability == pytest.approx(caption.log_probability, abs=1e-4)


def test_maps_are_shares_over_the_grid_one_for_each_word(runs, pictures):
    for caption in Captioner.load(runs / "attention").caption(pictures):
        assert caption.attention is not None
        assert caption.attention.shape == (len(caption.words), 3, 3)
        assert np.allclose(caption.attention.sum(axis=(1, 2)), 1, atol=1e-5)
    assert Captioner.load(runs / "rnn").caption(pictures[0])[0].attention is None


def test_a_given_caption_is_explained_as_the_search_valued_it(runs, pictures):
    captioner = Captioner.load(runs / "attention")
    found = captioner.caption(pictures[0])[0]
    given = captioner.explain_words(pictures[0], found.words)
    assert given.word_log_probabilities == pytest.approx(found.word_log_probabilities, abs=1e-5)
    assert given.attention == pytest.approx(found.attention, abs=1e-5)
    assert given.log_probability == pytest.approx(sum(found.word_log_probabilities), abs=1e-4)


def test_options_of_the_call_override_the_runs(runs, pictures):
    captioner = Captioner.load(runs / "attention")
    whole = captioner.caption(pictures[0], beam=1)[0]
    cut = captioner.caption(pictures[0], beam=1, max_length=2)[0]
    assert len(whole.words) > 2
    assert cut.words == whole.words[:2]
    assert not cut.ended
    with pytest.raises(InputError, match=r"search\.beam is 0"):
        captioner.caption(pictures[0], beam=0)


def test_bad_input_is_named(runs, pictures, tmp_path):
    captioner = Captioner.load(runs / "rnn")
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        captioner.caption([pictures[0], tmp_path / "none.png"])
    with pytest.raises(InputError, match="not a picture"):
        captioner.caption(b"text")
    with pytest.raises(InputError, match="cannot say 'xylophone'"):
        captioner.explain_words(pictures[0], ["a", "xylophone"])
    with pytest.raises(InputError, match="no words given"):
        captioner.explain_words(pictures[0], [])


def test_no_pictures_no_captions(runs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Captioner.load(runs / "rnn").caption([]) == []
<<<<<<< HEAD
=======


# -- runners-up and occlusion, of models that were never trained -----------------------------------


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
        assert one.word_log_probabilities == other.word_log_probabilities
        assert np.array_equal(one.attention, other.attention)
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
    with pytest.raises(InputError, match="8 pictures but 7 captions"):
        captioner.occlude(pictures, captions[:7])
    with pytest.raises(InputError, match="100 patches along a side of 64 pixels"):
        captioner.occlude(pictures, captions, grid=(100, 1))
>>>>>>> report
