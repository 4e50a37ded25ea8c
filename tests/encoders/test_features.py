import fcntl
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from shapes import COLOURS, ENCODER, SHAPES, draw_shape

from pictell.config import EncoderConfig
from pictell.data.records import Example
from pictell.data.views import PLAIN, View, crop_box
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.encoders.features import (
    FeatureStore,
    content_hashes,
    encode_pictures,
    rows_of,
    store_of,
)
from pictell.errors import InputError


@pytest.fixture
def config(encoder_weights, tmp_path) -> EncoderConfig:
    return EncoderConfig(
        name=ENCODER,
        weights=str(encoder_weights),
        image_size=64,
        features=str(tmp_path / "features"),
        batch_size=3,
    )


@pytest.fixture
def encoder(config) -> Encoder:
    return load_encoder(config)


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Eight pictures, all different."""
    return [
        draw_shape(tmp_path / f"{colour}_{shape}.png", colour, shape)
        for colour in COLOURS
        for shape in SHAPES
    ]


def encode(config: EncoderConfig, encoder: Encoder, paths: list[Path]) -> tuple[FeatureStore, int]:
    """Open the store anew, as another process would, and bring it up to date."""
    store = store_of(config, encoder)
    count = encode_pictures(encoder, store, paths, content_hashes(paths), workers=0)
    return store, count


def examples_of(paths: list[Path]) -> list[Example]:
    return [Example(image_id=p.name, path=p, captions=()) for p in paths]


def features_of(store: FeatureStore, paths: list[Path]) -> np.ndarray:
    return store.array()[rows_of(store, examples_of(paths))]


def direct(encoder: Encoder, paths: list[Path]) -> np.ndarray:
    """What the encoder says, without a store, in the store's batches."""
    parts = []
    for start in range(0, len(paths), encoder.config.batch_size):
        pixels = [
            encoder.transform.read(p) for p in paths[start : start + encoder.config.batch_size]
        ]
        with torch.inference_mode():
            parts.append(encoder(torch.from_numpy(np.stack(pixels))).half().numpy())
    return np.concatenate(parts)


def test_stored_features_are_the_encoders_output_in_fp16(config, encoder, paths):
    store, count = encode(config, encoder, paths)
    assert count == 8
    assert store.array().shape == (8, 4, 96)
    np.testing.assert_array_equal(features_of(store, paths), direct(encoder, paths))
    np.testing.assert_array_equal(features_of(store, paths[::-1]), direct(encoder, paths)[::-1])


def test_nothing_is_encoded_twice(config, encoder, paths):
    encode(config, encoder, paths[:5])
    seen = []
    store = store_of(config, encoder)
    hashes = content_hashes(paths)
    encode_pictures(encoder, store, paths, hashes, workers=0, on_progress=seen.append)
    assert seen == [3]
    assert encode(config, encoder, paths)[1] == 0


def test_numpy_opens_the_array_at_any_time(config, encoder, paths):
    for count in (1, 5, 8):
        store, _ = encode(config, encoder, paths[:count])
        for mode in (None, "r"):
            loaded = np.load(store.folder / "features.npy", mmap_mode=mode)
            assert loaded.dtype == np.float16
            np.testing.assert_array_equal(loaded, store.array())


def test_the_array_cannot_be_written_by_accident(config, encoder, paths):
    store, _ = encode(config, encoder, paths[:2])
    with pytest.raises(ValueError, match="read-only"):
        store.array()[0] = 0


def cut_data_of_the_next_row(folder: Path) -> None:
    """The process was killed while it wrote a batch: data beyond the index, no index line."""
    with open(folder / "features.npy", "ab") as file:
        file.write(b"\x11" * 100)


def cut_last_index_line(folder: Path) -> None:
    """... or while it wrote the index."""
    text = (folder / "index.jsonl").read_text()
    (folder / "index.jsonl").write_text(text[:-20])


def cut_data_and_index(folder: Path) -> None:
    cut_last_index_line(folder)
    with open(folder / "features.npy", "r+b") as file:
        file.truncate((folder / "features.npy").stat().st_size - 1000)


def cut_data_under_the_index(folder: Path) -> None:
    """A copy of the store that stopped in the middle of the second row."""
    with open(folder / "features.npy", "r+b") as file:
        file.truncate(128 + 4 * 96 * 2 + 100)


def lost_data(folder: Path) -> None:
    (folder / "features.npy").unlink()


@pytest.mark.parametrize(
    "cut",
    [
        cut_data_of_the_next_row,
        cut_last_index_line,
        cut_data_and_index,
        cut_data_under_the_index,
        lost_data,
    ],
)
def test_after_a_cut_it_goes_on_and_ends_the_same(config, encoder, paths, cut):
    store, _ = encode(config, encoder, paths[:5])
    cut(store.folder)
    store, count = encode(config, encoder, paths)
    assert count >= 3
    # Batches differ after a cut, and a convolution's last bits with them.
    np.testing.assert_allclose(
        features_of(store, paths), direct(encoder, paths), rtol=2e-3, atol=2e-3
    )
    np.testing.assert_array_equal(np.load(store.folder / "features.npy"), store.array())
    assert sorted(store.rows.values()) == list(range(8))
    assert encode(config, encoder, paths)[1] == 0


