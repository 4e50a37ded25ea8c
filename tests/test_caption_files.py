"""Captioning many files: the same captions as one by one, in order, without the bad ones."""

import io
from pathlib import Path

import pytest
from PIL import Image

from pictell.caption_files import caption_files, find_pictures
from pictell.captioner import Captioner
from pictell.errors import InputError


@pytest.fixture(scope="module")
def captioner(trained_runs):
    return Captioner.load(trained_runs / "attention")


@pytest.fixture
def pictures(shapes_dataset, tmp_path) -> list[Path]:
    """All the shapes, and in their midst a text and a picture that is cut short."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for path in (shapes_dataset / "pictures").iterdir():
        (folder / "deeper" / path.name).write_bytes(path.read_bytes())
    (folder / "deeper" / "text.png").write_text("not a picture")
    whole = io.BytesIO()
    Image.effect_noise((90, 90), 80).convert("RGB").save(whole, format="JPEG")
    (folder / "cut.jpg").write_bytes(whole.getvalue()[:1500])
    return find_pictures([folder])


def captioned(captioner, paths, **options):
    found = {}
    failed = caption_files(
        captioner, paths, captioner.search, lambda p, c: found.update({p: c}), **options
    )
    return found, failed


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_captions_are_those_of_single_pictures_in_any_batch(captioner, pictures, batch_size):
    found, failed = captioned(captioner, pictures, batch_size=batch_size)
    assert [path.name for path in failed] == ["cut.jpg", "text.png"]
    assert list(found) == [p for p in pictures if p not in failed]
    assert len({caption.text for caption in found.values()}) > 3
    for path, caption in found.items():
        alone = captioner.caption(path)[0]
        assert caption.text == alone.text
        assert caption.log_probability == pytest.approx(alone.log_probability, abs=1e-4)
        assert (caption.image_size, caption.seen_box) == (alone.image_size, alone.seen_box)


def test_reasons_name_what_is_wrong(captioner, pictures):
    _, failed = captioned(captioner, pictures)
    reasons = {path.name: reason for path, reason in failed.items()}
    assert reasons["text.png"].startswith("not a picture in a format that is read (JPEG, ")
    assert reasons["cut.jpg"].startswith("the picture does not decode")


def test_progress_counts_all_pictures(captioner, pictures):
    counts = []
    captioned(captioner, pictures, batch_size=4, on_progress=counts.append)
    assert sum(counts) == len(pictures)
    assert max(counts) == 4


def test_few_pictures_are_decoded_ahead(captioner, pictures):
    """Memory is bounded: decoding stays a few batches before the model."""
    taken = []

    def watched():
        for number, path in enumerate(pictures * 10):
            taken.append(number)
            yield path

    lead = []
    caption_files(
        captioner,
        watched(),
        captioner.search,
        lambda path, caption: lead.append(len(taken) - len(lead)),
        batch_size=2,
    )
    assert max(lead) < 40  # of 160


def test_exif_orientation_is_honoured(captioner, pictures, tmp_path):
    """A picture that lies on its side, with a note which side is up, is the picture upright."""
    for number, path in enumerate(p for p in pictures if p.name.startswith("val_red")):
        upright = Image.open(path).convert("RGB").resize((64, 48))
        upright.save(tmp_path / f"upright{number}.png")
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
        lying = upright.transpose(Image.Transpose.ROTATE_90)
        lying.save(tmp_path / f"lying{number}.png", exif=exif)
        plain = captioner.caption(tmp_path / f"upright{number}.png")[0]
        found, _ = captioned(captioner, [tmp_path / f"lying{number}.png"])
        turned = found[tmp_path / f"lying{number}.png"]
        assert turned.image_size == (64, 48)
        assert turned.text == plain.text
        assert turned.log_probability == pytest.approx(plain.log_probability, abs=1e-5)


def test_files_are_found_below_folders_once_and_in_order(pictures, tmp_path):
    folder = tmp_path / "photos"
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    found = find_pictures([folder / "cut.jpg", folder])
    assert found == [folder / "cut.jpg", *sorted((folder / "deeper").iterdir())]


def test_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no pictures in this folder"):
        find_pictures([tmp_path])
