"""Decoding in processes that can be given up."""

import asyncio
import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pictell.data.images import ImageTransform, read_image
from pictell.serve.decoding import PREVIEW_SIDE, DecodingPool
from pictell.serve.limits import Limits, RefusedError

TRANSFORMS = [ImageTransform(size=64), ImageTransform(size=48, resize="crop")]


def saved(image: Image.Image, form: str = "PNG", **options) -> bytes:
    written = io.BytesIO()
    image.save(written, format=form, **options)
    return written.getvalue()


def noise(width: int = 120, height: int = 80) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


def with_pool(scenario, **limits):
    """Run a scenario with a pool of one process."""

    async def run():
        pool = DecodingPool(Limits(**{"decoders": 1, **limits}), TRANSFORMS)
        await pool.start()
        try:
            return await scenario(pool)
        finally:
            await pool.stop()

    return asyncio.run(asyncio.wait_for(run(), 60))


def refusal(data: bytes, **limits) -> RefusedError:
    async def scenario(pool):
        with pytest.raises(RefusedError) as refused:
            await pool.decode(data, "photo.png")
        return refused.value

    return with_pool(scenario, **limits)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_pixels_are_those_of_the_transforms(form):
    data = saved(noise(900, 700), form)
    decoded = with_pool(lambda pool: pool.decode(data, "photo"))
    assert decoded.size == (900, 700)
    assert decoded.preview is None
    for pixels, transform in zip(decoded.pixels, TRANSFORMS, strict=True):
        assert np.array_equal(pixels, transform.read(data))


def test_the_size_is_that_of_the_upright_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(noise(120, 80), exif=exif)
    assert with_pool(lambda pool: pool.decode(data, "photo")).size == (80, 120)


def test_a_preview_is_an_upright_jpeg_that_browsers_show():
    exif = Image.Exif()
    exif[0x0112] = 8
    data = saved(noise(3000, 1000), "TIFF", exif=exif)
    decoded = with_pool(lambda pool: pool.decode(data, "photo", preview=True))
    preview = Image.open(io.BytesIO(decoded.preview))
    assert (preview.format, preview.height) == ("JPEG", PREVIEW_SIDE)
    assert preview.width == pytest.approx(PREVIEW_SIDE / 3, abs=1)
    assert len(decoded.pixels) == 2


class TestRefusals:
    def test_text(self):
        refused = refusal(b"this is text")
        assert (refused.status, refused.code) == (415, "not_a_picture")
        assert "photo.png: not a picture; send JPEG" in refused.message

    def test_nothing(self):
        assert refusal(b"").code == "empty"

    def test_too_many_pixels_are_not_decoded(self):
        refused = refusal(saved(noise(200, 100)), max_megapixels=0.01)
        assert (refused.status, refused.code) == (413, "too_many_pixels")
        assert "200 x 100 pixels are more than the 10,000" in refused.message

    def test_too_many_frames(self):
        frames = [noise(20, 20) for _ in range(6)]
        data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
        refused = refusal(data, max_frames=5)
        assert (refused.status, refused.code) == (413, "too_many_frames")
        decoded = with_pool(lambda pool: pool.decode(data, "moving"), max_frames=6)
        first = read_image(data)
        assert np.array_equal(decoded.pixels[0], TRANSFORMS[0](first))

    def test_truncated(self):
        refused = refusal(saved(noise(), "JPEG")[:3000])
        assert (refused.status, refused.code) == (422, "undecodable")

    def test_formats_that_are_seldom_looked_after(self):
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
        assert Image.open(io.BytesIO(eps)).format == "EPS"  # Pillow would start another program
        assert refusal(eps).code == "not_a_picture"

    def test_too_much_memory(self):
        wide = Image.fromarray(np.zeros((5000, 5000), np.uint16))  # 16 bits go through float64
        refused = refusal(saved(wide), decoder_megabytes=400)
        assert (refused.status, refused.code) == (413, "too_much_memory")


def test_a_worker_that_takes_too_long_is_replaced():
    slow = saved(Image.new("RGB", (6000, 6000)))

    async def scenario(pool):
        before = pool.process_ids
        with pytest.raises(RefusedError) as refused:
            await pool.decode(slow, "slow.png")
        pool.limits = Limits(decoders=1)
        return refused.value, before, pool.process_ids, await pool.decode(saved(noise()), "next")

    refused, before, after, decoded = with_pool(scenario, decode_seconds=0.02)
    assert (refused.status, refused.code) == (422, "too_slow_to_decode")
    assert before != after
    assert decoded.size == (120, 80)
    assert not alive(before[0])


def test_a_worker_that_dies_is_replaced():
    async def scenario(pool):
        before = pool.process_ids
        os.kill(before[0], signal.SIGKILL)
        with pytest.raises(RefusedError) as refused:
            await pool.decode(saved(noise()), "unlucky.png")
        return refused.value, await pool.decode(saved(noise()), "next.png")

    refused, decoded = with_pool(scenario)
    assert (refused.status, refused.code) == (422, "undecodable")
    assert decoded.size == (120, 80)


def test_a_caller_that_goes_away_leaves_the_pipe_in_order():
    async def scenario(pool):
        leaving = asyncio.create_task(pool.decode(saved(noise(3000, 3000)), "left.png"))
        await asyncio.sleep(0.02)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        before = pool.process_ids
        decoded = await pool.decode(saved(noise(30, 20)), "next.png")
        return decoded.size, before == pool.process_ids

    assert with_pool(scenario) == ((30, 20), True)


def test_workers_end_with_the_pool():
    async def scenario(pool):
        return pool.process_ids

    assert not any(alive(number) for number in with_pool(scenario))


def alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_can_write_no_file(tmp_path):
    code = (
        "import sys\n"
        "from pictell.serve.decode_worker import _limit_process\n"
        "_limit_process(2_000_000_000)\n"
        f"with open({str(tmp_path / 'file')!r}, 'w') as file: file.write('x' * 100)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert (tmp_path / "file").read_text() == ""


def test_a_worker_loads_no_torch():
    code = (
        "import sys, pictell.serve.decode_worker\n"
        "print(sorted({'torch', 'timm', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