def test_rows_whose_data_are_lost_are_not_served(config, encoder, paths):
    store, _ = encode(config, encoder, paths[:5])
    cut_data_under_the_index(store.folder)
    reopened = store_of(config, encoder)
    assert list(reopened.rows.values()) == [0]
    with pytest.raises(InputError, match=r"not in .*; run pictell encode"):
        features_of(reopened, paths[:5])


def test_reading_a_store_never_writes_to_it(config, encoder, paths):
    """Another process may be in the middle of a line of the index."""
    store, _ = encode(config, encoder, paths[:5])
    cut_last_index_line(store.folder)
    before = (store.folder / "index.jsonl").read_bytes()
    assert len(store_of(config, encoder).rows) == 4
    assert (store.folder / "index.jsonl").read_bytes() == before


def test_a_changed_picture_is_encoded_anew(config, encoder, paths):
    store, _ = encode(config, encoder, paths)
    old = features_of(store, paths)[0].copy()
    draw_shape(paths[0], "yellow", "circle", shift=9)
    store, count = encode(config, encoder, paths)
    assert count == 1
    new = features_of(store, paths)[0]
    assert not np.array_equal(new, old)
    np.testing.assert_allclose(new, direct(encoder, paths[:1])[0], rtol=2e-3, atol=2e-3)


def test_a_changed_picture_is_never_served_stale(config, encoder, paths):
    store, _ = encode(config, encoder, paths)
    draw_shape(paths[0], "yellow", "circle", shift=9)
    with pytest.raises(InputError, match=f"{paths[0].name}: not in .*; run pictell encode"):
        rows_of(store, examples_of(paths))


def test_a_copy_of_a_picture_shares_its_row(config, encoder, paths, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[2].read_bytes())
    store, count = encode(config, encoder, [*paths, copy])
    assert count == 8
    rows = rows_of(store, examples_of([paths[2], copy]))
    assert rows[0] == rows[1]


def other_weights(config, tmp_path):
    state = load_file(config.weights)
    state["bn1.bias"] = state["bn1.bias"] + 0.01
    save_file(state, tmp_path / "other.safetensors")
    return replace(config, weights=str(tmp_path / "other.safetensors"))


OTHER_ENCODERS = {
    "weights": other_weights,
    "image_size": lambda config, folder: replace(config, image_size=96),
    "resize": lambda config, folder: replace(config, resize="crop"),
    "name": lambda config, folder: replace(config, name="test_byobnet", weights="random"),
}


@pytest.mark.usefixtures("quiet_random_weights")
@pytest.mark.parametrize("change", OTHER_ENCODERS)
def test_another_encoder_has_another_store(config, encoder, paths, tmp_path, change):
    store, _ = encode(config, encoder, paths[:2])
    other_config = OTHER_ENCODERS[change](config, tmp_path)
    other, count = encode(other_config, load_encoder(other_config), paths[:2])
    assert count == 2
    assert other.folder != store.folder
    assert store.folder.parent == other.folder.parent == Path(config.features)


def test_a_store_may_be_named_itself(config, encoder, paths):
    store, _ = encode(config, encoder, paths)
    moved = Path(config.features).with_name("moved")
    store.folder.rename(moved)
    again, count = encode(replace(config, features=str(moved)), encoder, paths)
    assert (again.folder, count) == (moved, 0)


def test_a_store_of_another_encoder_is_refused(config, encoder, paths, tmp_path):
    store, _ = encode(config, encoder, paths)
    other_config = replace(other_weights(config, tmp_path), features=str(store.folder))
    with pytest.raises(InputError, match=r"holds features of test_resnet.*not of") as caught:
        store_of(other_config, load_encoder(other_config))
    assert "--encoder.features" in str(caught.value)


def solid(path: Path, colour: int, note: bytes) -> Path:
    """A black picture; the note makes files differ though their pixels do not."""
    Image.new("RGB", (64, 64), (colour, colour, colour)).save(path, exif=note)
    return path


def test_black_pictures_are_noticed(config, encoder, tmp_path):
    black = [solid(tmp_path / f"{i}.png", 0, b"Exif\0\0MM\0*" + bytes([i])) for i in range(3)]
    assert len(set(content_hashes(black))) == 3
    with pytest.raises(InputError, match="have the same features: the pictures are all alike"):
        encode(config, encoder, black)
    assert store_of(config, encoder).rows == {}


def test_one_picture_saved_twice_is_no_broken_encoder(config, encoder, paths, tmp_path):
    again = tmp_path / "again.png"
    Image.open(paths[0]).save(again, compress_level=1)
    assert again.read_bytes() != paths[0].read_bytes()
    store, count = encode(config, encoder, [paths[0], again])
    assert count == 2
    np.testing.assert_array_equal(*features_of(store, [paths[0], again]))


def test_features_that_do_not_depend_on_the_picture_are_noticed(config, encoder, paths):
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    with pytest.raises(InputError, match="the encoder's weights are broken"):
        encode(config, encoder, paths)


