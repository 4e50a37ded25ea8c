import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from pictell.data.images import (
    IMAGE_SUFFIXES,
    ImageTransform,
    is_constant,
    picture_size,
    read_image,
)
from pictell.errors import InputError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise that does not compress away."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def left_red_right_blue(width: int = 40, height: int = 20) -> Image.Image:
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def save(image: Image.Image, path, **options):
    image.save(path, **options)
    return path


# Formats.


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_all_listed_suffixes_are_read(tmp_path, suffix):
    path = save(Image.new("RGB", (40, 20), RED), tmp_path / f"picture{suffix}")
    pixel = read_image(path).getpixel((20, 10))
    assert max(abs(a - b) for a, b in zip(pixel, RED, strict=True)) < 30
    assert picture_size(path) == (40, 20)


@pytest.mark.parametrize("pillow_format", ["EPS", "PCX", "TGA", "PPM"])
def test_a_format_that_is_not_listed_is_refused_whatever_its_name(tmp_path, pillow_format):
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (40, 20), RED).save(path, format=pillow_format)
    with pytest.raises(
        InputError, match=r"picture.jpg: not a picture in a format that is read \(JP"
    ):
        read_image(path)


# Geometry.


def test_squash_sees_the_whole_picture_and_crop_the_central_square():
    assert ImageTransform(size=64, resize="squash").seen_box(640, 480) == (0, 0, 640, 480)
    assert ImageTransform(size=64, resize="crop").seen_box(640, 480) == (80, 0, 560, 480)
    assert ImageTransform(size=64, resize="crop").seen_box(3, 6) == (0, 1.5, 3, 4.5)


def test_cell_box_cuts_the_seen_part_into_equal_cells():
    transform = ImageTransform(size=64)
    seen = (80.0, 0.0, 560.0, 480.0)
    assert transform.cell_box(0, 0, (4, 6), seen) == (80, 0, 160, 120)
    assert transform.cell_box(3, 5, (4, 6), seen) == (480, 360, 560, 480)
    assert transform.cell_box(1, 2, (4, 6), seen) == (240, 120, 320, 240)


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(320, 200), (200, 320), (256, 256)])
@pytest.mark.parametrize("grid", [(7, 7), (8, 8)])
def test_a_bright_cell_of_the_picture_is_bright_in_the_transformed_cell(resize, size, grid):
    transform = ImageTransform(size=224, resize=resize)
    seen = transform.seen_box(*size)
    for row, column in [(0, 0), (2, 5), (6, 1)]:
        image = Image.new("L", size, 0)
        box = transform.cell_box(row, column, grid, seen)
        image.paste(255, tuple(round(edge) for edge in box))
        pixels = transform(image.convert("RGB"))
        side = 224 // grid[0]
        cells = pixels[0].reshape(grid[0], side, grid[1], side).mean(axis=(1, 3))
        assert np.unravel_index(cells.argmax(), cells.shape) == (row, column)
        cells[row, column] = 0
        assert cells.max() < 40  # next to nothing lies outside


def test_transform_gives_bytes_in_channel_row_column_order():
    pixels = ImageTransform(size=32)(left_red_right_blue())
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels[:, 16, 2], RED)
    np.testing.assert_array_equal(pixels[:, 16, 29], BLUE)


def test_a_picture_of_the_right_size_is_left_as_it_is():
    image = photo(32, 32)
    np.testing.assert_array_equal(ImageTransform(size=32)(image).transpose(1, 2, 0), image)


@pytest.mark.parametrize(
    ("resize", "box"), [("squash", (32, 10, 96, 50)), ("crop", (40, 10, 80, 50))]
)
def test_a_part_is_one_of_what_is_seen(resize, box):
    image = photo(128, 80)  # `crop` sees the pixels from 24 to 104
    part = (0.25, 0.125, 0.75, 0.625) if resize == "squash" else (0.2, 0.125, 0.7, 0.625)
    expected = image.resize((32, 32), Image.Resampling.BILINEAR, box=box)
    pixels = ImageTransform(size=32, resize=resize)(image, part=part)
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), expected)


def test_a_part_has_the_detail_that_it_needs(tmp_path):
    path = save(photo(256, 256), tmp_path / "a.jpg", quality=95)
    transform = ImageTransform(size=64)
    part = (0.1, 0.2, 0.7, 0.9)  # decoded at half the size, 77 pixels wide: less than twice 64
    assert read_image(path, draft_size=128).size == (128, 128)
    expected = transform(read_image(path), part=part)
    np.testing.assert_array_equal(transform.read(path, part=part), expected)


# Formats.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = left_red_right_blue()
    turns = {  # what a camera held that way stores
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.transpose(Image.Transpose.ROTATE_90),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(turns[orientation](upright), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), upright)


@pytest.mark.parametrize(
    "broken", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b""]
)
def test_broken_exif_is_left_alone(tmp_path, broken):
    image = left_red_right_blue()
    path = save(image, tmp_path / "a.png", exif=broken)
    np.testing.assert_array_equal(read_image(path), image)


def test_cmyk(tmp_path):
    path = save(left_red_right_blue().convert("CMYK"), tmp_path / "a.jpg", quality=95)
    read = read_image(path)
    assert read.mode == "RGB"
    np.testing.assert_allclose(read.getpixel((5, 10)), RED, atol=12)
    np.testing.assert_allclose(read.getpixel((35, 10)), BLUE, atol=12)


