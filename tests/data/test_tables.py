"""Tables and folders made by oneself; the pictures are 8 px wide."""

import json

import pytest
from made_sources import captions_of, make_pictures, splits_of

from pictell.data.readers import read_csv, read_folder, read_jsonl
from pictell.errors import InputError

BOM = "\ufeff"
WINDOWS = "Image;Caption;Split\r\na.png;a dog;dev\r\nb.png;b;train\r\na.png;one, two;\r\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'image,caption,split\na.png,a dog,dev\nb.png,b,train\na.png,"one, two",dev\n'),
        ("t.csv", "split,image,caption\ndev,a.png,a dog\ntrain,b.png,b\ndev,a.png,one, two\n"),
        ("t.csv", BOM + WINDOWS),
        ("t.tsv", "image\tcaption\tsplit\na.png\ta dog\tdev\n\nb.png\tb\ttrain\na.png\tone, two\t"),
    ],
)  # fmt: skip
def test_csv(tmp_path, name, text):
    make_pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / name).write_bytes(text.encode())
    reading = read_csv(tmp_path / name)
    assert captions_of(reading) == {"a.png": ("a dog", "one, two"), "b.png": ("b",)}
    assert splits_of(reading) == {"a.png": "val", "b.png": "train"}
    assert reading.problems == {"pictures_without_caption": ["c.png"]}


