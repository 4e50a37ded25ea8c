"""The readers of published sets, each on a layout made by hand; the pictures are 8 px wide."""

import json
from pathlib import Path

import pytest
from made_sources import captions_of, make_pictures, splits_of

from pictell.data.readers import (
    read_coco,
    read_flickr,
    read_karpathy,
)
from pictell.errors import InputError

# Flickr


def _flickr(folder: Path, images: str = "images", lists: bool = True) -> Path:
    make_pictures(folder / images, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    lines = [f"{n}.jpg#{k}\tA dog, {n}{k} ." for k in (1, 0) for n in (2, 1, 3, 4)]
    (folder / "Flickr8k.token.txt").write_text("\n".join([*lines, "9.jpg.1#0\tno picture"]))
    if lists:
        for word, names in (("train", "1.jpg\n"), ("dev", "2.jpg\n"), ("test", "3.jpg\n8.jpg\n")):
            (folder / f"Flickr_8k.{word}Images.txt").write_text(names)
    return folder


@pytest.mark.parametrize(
    "images",
    ["images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "pics/deep"],
)
def test_flickr_as_published(tmp_path, images):
    reading = read_flickr(_flickr(tmp_path, images))
    assert captions_of(reading)["1.jpg"] == ("A dog, 10 .", "A dog, 11 .")  # by number, not by line
    assert splits_of(reading) == {"1.jpg": "train", "2.jpg": "val", "3.jpg": "test", "4.jpg": ""}
    assert reading.problems == {
        "captions_without_picture": ["9.jpg.1 (1 caption)"],
        "split_entries_without_picture": ["8.jpg"],
    }


def test_names_do_not_depend_on_how_the_folder_is_written(tmp_path, monkeypatch):
    _flickr(tmp_path / "set")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert splits_of(read_flickr(Path("../set"))) == splits_of(read_flickr(tmp_path / "set"))
    assert "1.jpg" in splits_of(read_flickr(Path("../set")))


def test_flickr_texts_in_a_folder_of_their_own(tmp_path):
    _flickr(tmp_path / "Flickr8k_text")
    (tmp_path / "Flickr8k_text" / "images").rename(tmp_path / "Images")
    reading = read_flickr(tmp_path)
    assert splits_of(reading)["3.jpg"] == "test"


def test_flickr_windows_file_with_byte_order_mark(tmp_path):
    file = _flickr(tmp_path) / "Flickr8k.token.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    reading = read_flickr(tmp_path)
    assert captions_of(reading)["2.jpg"] == ("A dog, 20 .", "A dog, 21 .")
    assert len(reading.examples) == 4


def test_flickr_chinese(tmp_path):
    _flickr(tmp_path)
    text = "1.jpg#zhc#1 一只狗。\n1.jpg#zhc#0 狗 在跑。\n2.jpg#zhc#0 猫\n"
    (tmp_path / "flickr8kzhc.caption.txt").write_text(text, encoding="utf-8")
    reading = read_flickr(tmp_path, language="zh")
    assert captions_of(reading) == {"1.jpg": ("狗 在跑。", "一只狗。"), "2.jpg": ("猫",)}
    assert reading.problems["pictures_without_caption"] == ["3.jpg", "4.jpg"]
    assert splits_of(reading)["2.jpg"] == "val"


def test_flickr_chinese_never_falls_back_to_english(tmp_path):
    with pytest.raises(InputError, match=r"language 'zh'; looked for flickr8kzhc\.caption\.txt"):
        read_flickr(_flickr(tmp_path), language="zh")


def test_flickr_from_kaggle(tmp_path):
    make_pictures(tmp_path / "Images", "1.jpg", "2.jpg")
    (tmp_path / "captions.txt").write_text(
        "image,caption\n"
        "1.jpg,A dog , a cat , and a bird .\n"
        '1.jpg,"A dog , in quotes ."\n'
        '1.jpg,"He said ""go"" ."\n'
        '2.jpg,"An unclosed quote\n'
        "2.jpg,A man .\n"
    )
    reading = read_flickr(tmp_path)
    assert captions_of(reading) == {
        "1.jpg": ("A dog , a cat , and a bird .", "A dog , in quotes .", 'He said "go" .'),
        "2.jpg": ('"An unclosed quote', "A man ."),
    }
    assert set(splits_of(reading).values()) == {""}


def test_flickr30k_bars(tmp_path):
    make_pictures(tmp_path / "flickr30k_images", "1.jpg")
    (tmp_path / "results.csv").write_text(
        "image_name| comment_number| comment\n1.jpg| 1| Two men , here .\n1.jpg| 0 A dog runs .\n"
    )
    assert captions_of(read_flickr(tmp_path)) == {"1.jpg": ("A dog runs .", "Two men , here .")}


def test_flickr_wrong_encoding_names_file_and_byte(tmp_path):
    _flickr(tmp_path)
    (tmp_path / "flickr8kzhc.caption.txt").write_bytes(
        "1.jpg#zhc#0 一只狗".encode("gb18030")
    )  # 一只 happens to be UTF-8 as well
    with pytest.raises(InputError, match=r"flickr8kzhc.*not UTF-8 \(byte 0xb9 at offset 16\)"):
        read_flickr(tmp_path, language="zh")


def test_flickr_malformed_line(tmp_path):
    file = _flickr(tmp_path) / "Flickr8k.token.txt"
    file.write_text("1.jpg#0\tfine\n\nno key here\n")
    with pytest.raises(InputError, match=r"token\.txt, line 3: no picture and caption in 'no key"):
        read_flickr(tmp_path)


def test_flickr_without_anything_known_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"looked for Flickr8k\.token\.txt, results_20130124"):
        read_flickr(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read_flickr(tmp_path / "gone")


def test_flickr_picture_in_two_split_lists(tmp_path):
    _flickr(tmp_path)
    (tmp_path / "Flickr_8k.testImages.txt").write_text("1.jpg\n")
    with pytest.raises(
        InputError, match=r"testImages\.txt: 1\.jpg is in the split 'train' as well"
    ):
        read_flickr(tmp_path)


# Karpathy


def _karpathy(file: Path, **changes) -> Path:
    entry = {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "A dog."}], **changes}
    file.write_text(json.dumps({"images": [entry], "dataset": "x"}))
    return file