def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    path = save(Image.fromarray(grey), tmp_path / "a.png")
    read = np.asarray(read_image(path))
    np.testing.assert_allclose(read[..., 0], grey / 257, atol=1)
    np.testing.assert_array_equal(read[..., 0], read[..., 2])


@pytest.mark.parametrize(("top", "wanted"), [(1.0, 255), (255.0, 255), (65535.0, 255)])
def test_float_pictures_never_turn_black(tmp_path, top, wanted):
    grey = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    read = np.asarray(read_image(save(Image.fromarray(grey), tmp_path / "a.tif")))
    assert read.max() == wanted
    assert 100 < read.mean() < 155


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 20))
    read = read_image(save(image, tmp_path / "a.png"))
    assert read.getpixel((2, 2)) == BLUE
    assert read.getpixel((15, 2)) == (255, 255, 255)
    half = save(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), tmp_path / "half.png")
    np.testing.assert_allclose(read_image(half).getpixel((0, 0)), (255, 127, 127), atol=1)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_colour_is_laid_on_white(tmp_path, mode):
    image = Image.new("L", (20, 20), 0)
    image.paste(255, (0, 0, 10, 20))
    transparent = {"P": 0, "L": 0, "RGB": (0, 0, 0), "1": 0}[mode]
    converted = image.convert(mode, palette=Image.Palette.ADAPTIVE) if mode == "P" else image
    converted = converted.convert(mode)
    if mode == "P":
        transparent = converted.getpixel((15, 2))
    path = save(converted, tmp_path / "a.png", transparency=transparent)
    assert read_image(path).getpixel((15, 2)) == (255, 255, 255)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F"]
)
def test_pictures_in_memory_of_any_mode_become_rgb(mode):
    image = left_red_right_blue()
    read = read_image(image.convert("L").convert(mode) if mode in "IF" else image.convert(mode))
    assert (read.mode, read.size) == ("RGB", image.size)


def test_a_picture_in_memory_is_not_handed_back_itself():
    image = left_red_right_blue()
    read_image(image).putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == RED


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE)]
    path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(path).getpixel((9, 9)) == RED


def test_bytes_are_read_as_files_are(tmp_path):
    path = save(photo(33, 21), tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(path.read_bytes()), read_image(path))
    np.testing.assert_array_equal(read_image(str(path)), read_image(path))


# Errors.


def truncated_jpeg(tmp_path):
    whole = save(photo(200, 200), tmp_path / "whole.jpg").read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    return path


def text_named_jpg(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("<html>404</html>")
    return path


def empty_file(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    return path


def png_that_claims(tmp_path, width: int, height: int):
    """A PNG whose header names a size; nothing may try to decode it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    size = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path = tmp_path / "big.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"x"))
    return path


def too_many_pixels(tmp_path):
    return png_that_claims(tmp_path, 12_000, 10_000)


def bomb(tmp_path):
    return png_that_claims(tmp_path, 200_000, 200_000)


def broken_png(tmp_path):
    path = tmp_path / "broken.png"
    data = bytearray(save(photo(60, 60), path).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated_jpeg, "does not decode"),
        (text_named_jpg, "not a picture"),
        (empty_file, "not a picture"),
        (broken_png, "does not decode"),
        (lambda folder: folder / "none.jpg", "no such file"),
        (lambda folder: folder, "is a folder"),
        (too_many_pixels, "12000 x 10000 pixels are more than the 100,000,000"),
        (bomb, "does not decode"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, make, message):
    path = make(tmp_path)
    with warnings.catch_warnings(), pytest.raises(InputError) as caught:
        warnings.simplefilter("error")  # Pillow's own warnings would say it twice
        read_image(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_are_called_by_the_name_given():
    with pytest.raises(InputError, match="upload 3: not a picture"):
        read_image(b"no picture", name="upload 3")
    with pytest.raises(InputError, match="picture: not a picture"):
        read_image(b"no picture")


# Draft mode.


@pytest.mark.parametrize("size", [(1600, 1200), (900, 2000), (513, 513), (300, 200)])
def test_draft_is_never_smaller_than_asked_for(tmp_path, size):
    path = save(photo(*size), tmp_path / "a.jpg", quality=50)
    read = read_image(path, draft_size=256)
    assert min(read.size) >= min(256, *size)
    assert read.size[0] <= size[0]
    assert read_image(path).size == size


def test_draft_saves_work_on_photographs_and_shows_the_same(tmp_path):
    smooth = Image.effect_noise((1600, 1200), 60).resize((40, 30)).resize((1600, 1200))
    path = save(smooth.convert("RGB"), tmp_path / "a.jpg", quality=95)
    assert read_image(path, draft_size=128).size == (200, 150)
    transform = ImageTransform(size=64)
    drafted = transform.read(path).astype(int)
    np.testing.assert_allclose(drafted, transform(read_image(path)), atol=6)


def test_is_constant():
    assert is_constant(Image.new("RGB", (8, 8), (0, 0, 0)))
    assert is_constant(Image.new("RGB", (8, 8), (9, 7, 5)))
    one = Image.new("RGB", (8, 8), (0, 0, 0))
    one.putpixel((3, 3), (0, 0, 1))
    assert not is_constant(one)


def test_a_read_file_is_closed(tmp_path):
    path = save(photo(20, 20), tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path)
        read_image(io.BytesIO(path.read_bytes()).getvalue())
    path.rename(tmp_path / "b.png")
