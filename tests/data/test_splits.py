import random
from pathlib import Path

import pytest
from made_sources import make_table, prepare_quietly

from pictell.data.checks import find_copies
from pictell.data.records import Example, read_dataset
from pictell.data.splits import complete_splits
from pictell.errors import InputError


def _split_of(folder: Path) -> dict[str, str]:
    return {example.image_id: example.split for example in read_dataset(folder)}


def test_made_splits_do_not_depend_on_the_order_of_the_file(tmp_path):
    source = make_table(tmp_path / "in")
    first = prepare_quietly(source, tmp_path / "a")
    header, *lines = source.read_text().splitlines()
    pairs = [lines[n : n + 2] for n in range(0, len(lines), 2)]
    random.Random(1).shuffle(pairs)
    source.write_text("\n".join([header, *(line for pair in pairs for line in pair)]))
    assert prepare_quietly(source, tmp_path / "b").sha256 == first.sha256
    assert {name: split.pictures for name, split in first.splits.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    other = prepare_quietly(source, tmp_path / "c", split_seed=1)
    assert other.sha256 != first.sha256


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("t" * 16 + "e" * 4, {"train": 14, "val": 2, "test": 4}),
        ("t" * 12 + "v" * 8, {"train": 12, "val": 4, "test": 4}),
        ("t" * 20, {"train": 16, "val": 2, "test": 2}),
        ("e" * 20, {"test": 20}),
    ],
)
def test_partial_splits_are_completed(tmp_path, given, expected):
    summary = prepare_quietly(make_table(tmp_path / "in", splits=given), tmp_path / "out")
    assert {name: split.pictures for name, split in summary.splits.items()} == expected
    names = dict(zip("tve", ("train", "val", "test"), strict=True))
    before = {f"{number:02d}.png": names[letter] for number, letter in enumerate(given)}
    after = _split_of(tmp_path / "out")
    # Whoever was asked for pictures gives them; given test pictures never move.
    assert all(after[i] == "test" for i, split in before.items() if split == "test")
    assert all(after[i] != "train" for i, split in before.items() if split == "val")


def test_a_share_of_zero_makes_no_such_split(tmp_path):
    summary = prepare_quietly(make_table(tmp_path), tmp_path / "out", test_share=0.0)
    assert set(summary.splits) == {"train", "val"}


def test_copies_stay_in_one_made_split():
    examples = [
        Example(image_id=f"{n:03d}", path=Path(f"{n}"), captions=("x",)) for n in range(300)
    ]
    contents = {e.image_id: str(int(e.image_id) // 3) for e in examples}
    done, _ = complete_splits(examples, contents, val_share=0.2, test_share=0.2, seed=0)
    assert [e.image_id for e in done] == [e.image_id for e in examples]
    assert sum(e.split == "val" for e in done) == 60
    assert "leaks" not in find_copies(done, contents)
    parted, _ = complete_splits(examples, {}, val_share=0.2, test_share=0.2, seed=0)
    assert "leaks" in find_copies(parted, contents)  # without the rule they would be parted


def test_too_few_pictures_to_divide(tmp_path):
    with pytest.raises(InputError, match="2 different pictures cannot be divided into train, val"):
        prepare_quietly(make_table(tmp_path, pictures=2), tmp_path / "out")
    summary = prepare_quietly(make_table(tmp_path, pictures=3), tmp_path / "out")
    assert [split.pictures for split in summary.splits.values()] == [1, 1, 1]
