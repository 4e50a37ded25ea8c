"""The public object: pictures in whatever form, captions that do not depend on company."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from pictell import Captioner
from pictell.captioner import COMPILE_FROM
from pictell.data.text import END
from pictell.decoders.base import DECODERS
from pictell.errors import InputError
from pictell.training.loop import train

WORDS = ["a", "red", "green", "circle", "square", "on", "white"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shapes_dataset, encoder_weights, feature_folder):
    """A run of each decoder that knows the shapes."""
    from pictell.config import Config

    folder = tmp_path_factory.mktemp("runs")
    for name in DECODERS:
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
                "decoder": {"name": name, "embedding_size": 16, "hidden_size": 32, "heads": 4},
                "train": {"batch_size": 4, "epochs": 12, "decoder_lr": 1e-2, "workers": 0},
                "search": {"max_length": 12},
            }
        )
        train(config, folder / name)
    return folder


@pytest.fixture
def pictures(shapes_dataset):
    return sorted((shapes_dataset / "pictures").glob("train_*.png"))


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_path_its_bytes_and_the_decoded_picture_get_one_caption(runs, pictures, name):
    captioner = Captioner.load(runs / name)
    path = pictures[0]
    forms = [path, str(path), path.read_bytes(), Image.open(path)]
    captions = captioner.caption(forms)
    assert len({caption.text for caption in captions}) == 1
    assert len({caption.log_probability for caption in captions}) == 1
    assert captions[0].image_size == (64, 64)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_alone_and_in_a_batch(runs, pictures, name, beam):
    captioner = Captioner.load(runs / name)
    together = captioner.caption(pictures, beam=beam)
    for path, caption in zip(pictures, together, strict=True):
        alone = captioner.caption(path, beam=beam)[0]
        assert alone.words == caption.words
        assert alone.log_probability == pytest.approx(caption.log_probability, abs=1e-4)


@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"rnn"}))
def test_maps_are_shares_over_the_grid_one_for_each_word(runs, pictures, name):
    for caption in Captioner.load(runs / name).caption(pictures):
        assert caption.attention is not None
        assert caption.attention.shape == (len(caption.words), 3, 3)
        assert np.allclose(caption.attention.sum(axis=(1, 2)), 1, atol=1e-5)


def test_without_attention_there_are_no_maps(runs, pictures):
    assert Captioner.load(runs / "rnn").caption(pictures[0])[0].attention is None


@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"rnn"}))
def test_a_given_caption_is_explained_as_the_search_valued_it(runs, pictures, name):
    captioner = Captioner.load(runs / name)
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
    with pytest.raises(InputError, match=r"search\.block_repeats is -1"):
        captioner.caption(pictures[0], block_repeats=-1)


def test_words_are_not_repeated_where_that_is_asked(runs, pictures):
    captioner = Captioner.load(runs / "attention")
    with torch.no_grad():  # a model that hardly knows when to end repeats itself
        captioner.decoder.vocabulary.bias[END] -= 8
    free, blocked = (captioner.caption(pictures[0], block_repeats=n)[0] for n in (0, 1))
    assert len(set(free.words)) < len(free.words)
    assert len(set(blocked.words)) == len(blocked.words)


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


@pytest.mark.parametrize("beams", [COMPILE_FROM - 1, COMPILE_FROM])
def test_loops_are_compiled_for_many_captions_alone(runs, monkeypatch, beams):
    captioner, compiled = Captioner.load(runs / "attention", device="cpu"), []
    monkeypatch.setattr(captioner.decoder, "compile_loops", lambda: compiled.append(True))
    captioner.expect(beams)
    assert bool(compiled) == (beams >= COMPILE_FROM)


@pytest.mark.slow
def test_compiled_loops_write_the_same_captions(runs, pictures):
    captioner = Captioner.load(runs / "attention", device="cpu")
    before = captioner.caption(pictures, beam=3)
    if not captioner.decoder.compile_loops():
        pytest.skip("there is no compiler here")
    after = captioner.caption(pictures, beam=3)
    assert [caption.text for caption in after] == [caption.text for caption in before]
    for ours, theirs in zip(after, before, strict=True):
        assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)
