"""Attention over pictures: the right pixels, the right sizes, readable words."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageFont

from pictell.data.images import ImageTransform
from pictell.errors import InputError
from pictell.report import fonts
from pictell.report.attention_picture import draw_attention, overlay, panel_strength
from pictell.report.colours import heat_colours

SIZES = [(640, 480), (300, 500), (400, 400)]


def one_hot(row, column, grid=(7, 7)):
    attention = np.zeros(grid, dtype=np.float32)
    attention[row, column] = 1.0
    return attention


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("cell", [(0, 0), (3, 5), (6, 6)])
def test_one_cell_lights_up_its_own_pixels(size, resize, cell):
    transform = ImageTransform(size=224, resize=resize)
    seen_box = transform.seen_box(*size)
    panel = (size[0] // 2, size[1] // 2)  # half the scale of the original
    strength, _ = panel_strength(one_hot(*cell), size, seen_box, panel)
    assert strength.shape == panel[::-1]
    left, top, right, bottom = (v / 2 for v in transform.cell_box(*cell, (7, 7), seen_box))
    rows, columns = np.nonzero(strength > 0.5626)  # the cubic is 9/16 at a cell's border
    assert left <= columns.min() + 0.5 and columns.max() + 0.5 <= right
    assert top <= rows.min() + 0.5 and rows.max() + 0.5 <= bottom
    # It fills most of the cell, and is centred in it.
    assert columns.max() + 1 - columns.min() > 0.9 * (right - left) - 2
    if 0 < cell[0] < 6:
        assert (rows.min() + rows.max() + 1) / 2 == pytest.approx((top + bottom) / 2, abs=1)
        assert (columns.min() + columns.max() + 1) / 2 == pytest.approx((left + right) / 2, abs=1)
    # Nothing two cells away.
    width, height = right - left, bottom - top
    x, y = np.arange(panel[0]) + 0.5, np.arange(panel[1]) + 0.5
    far = (np.abs(x - (left + right) / 2)[None] > 2.5 * width) | (
        np.abs(y - (top + bottom) / 2)[:, None] > 2.5 * height
    )
    assert far.any() and strength[far].max() == 0


def test_what_was_cropped_away_is_dark_and_without_attention():
    size = (600, 300)
    seen_box = ImageTransform(resize="crop").seen_box(*size)
    assert seen_box == (150, 0, 450, 300)
    strength, seen = panel_strength(np.ones((4, 4)), size, seen_box, size)
    assert seen[:, 150:450].all() and not seen[:, :150].any() and not seen[:, 450:].any()
    assert np.allclose(strength[seen], 1) and (strength[~seen] == 0).all()
    shown = np.asarray(overlay(Image.new("RGB", size, "white"), strength, seen))
    assert (shown[:, :150] == 64).all()  # a quarter of white, grey
    assert shown[:, 150:450].max() > 200


def test_strength_is_relative_to_the_map_and_never_negative():
    generator = np.random.default_rng(0)
    attention = generator.random((5, 5)) ** 4 / 40
    strength, _ = panel_strength(attention, (100, 100), (0, 0, 100, 100), (200, 200))
    assert strength.min() >= 0
    assert strength.max() == pytest.approx(1, abs=0.05)
    place = np.unravel_index(strength.argmax(), strength.shape)
    assert tuple(p // 40 for p in place) == np.unravel_index(attention.argmax(), (5, 5))


@pytest.mark.parametrize(("words", "rows"), [(0, 1), (1, 1), (4, 1), (5, 2), (12, 3)])
def test_size_and_panels(words, rows):
    image = Image.new("RGB", (200, 100), (200, 30, 30))
    maps = np.full((words, 3, 3), 1 / 9)
    drawn = draw_attention(image, ["word"] * words, maps, (0, 0, 200, 100), width=800)
    assert drawn.mode == "RGB" and drawn.width == 800
    columns = min(5, words + 1)
    panel_height = (800 - 10 * (columns + 1)) // columns / 2
    assert rows * panel_height < drawn.height < rows * (panel_height + 80) + 60
    assert drawn.getpixel((20, 20)) == (200, 30, 30)  # the first panel is the picture itself


def test_each_panel_shows_its_own_map():
    image = Image.new("RGB", (100, 100), "grey")
    maps = np.stack([one_hot(0, 0, (2, 2)), one_hot(1, 1, (2, 2))])
    drawn = np.asarray(
        draw_attention(image, ["up", "down"], maps, (0, 0, 100, 100), width=340, columns=3)
    ).astype(int)
    panels = [drawn[10:110, 10 + 110 * n : 110 + 110 * n] for n in range(3)]
    redness = [panel[:, :, 0] - panel[:, :, 2] for panel in panels]
    assert (redness[0] == 0).all()
    assert redness[1][10:40, 10:40].mean() > redness[1][60:90, 60:90].mean() + 50
    assert redness[2][60:90, 60:90].mean() > redness[2][10:40, 10:40].mean() + 50


def test_words_are_written_below_the_panels():
    image = Image.new("RGB", (100, 100), "white")
    arguments = (np.full((1, 2, 2), 0.25), (0, 0, 100, 100))
    dog = draw_attention(image, ["dog"], *arguments, width=300)
    cat = draw_attention(image, ["cat"], *arguments, width=300)
    different = np.argwhere((np.asarray(dog) != np.asarray(cat)).any(axis=2))
    assert len(different) and different[:, 0].min() > 145  # panels are 135 high, from 10 on


def test_long_captions_are_wrapped_and_long_words_cut():
    font = fonts.label_font(14)
    lines = fonts.wrap("a dog and a cat and a horse and a very long sentence", font, 120)
    assert len(lines) > 2 and " ".join(lines).startswith("a dog and")
    assert all(fonts.text_width(line, font) <= 120 for line in lines)
    image = Image.new("RGB", (100, 100), "white")
    drawn = draw_attention(
        image, ["w" * 200, "b"], np.full((2, 2, 2), 0.25), (0, 0, 100, 100), width=330, columns=3
    )
    strip = np.asarray(drawn)[118:132, 212:220]  # between the second panel and the third
    assert (strip == 255).all()


def test_chinese_breaks_between_characters():
    font = ImageFont.load_default(14)  # any will do: only widths matter
    text = "一只棕色的狗在草地上奔跑"
    lines = fonts.wrap(text, font, 60)
    assert "".join(lines) == text and len(lines) > 1


def test_chinese_without_a_font_warns_and_draws(monkeypatch):
    monkeypatch.setattr(fonts, "chinese_font_file", lambda: None)
    image = Image.new("RGB", (100, 100), "white")
    maps = np.full((1, 2, 2), 0.25)
    with pytest.warns(UserWarning, match="no font with Chinese characters"):
        draw_attention(image, ["狗"], maps, (0, 0, 100, 100), width=300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_attention(image, ["dog"], maps, (0, 0, 100, 100), width=300)


def test_a_chinese_font_is_found_by_name(monkeypatch, tmp_path):
    names = ("DejaVuSans.ttf", "wqy-zenhei.ttc", "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc")
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(fonts, "_FOLDERS", (str(tmp_path),))
    fonts.chinese_font_file.cache_clear()
    try:
        assert fonts.chinese_font_file() == tmp_path / "NotoSansCJK-Regular.ttc"
    finally:
        fonts.chinese_font_file.cache_clear()


def test_the_shapes_are_those_of_simplified_chinese():
    file = fonts.chinese_font_file()
    if file is None or "cjk" not in file.name.lower():
        pytest.skip("there is no font for all of East Asia here")
    font = fonts.label_font(20, "一只狗")
    assert font.getname()[0].endswith("SC")
    # 直 is drawn otherwise in Japanese, whose font stands first in the file.
    first = ImageFont.truetype(str(file), 20)
    assert bytes(font.getmask("直")) != bytes(first.getmask("直"))
    assert bytes(font.getmask("一")) == bytes(first.getmask("一"))


def test_chinese_is_drawn_as_itself_and_not_as_boxes():
    """Characters that no font has all look alike."""
    if fonts.chinese_font_file() is None:
        pytest.skip("there is no Chinese font here")
    font = fonts.label_font(20, "一只狗")
    assert len({bytes(font.getmask(character)) for character in "一只狗在草地上跑"}) == 8


def test_colours_grow_lighter_evenly():
    colours = heat_colours()
    assert colours.shape == (256, 3) and colours.min() >= 0 and colours.max() <= 1
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()
    lightness = np.cbrt(luminance)  # close to how light it looks
    steps = np.diff(lightness[::32])
    assert steps.max() < 2.2 * steps.min()


@pytest.mark.parametrize(
    ("words", "shape", "box", "options", "message"),
    [
        (["a", "b"], (1, 2, 2), (0, 0, 90, 60), {}, "2 words but 1 attention maps"),
        (["a"], (2, 2), (0, 0, 90, 60), {}, "words, rows, columns"),
        (["a"], (1, 0, 2), (0, 0, 90, 60), {}, "words, rows, columns"),
        (["a"], (1, 2, 2), (0, 0, 91, 60), {}, "does not lie in the picture of 90 x 60"),
        (["a"], (1, 2, 2), (50, 0, 50, 60), {}, "does not lie in the picture"),
        (["a"], (1, 2, 2), (0, 0, 90, 60), {"columns": 0}, "0 columns"),
        (["a"], (1, 2, 2), (0, 0, 90, 60), {"width": 100}, "do not fit into 100 pixels"),
    ],
)
def test_what_cannot_be_drawn(words, shape, box, options, message):
    with pytest.raises(InputError, match=message):
        draw_attention(Image.new("RGB", (90, 60)), words, np.zeros(shape), box, **options)
