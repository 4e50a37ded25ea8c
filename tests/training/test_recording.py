"""Which batches are read by a graph; without a GPU, where recording stands aside."""

from contextlib import nullcontext

import pytest
import torch
from tiny_decoders import tiny_batch, tiny_decoder

from pictell.errors import InputError
from pictell.training import cuda_graphs
from pictell.training.cuda_graphs import RECORDED_AFTER, ReadingGraphs, can_record

LENGTHS = torch.tensor([5, 5, 5, 5])


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