def test_tsv_with_stray_quotes(tmp_path):
    make_pictures(tmp_path, "a.png")
    (tmp_path / "t.tsv").write_text('image\tcaption\na.png\t"Go" she said\na.png\tan "inner" one\n')
    assert captions_of(read_csv(tmp_path / "t.tsv"))["a.png"] == ('"Go" she said', 'an "inner" one')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'image'; .* holds nothing"),
        ("a.png,a dog\n", "line 1: no column 'image'.*'a.png', 'a dog'"),
        ("image,words\na.png,x\n", "line 1: no column 'caption'"),
        ("image,caption\na.png,x\n\na.png\n", "line 4: 1 cells where the header has 2"),
        ("image,caption,split\na.png,one, two,train\n", "line 2: 4 cells.*must stand in quotes"),
        ('image,caption\na.png,x\na.png,"open\nb.png,x\n', r"line 3: .*twice \(\"\"\)"),
        ("image,caption,split\na.png,x,train\na.png,y,eval\n", "line 3: unknown split 'eval'"),
        ("image,caption,split\na.png,x,train\na.png,y,test\n", "two splits.*test in .*line 3"),
        ("image,caption\n", "holds no captions"),
        ("image,caption\nz.gif,x\n", "none of the captions.*name 'z.gif', files are called 'a.png"),
    ],
)
def test_csv_errors(tmp_path, text, message):
    make_pictures(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_csv(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


def test_no_pictures_at_all(tmp_path):
    (tmp_path / "t.csv").write_text("image,caption\na.png,x\n")
    with pytest.raises(InputError, match="holds no pictures; say where they are with --images"):
        read_csv(tmp_path / "t.csv")
    with pytest.raises(InputError, match="gone: no such folder of pictures"):
        read_csv(tmp_path / "t.csv", images=tmp_path / "gone")


def test_jsonl(tmp_path):
    make_pictures(tmp_path / "p", "a.png", "b.png")
    rows = [
        {"image": "a.png", "caption": "one", "split": "valid"},
        {"image": "a.png", "captions": ["two\u2028parts", "three"], "extra": {"n": 1}},
        {"path": "b.png", "captions": ["b"], "split": ""},
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "t.jsonl").write_text(text, encoding="utf-8")
    reading = read_jsonl(tmp_path / "t.jsonl", images=tmp_path / "p")
    assert captions_of(reading) == {"a.png": ("one", "two\u2028parts", "three"), "b.png": ("b",)}
    assert splits_of(reading) == {"a.png": "val", "b.png": ""}
    assert reading.examples[0].extra == {"n": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("3", "line 2: must be a JSON object"),
        ('{"picture": "a.png", "caption": "x"}', "line 2: expected 'image'.*found 'picture', 'c"),
        ('{"image": "a.png"}', "line 2: expected 'image'.*'caption'"),
        ('{"image": "a.png", "captions": "x"}', "line 2: expected"),
        ('{"image": "a.png", "caption": "x", "split": 1}', "line 2: unknown split 1"),
        ('{"image": "a.png", "caption": "x", "extra": 1}', "line 2: 'extra' must be"),
    ],
)
def test_jsonl_errors(tmp_path, line, message):
    make_pictures(tmp_path, "a.png")
    (tmp_path / "t.jsonl").write_text('{"image": "a.png", "caption": "x"}\n' + line)
    with pytest.raises(InputError, match=message):
        read_jsonl(tmp_path / "t.jsonl")


def test_jsonl_ids_of_its_own_must_differ(tmp_path):
    make_pictures(tmp_path, "a.png", "b.png")
    rows = [{"image": f"{n}.png", "caption": "x", "image_id": i} for n, i in (("a", 1), ("b", 2))]
    file = tmp_path / "t.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert captions_of(read_jsonl(file)) == {"1": ("x",), "2": ("x",)}
    file.write_text(file.read_text().replace("2", "1"))
    with pytest.raises(InputError, match=r"image_id '1' names two pictures, .*a\.png and .*b\.png"):
        read_jsonl(file)


# How captions find their pictures


def test_names_are_found_by_path_then_by_file_name(tmp_path):
    make_pictures(tmp_path, "x/1.png", "y/1.png", "y/2.PNG", "y/drei ü.png")
    rows = ["x/1.png", "y/1.png", "elsewhere/2.png", ".\\y\\1.png", "1.png", "drei u\u0308"]
    rows.append(str(tmp_path / "x" / "1.png"))
    (tmp_path / "t.csv").write_text(
        "image,caption\n" + "\n".join(f"{name},{n}" for n, name in enumerate(rows))
    )
    reading = read_csv(tmp_path / "t.csv")
    assert captions_of(reading) == {
        "x/1.png": ("0", "6"),
        "y/1.png": ("1", "3"),
        "y/2.PNG": ("2",),
        "y/drei ü.png": ("5",),
    }
    # Two pictures have this name: taking either would be a guess.
    assert reading.problems == {"captions_without_picture": ["1.png (1 caption)"]}


def test_hidden_files_are_no_pictures_and_links_are_followed_once(tmp_path):
    make_pictures(tmp_path / "far", "1.png")
    make_pictures(tmp_path / "set", "__MACOSX/._1.png", "._1.png", ".cache/2.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "t.csv").write_text("image,caption\n1.png,x\n")
    reading = read_csv(tmp_path / "set" / "t.csv")
    assert [e.path for e in reading.examples] == [tmp_path / "set" / "linked" / "1.png"]
    assert reading.problems == {}


# A folder


def test_folder(tmp_path):
    make_pictures(tmp_path, "train/1.png", "valid/deep/1.png", "test/2.png", "3.png", "train/4.png")
    for name, text in (
        ("train/1.txt", "a dog\r\n\r\ntwo dogs"),
        ("valid/deep/1.txt", "b"),
        ("test/2.txt", "c"),
        ("3.txt", ""),
        ("train/5.txt", "nobody"),
        ("README.txt", "hello"),
    ):
        (tmp_path / name).write_bytes(text.encode())
    reading = read_folder(tmp_path)
    assert captions_of(reading)["train/1.png"] == ("a dog", "two dogs")
    assert splits_of(reading) == {
        "train/1.png": "train",
        "valid/deep/1.png": "val",
        "test/2.png": "test",
        "3.png": "",
    }
    assert reading.problems == {
        "pictures_without_caption": ["train/4.png"],
        "captions_without_picture": ["5.txt"],
    }


def test_folder_errors(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_folder(tmp_path / "gone")
    make_pictures(tmp_path, "1.png")
    with pytest.raises(InputError, match=r"looked for a \.txt file beside each of 1 pictures"):
        read_folder(tmp_path)
    (tmp_path / "1.txt").write_bytes("狗".encode("gb18030"))
    with pytest.raises(InputError, match=r"1\.txt: not UTF-8"):
        read_folder(tmp_path)
