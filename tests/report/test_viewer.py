"""The viewer's two files, and captions as it reads them."""

import base64
import json
import re

import numpy as np
import pytest

from pictell.captioner import Alternative, Caption
from pictell.errors import InputError
from pictell.report.colours import heat_colours
from pictell.report.viewer import viewer_entry, viewer_script, viewer_style
from pictell.report.viewer.entries import pack_maps


def a_caption(**changed) -> Caption:
    values = {
        "text": "a dog",
        "words": ["a", "dog"],
        "log_probability": -1.0,
        "word_log_probabilities": [float(np.log(0.5)), float(np.log(0.25))],
        "attention": None,
        "ended": True,
        "alternatives": [[Alternative("the", float(np.log(0.4)))], []],
        "image_size": (64, 48),
        "seen_box": (8.0, 0.0, 56.0, 48.0),
    }
    return Caption(**{**values, **changed})


def test_an_entry_holds_words_with_probabilities_and_runners_up():
    entry = viewer_entry(a_caption(), name="plain")
    assert entry == {
        "name": "plain",
        "caption": "a dog",
        "kind": "none",
        "words": [
            {
                "text": "a",
                "probability": 0.5,
                "alternatives": [{"text": "the", "probability": 0.4}],
            },
            {"text": "dog", "probability": 0.25, "alternatives": []},
        ],
        "seen": [8.0, 0.0, 56.0, 48.0],
    }
    json.dumps(entry)


def test_maps_keep_their_values_to_a_byte():
    maps = np.random.default_rng(0).dirichlet(np.ones(6), size=2).reshape(2, 2, 3)
    entry = viewer_entry(a_caption(attention=maps), name="m")
    assert (entry["kind"], entry["grid"]) == ("attention", [2, 3])
    raw = np.frombuffer(base64.b64decode(entry["maps"]["data"]), np.uint8).reshape(2, 2, 3)
    read = raw / 255 * np.array(entry["maps"]["scale"])[:, None, None]
    assert np.abs(read - maps).max() <= maps.max() / 255 / 2 * 1.001


def test_occlusion_is_taken_where_there_is_no_attention_or_on_request():
    occlusion, attention = np.full((2, 1, 2), 0.7), np.full((2, 2, 2), 0.25)
    assert viewer_entry(a_caption(occlusion=occlusion), name="m")["kind"] == "occlusion"
    both = a_caption(occlusion=occlusion, attention=attention)
    assert viewer_entry(both, name="m")["kind"] == "attention"
    chosen = viewer_entry(both, name="m", kind="occlusion")
    assert (chosen["kind"], chosen["grid"], chosen["maps"]["scale"]) == (
        "occlusion",
        [1, 2],
        [0.7, 0.7],
    )


def test_maps_that_are_not_there_are_an_error():
    with pytest.raises(InputError, match="'a dog' has no occlusion maps"):
        viewer_entry(a_caption(), name="m", kind="occlusion")


def test_what_is_below_zero_is_nothing():
    packed = pack_maps(np.array([[[-1.0, 2.0]], [[-1.0, -2.0]]]))
    assert packed["scale"] == [2.0, 0.0]
    assert list(base64.b64decode(packed["data"])) == [0, 255, 0, 0]


def test_a_caption_without_words_is_an_entry_too():
    empty = a_caption(
        text="", words=[], word_log_probabilities=[], alternatives=[], attention=np.ones((0, 2, 2))
    )
    entry = viewer_entry(empty, name="m")
    assert (entry["words"], entry["maps"]) == ([], {"scale": [], "data": ""})


def test_the_script_has_the_colours_of_the_drawings():
    block = re.search(r"const RAMP = \[(.*?)\]", viewer_script(), re.S)
    assert block
    shown = [bytes.fromhex(word) for word in re.findall(r"[0-9a-f]{6}", block[1])]
    places = np.round(np.linspace(0, 255, len(shown))).astype(int)
    expected = np.round(255 * heat_colours()[places])
    assert len(shown) == 17
    assert np.array_equal([list(colour) for colour in shown], expected)


def test_the_files_bear_a_strict_policy_and_need_no_network():
    script, style = viewer_script(), viewer_style()
    for forbidden in (
        "innerHTML",
        "eval(",
        "new Function",
        "fetch(",
        "XMLHttp",
        "</script",
        "http",
    ):
        assert forbidden not in script, forbidden
    assert "url(" not in style
    assert "@import" not in style
    assert "</style" not in style