def test_karpathy(tmp_path):
    make_pictures(tmp_path, "val2014/1.jpg", "train2014/1.jpg")
    file = _karpathy(
        tmp_path / "dataset_coco.json",
        split="restval",
        filepath="val2014",
        cocoid=7,
        sentences=[{"raw": "A dog."}, {"tokens": ["two", "dogs"]}],
    )
    for source in (file, tmp_path):
        (example,) = read_karpathy(source).examples
        assert example.image_id == "val2014/1.jpg"
        assert example.captions == ("A dog.", "two dogs")
        assert (example.split, example.extra) == ("train", {"coco_id": 7})


def test_karpathy_pictures_elsewhere(tmp_path):
    make_pictures(tmp_path / "far", "1.jpg")
    file = _karpathy(tmp_path / "dataset_flickr8k.json")
    assert captions_of(read_karpathy(file, images=tmp_path / "far")) == {"1.jpg": ("A dog.",)}


def test_karpathy_errors(tmp_path):
    make_pictures(tmp_path, "1.jpg")
    file = tmp_path / "d.json"
    with pytest.raises(InputError, match="no such Karpathy JSON"):
        read_karpathy(file)
    with pytest.raises(InputError, match=r"expected one dataset\*\.json, found none"):
        read_karpathy(tmp_path)
    file.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_karpathy(file)
    file.write_text('{"annotations": []}')
    with pytest.raises(InputError, match=r"expected the key 'images'.*found 'annotations'"):
        read_karpathy(file)
    with pytest.raises(InputError, match=r"images\[0\]: unknown split 'eval'"):
        read_karpathy(_karpathy(file, split="eval"))
    with pytest.raises(InputError, match=r"images\[0\]: expected filename, split and sentences"):
        read_karpathy(_karpathy(file, sentences=None))


# COCO


def _coco(file: Path, *names: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    notes = [{"image_id": n, "caption": f"a {n}{k}"} for n in range(len(names)) for k in "ab"]
    file.write_text(json.dumps({"images": images, "annotations": notes}))


def test_coco_folder(tmp_path):
    make_pictures(tmp_path, "train2017/1.jpg", "val2017/1.jpg", "val2017/2.jpg", "val2017/3.jpg")
    _coco(tmp_path / "annotations" / "captions_train2017.json", "1.jpg")
    _coco(tmp_path / "annotations" / "captions_val2017.json", "1.jpg", "2.jpg")
    reading = read_coco(tmp_path)
    splits = {"train2017/1.jpg": "train", "val2017/1.jpg": "val", "val2017/2.jpg": "val"}
    assert splits_of(reading) == splits  # the same file name in two folders: two pictures
    assert captions_of(reading)["val2017/2.jpg"] == ("a 1a", "a 1b")
    assert reading.examples[2].extra == {"coco_id": 1}
    assert reading.problems == {"pictures_without_caption": ["val2017/3.jpg"]}


def test_coco_one_file_says_nothing_of_splits_nor_of_the_other_folder(tmp_path):
    make_pictures(tmp_path, "train2017/9.jpg", "val2017/1.jpg")
    _coco(tmp_path / "annotations" / "captions_val2017.json", "1.jpg")
    reading = read_coco(tmp_path / "annotations" / "captions_val2017.json")
    assert splits_of(reading) == {"val2017/1.jpg": ""}
    assert reading.problems == {}


def test_coco_images_folder_given(tmp_path):
    make_pictures(tmp_path / "pictures", "1.jpg")
    _coco(tmp_path / "captions_train2017.json", "1.jpg")
    reading = read_coco(tmp_path / "captions_train2017.json", images=tmp_path / "pictures")
    assert captions_of(reading) == {"1.jpg": ("a 0a", "a 0b")}


def test_coco_errors(tmp_path):
    with pytest.raises(InputError, match=r"no captions_\*\.json in it nor in its folder annot"):
        read_coco(tmp_path)
    file = tmp_path / "captions_train2017.json"
    file.write_text('{"info": 1}')
    with pytest.raises(InputError, match="expected the keys 'images' and 'annotations', found 'in"):
        read_coco(file)
    file.write_text('{"images": [], "annotations": [{"image_id": 1, "bbox": []}]}')
    with pytest.raises(InputError, match=r"KeyError: 'caption'.*not instances_"):
        read_coco(file)
