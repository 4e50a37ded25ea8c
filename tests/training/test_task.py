from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import shape_examples

from pictell.data.batches import DecodedPixels, StoredFeatures
from pictell.data.records import dataset_hash, read_dataset, write_dataset
from pictell.data.views import training_views
from pictell.decoders.base import DECODERS, build_decoder
from pictell.encoders.encoder import load_encoder
from pictell.errors import InputError
from pictell.training.loss import Tally, loss_sums, top5_hits
from pictell.training.task import all_positions, build_task
from pictell.training.validation import (
    TeacherForcedCaptions,
    region_features,
    teacher_forced_captions,
)


def test_each_picture_of_a_split_has_its_own_features(tiny_config):
    task = build_task(tiny_config())
    split = task.split("val")
    assert isinstance(split.pictures, StoredFeatures)
    stored = split.pictures(np.array([2, 0])).float()
    pixels = [task.encoder.transform.read(split.examples[i].path) for i in (2, 0)]
    with torch.inference_mode():
        direct = task.encoder(torch.from_numpy(np.stack(pixels)))
    torch.testing.assert_close(stored, direct, rtol=2e-3, atol=2e-3)


def test_a_fine_tuned_encoder_gets_pixels(tiny_config):
    task = build_task(tiny_config(encoder={"fine_tune": True}))
    assert task.store is None
    split = task.split("val")
    assert isinstance(split.pictures, DecodedPixels)
    pixels = split.pictures(np.array([1]))
    assert pixels.dtype == torch.uint8
    features = region_features(pixels, task.encoder, torch.device("cpu"))
    assert features.shape == (1, 4, 96)


def test_an_empty_split_is_told(tmp_path, tiny_config):
    examples = [e for e in shape_examples(tmp_path / "pictures") if e.split != "val"]
    write_dataset(tmp_path, examples)
    task = build_task(tiny_config(data={"dataset": str(tmp_path)}))
    with pytest.raises(InputError, match="no pictures in split 'val'; it has: test, train"):
        task.split("val")


def test_pictures_without_captions_are_left_out(tmp_path, tiny_config):
    examples = shape_examples(tmp_path / "pictures")
    examples[0] = replace(examples[0], captions=())
    write_dataset(tmp_path, examples)
    task = build_task(tiny_config(data={"dataset": str(tmp_path)}))
    assert len(task.split("train").examples) == 7


def test_pictures_of_no_split_are_not_encoded(tmp_path, tiny_config):
    examples = shape_examples(tmp_path / "pictures")
    (tmp_path / "broken.png").write_text("no picture")
    examples.append(replace(examples[0], image_id="x", path=tmp_path / "broken.png", split=""))
    write_dataset(tmp_path, examples)
    build_task(tiny_config(data={"dataset": str(tmp_path)}))


def test_all_positions_are_every_picture_in_order(tiny_config):
    split = build_task(tiny_config()).split("train")
    parts = all_positions(split, 3)
    assert [len(p) for p in parts] == [3, 3, 2]
    assert np.concatenate(parts).tolist() == list(range(8))


def test_references_are_tokenised_captions_of_all_pictures(tiny_config, shapes_dataset):
    split = build_task(tiny_config()).split("val")
    examples = [e for e in read_dataset(shapes_dataset) if e.split == "val"]
    assert split.references[1][1] == ["zebra", "square"]
    assert [len(r) for r in split.references] == [len(e.captions) for e in examples]


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_teacher_forced_figures_are_those_of_each_caption_alone(tiny_config, name, batch_size):
    config = tiny_config(decoder={"name": name}, train={"batch_size": batch_size})
    task = build_task(config)
    split = task.split("train")
    torch.manual_seed(0)
    decoder = build_decoder(
        config.decoder,
        vocab_size=len(task.vocabulary),
        feature_size=96,
        cells=(2, 2),
        pooled_grid=3,
    )
    forced = teacher_forced_captions(
        decoder, split, task.encoder, torch.device("cpu"), config.train
    )
    assert len(forced.words) == 32
    for position, image in enumerate(split.captions.images):
        words = torch.from_numpy(split.captions.words[position])
        features = split.pictures(np.array([image])).float()
        length = torch.tensor([len(words) - 1])
        with torch.inference_mode():
            output = decoder.teacher_forced(features, words[None, :-1], length)
        entropy, regularisation = loss_sums(output, words[1:], length, "one")
        assert forced.cross_entropy[position] == pytest.approx(entropy.item(), rel=1e-5)
        assert forced.regularisation[position] == pytest.approx(regularisation.item(), rel=1e-5)
        assert forced.top5[position] == top5_hits(output.logits, words[1:]).item()
        assert forced.words[position] == len(words) - 1


