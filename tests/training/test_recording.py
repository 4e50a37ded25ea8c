"""Which batches are encoded and read by a graph; without a GPU, where recording stands aside."""

import weakref
from contextlib import nullcontext

import pytest
import torch
from tiny_decoders import tiny_batch, tiny_decoder

from pictell.config import EncoderConfig
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.errors import InputError
from pictell.training import cuda_graphs, loop
from pictell.training.cuda_graphs import RECORDED_AFTER, EncodingGraphs, ReadingGraphs, can_record
from pictell.training.loop import train
from pictell.training.objective import CrossEntropy

LENGTHS = torch.tensor([5, 5, 5, 5])


@pytest.fixture
def encoder(encoder_weights) -> Encoder:
    """A small one that is trained."""
    options = {"image_size": 64, "weights": str(encoder_weights), "fine_tune": True}
    return load_encoder(EncoderConfig(name="test_resnet", **options))


@pytest.fixture
def recorded(monkeypatch):
    """Shapes of what was recorded; recording leaves a module as it is."""
    shapes = []
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    monkeypatch.setattr(
        torch.cuda,
        "make_graphed_callables",
        lambda module, samples, **_: shapes.append([tuple(s.shape) for s in samples]),
    )
    return shapes


@pytest.mark.parametrize("name", ["attention", "adaptive", "topdown"])
def test_a_shape_that_comes_often_is_recorded_once_and_read_alike(recorded, name):
    decoder, (features, words) = tiny_decoder(name, dropout=0.0).train(), tiny_batch()
    graphs, owners = ReadingGraphs(decoder, nullcontext), torch.tensor([0, 0, 3, 2])
    for _ in range(RECORDED_AFTER - 1):
        assert graphs(features, words, LENGTHS) is None
    found = [graphs(features, words, LENGTHS), graphs(features, words, LENGTHS, owners)]
    assert recorded == [[tuple(features.shape), tuple(words.shape)]]
    for output, shown in zip(found, (None, owners), strict=True):
        expected = decoder.teacher_forced(features, words, LENGTHS, shown)
        assert output is not None
        torch.testing.assert_close(output.logits, expected.logits)
        torch.testing.assert_close(output.attention_sums, expected.attention_sums)


def test_what_has_no_graph_is_not_recorded(recorded):
    decoder, (features, words) = tiny_decoder("attention").train(), tiny_batch()
    graphs = ReadingGraphs(decoder, nullcontext)
    for _ in range(RECORDED_AFTER + 1):
        assert graphs(features, words, torch.tensor([5, 5, 5, 4])) is None
        with torch.no_grad():
            assert graphs(features, words, LENGTHS) is None
    decoder.eval()
    for _ in range(RECORDED_AFTER + 1):
        assert graphs(features, words, LENGTHS) is None
    assert recorded == []


def test_numbers_of_pictures_that_come_often_are_recorded_and_encoded_alike(recorded, encoder):
    graphs = EncodingGraphs(encoder.train(), nullcontext)
    pixels = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8)
    for _ in range(RECORDED_AFTER - 1):
        assert graphs(pixels) is None
        assert graphs(pixels[:2]) is None
    found = graphs(pixels)
    assert recorded == [[(3, 3, 64, 64)]]
    torch.testing.assert_close(found, encoder(pixels))
    with torch.no_grad():
        assert graphs(pixels) is None
    assert graphs(pixels[:2]) is not None
    assert recorded == [[(3, 3, 64, 64)], [(2, 3, 64, 64)]]
    encoder.eval()
    assert graphs(pixels) is None


def test_few_numbers_of_pictures_are_recorded(recorded, encoder):
    graphs = EncodingGraphs(encoder.train(), nullcontext)
    pixels = torch.randint(256, (6, 3, 64, 64), dtype=torch.uint8)
    for count in range(1, 7):
        for _ in range(RECORDED_AFTER):
            graphs(pixels[:count])
    assert [shape[0] for ((*shape,),) in recorded] == [1, 2, 3, 4]


def test_a_training_encodes_and_reads_by_graphs_what_they_are_for(
    recorded, tmp_path, tiny_config, monkeypatch
):
    monkeypatch.setattr(loop, "can_record", lambda device: True)
    options = {"decoder": {"name": "rnn"}, "encoder": {"fine_tune": True}}
    train(tiny_config(**options, train={"epochs": 2}), tmp_path / "rnn")
    assert {len(shapes) for shapes in recorded} == {1}  # pixels: its decoder has no loop of its own
    recorded.clear()
    train(tiny_config(decoder={"name": "attention"}, train={"epochs": 2}), tmp_path / "attention")
    assert {len(shapes) for shapes in recorded} == {2}  # features and words: the encoder is frozen


def test_the_batch_before_is_gone_when_the_next_one_may_be_recorded(
    tmp_path, tiny_config, monkeypatch
):
    losses, alive, original = [], [], CrossEntropy.loss

    def loss(self, batch, window):
        alive.extend(loss() is not None for loss in losses)
        value, tally = original(self, batch, window)
        losses.append(weakref.ref(value))
        return value, tally

    monkeypatch.setattr(CrossEntropy, "loss", loss)
    train(tiny_config(train={"epochs": 1, "accumulation": 2, "batch_size": 4}), tmp_path / "run")
    assert len(losses) > 2
    assert not any(alive)


def test_a_recording_that_fails_says_how_to_go_on(recorded, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("operation failed\nand a long trace")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    decoder, (features, words) = tiny_decoder("attention").train(), tiny_batch()
    graphs = ReadingGraphs(decoder, nullcontext)
    for _ in range(RECORDED_AFTER - 1):
        graphs(features, words, LENGTHS)
    with pytest.raises(InputError, match=r"\(operation failed\).*--train\.compile false"):
        graphs(features, words, LENGTHS)


def test_nothing_is_recorded_where_processes_share_the_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_SHARING", tmp_path / "control")
    assert can_record(torch.device("cuda"))
    assert not can_record(torch.device("cpu"))
    (tmp_path / "control").touch()
    assert not can_record(torch.device("cuda"))