def test_features_beyond_fp16_are_noticed(config, encoder, paths):
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.mul_(1e5)
    with pytest.raises(InputError, match=r"red_circle.png: its features are not finite in fp16"):
        encode(config, encoder, paths)


def test_a_picture_that_does_not_decode_is_named_and_what_came_before_is_kept(
    config, encoder, paths
):
    good = paths[6].read_bytes()
    paths[6].write_bytes(good[:100])
    with pytest.raises(InputError) as caught:
        encode(config, encoder, paths)
    assert str(paths[6]) in str(caught.value)
    assert "\n" not in str(caught.value)
    store = store_of(config, encoder)
    assert len(store.rows) == 6
    np.testing.assert_array_equal(features_of(store, paths[:6]), direct(encoder, paths[:6]))
    paths[6].write_bytes(good)
    assert encode(config, encoder, paths)[1] == 2


def test_a_missing_picture_is_named(config, encoder, paths, tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such picture"):
        content_hashes([*paths, tmp_path / "none.png"])
    with pytest.raises(InputError, match="cannot be read"):
        content_hashes([tmp_path])


def test_a_broken_index_is_told(config, encoder, paths):
    store, _ = encode(config, encoder, paths[:2])
    (store.folder / "index.jsonl").write_text("garbage\n")
    with pytest.raises(InputError, match=r"index\.jsonl: not as expected .* encode again"):
        store_of(config, encoder)


def test_two_writers_are_refused(config, encoder, paths):
    store, _ = encode(config, encoder, paths[:2])
    with open(store.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another process that encodes holds it
        with pytest.raises(InputError, match="another process is encoding into it"):
            encode(config, encoder, paths)
    assert encode(config, encoder, paths)[1] == 6


def test_a_writer_sees_what_another_has_added_since(config, encoder, paths):
    early = store_of(config, encoder)
    encode(config, encoder, paths[:5])
    assert encode_pictures(encoder, early, paths, content_hashes(paths), workers=0) == 3
    np.testing.assert_allclose(
        features_of(early, paths), direct(encoder, paths), rtol=2e-3, atol=2e-3
    )


def test_workers_give_the_same(config, encoder, tmp_path):
    paths = []
    for number in range(70):  # fewer are read without workers
        paths.append(tmp_path / f"{number}.png")
        Image.effect_noise((40, 40), 10 + number).convert("RGB").save(paths[-1])
    config = replace(config, batch_size=32)
    store = store_of(config, encoder)
    encode_pictures(encoder, store, paths, content_hashes(paths), workers=2)
    np.testing.assert_allclose(
        features_of(store, paths), direct(encoder, paths), rtol=2e-3, atol=2e-3
    )


@pytest.mark.parametrize("view", [View(1), View(2), View(0, True), View(2, True)])
def test_views_are_encoded_beside_the_picture_once(config, encoder, paths, view):
    store, _ = encode(config, encoder, paths)
    names = [view.name(content) for content in content_hashes(paths)]
    for count in (8, 0):
        store = store_of(config, encoder)
        assert encode_pictures(encoder, store, paths, names, workers=0, view=view) == count
    rows = rows_of(store, examples_of(paths), (PLAIN, view))
    plain, seen = store.array()[rows].reshape(2, 8, 4, 96)
    np.testing.assert_array_equal(plain, direct(encoder, paths))
    assert all(not np.array_equal(ours, theirs) for ours, theirs in zip(seen, plain, strict=True))
    pixels = []
    for path in paths:
        box = (0.0, 0.0, 1.0, 1.0)
        if view.crop:
            box = crop_box(hashlib.sha256(path.read_bytes()).hexdigest(), view.crop)
        left, top, right, bottom = (64 * share for share in box)
        image = Image.open(path).convert("RGB")
        image = image.resize((64, 64), Image.Resampling.BILINEAR, (left, top, right, bottom))
        pixels.append(np.asarray(ImageOps.mirror(image) if view.mirrored else image))
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(seen, expected, rtol=2e-3, atol=2e-3)


def test_a_view_that_is_not_there_is_told(config, encoder, paths):
    store, _ = encode(config, encoder, paths)
    with pytest.raises(InputError, match=f"{paths[0].name}: not in .*; run pictell encode"):
        rows_of(store, examples_of(paths), (PLAIN, View(1)))


def test_hashes_are_remembered_until_the_file_changes(paths, tmp_path, monkeypatch):
    cache = tmp_path / "hashes.json"
    first = content_hashes(paths, cache)
    assert set(json.loads(cache.read_text())) == {str(p) for p in paths}
    draw_shape(paths[1], "green", "circle", shift=5)
    read = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or original(self))
    second = content_hashes(paths, cache)
    assert read == [paths[1]]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False] + [True] * 6


def test_store_json_tells_what_it_holds(config, encoder, paths):
    store, _ = encode(config, encoder, paths[:1])
    described = json.loads((store.folder / "store.json").read_text())
    assert described["encoder"] == ENCODER
    assert (described["image_size"], described["grid"], described["feature_size"]) == (
        64,
        [2, 2],
        96,
    )
    assert described["key"] == encoder.fingerprint()