def test_teacher_forced_sums_over_captions_and_pictures():
    forced = TeacherForcedCaptions(
        cross_entropy=np.array([2.0, 4.0, 6.0]),
        top5=np.array([1.0, 2.0, 3.0]),
        words=np.array([2.0, 3.0, 5.0]),
        regularisation=np.array([0.5, 0.25, 0.0]),
    )
    assert forced.tally() == Tally(
        cross_entropy=12.0, top5=6.0, words=10.0, regularisation=0.75, captions=3
    )
    pictures = forced.per_picture(np.array([1, 3, 1]), 4)
    assert pictures["cross_entropy"].tolist() == [0, 8, 0, 4]
    assert pictures["words"].tolist() == [0, 7, 0, 3]


def test_an_encoder_may_be_given(tiny_config):
    config = tiny_config()
    encoder = load_encoder(config.encoder)
    assert build_task(config, encoder=encoder).encoder is encoder


def test_fewer_training_pictures_are_always_the_same_and_nested(tiny_config, shapes_dataset):
    def used(pictures):
        task = build_task(tiny_config(data={"pictures": pictures}))
        return task, [e.image_id for e in task.split("train").examples]

    all_of_them = used(0)[1]
    task, five = used(5)
    assert len(five) == 5
    assert five == [i for i in all_of_them if i in set(five)]  # in the order of the file
    assert set(used(3)[1]) < set(five)
    assert used(8)[1] == all_of_them
    # The data set is the same one, and so are its other splits.
    assert task.data_hash == dataset_hash(read_dataset(shapes_dataset))
    assert len(task.split("val").examples) == 4
    assert len(task.split("test").examples) == 2


def test_words_of_training_pictures_that_are_left_out_are_not_known(tiny_config):
    one = build_task(tiny_config(data={"pictures": 1}))
    (example,) = one.split("train").examples
    words = {w for c in example.captions for w in one.tokenizer.tokenize(c)}
    assert set(one.vocabulary.words[4:]) == words


def test_training_pictures_that_are_left_out_are_not_encoded(tmp_path, tiny_config):
    config = tiny_config(data={"pictures": 2}, encoder={"features": str(tmp_path)})
    store = build_task(config).store
    assert store is not None
    assert len(store.rows) == 2 + 4 + 2


@pytest.mark.parametrize("fine_tune", [False, True])
def test_only_training_pictures_have_views(tmp_path, tiny_config, fine_tune):
    config = tiny_config(
        encoder={"features": str(tmp_path), "fine_tune": fine_tune},
        train={"crops": 2, "flip": True},
    )
    task = build_task(config, views=training_views(config.train))
    train, val = task.split("train"), task.split("val")
    assert val.view_counts is None
    assert train.view_counts is not None
    assert train.view_counts.tolist() == [6] * 32
    pictures = train.pictures(np.array([v * 8 + 3 for v in range(6)]))
    assert len({picture.numpy().tobytes() for picture in pictures}) == 6
    if not fine_tune:
        assert task.store is not None
        assert len(task.store.rows) == 6 * 8 + 4 + 2
    # Evaluation, which shows pictures as they are, asks for nothing more.
    assert build_task(config).split("train").view_counts is None


def test_more_training_pictures_than_there_are(tiny_config, shapes_dataset):
    message = f"data.pictures is 9, but the training split of {shapes_dataset} has 8 pictures"
    with pytest.raises(InputError, match=message):
        build_task(tiny_config(data={"pictures": 9}))
