"""Encoding and reading by CUDA graphs give what they give without: run with `pytest -m gpu`."""

import json
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from tiny_decoders import FEATURES, VOCABULARY, tiny_batch, tiny_decoder

from pictell.config import EncoderConfig
from pictell.data.batches import FeaturesOnDevice, StoredFeatures, near
from pictell.encoders.encoder import load_encoder
from pictell.training.cuda_graphs import RECORDED_AFTER, EncodingGraphs, ReadingGraphs
from pictell.training.loop import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU (or hidden by conftest.py)"),
]
LOOPS = pytest.mark.parametrize("name", ["attention", "adaptive", "topdown"])
PRECISIONS = pytest.mark.parametrize(("precision", "close"), [("no", 1e-4), ("fp16", 3e-2)])
AUTOCAST = {"no": nullcontext, "fp16": partial(torch.autocast, "cuda", torch.float16)}
LENGTHS = torch.tensor([5, 5, 5, 5])


def made(name: str, **options):
    return tiny_decoder(name, **options).float().cuda().train()


def batches():
    """Features (4, 9, FEATURES) and words (4, 5) of two batches."""
    features, words = (tensor.cuda() for tensor in tiny_batch())
    features = features.float()
    return [(features, words), (features.flip(0) * 0.5, words.flip(0))]


def gradients(decoder, read, pairs, owners=None) -> list[torch.Tensor]:
    """Summed over the batches, as accumulation sums them."""
    decoder.zero_grad()
    generator = torch.Generator("cuda").manual_seed(2)
    for features, words in pairs:
        output = read(features, words, LENGTHS, owners)
        weights = torch.randn(20, VOCABULARY, generator=generator, device="cuda")
        (output.logits.float() * weights).sum().add(output.attention_sums.square().sum()).backward()
    return [parameter.grad.clone() for parameter in decoder.parameters()]


@LOOPS
@PRECISIONS
def test_gradients_of_two_batches_are_those_without_graphs(name, precision, close):
    decoder = made(name, dropout=0.0)

    def plainly(*batch):
        with torch.autocast("cuda", torch.float16, enabled=precision == "fp16"):
            return decoder.teacher_forced(*batch)

    expected = gradients(decoder, plainly, batches())
    graphs = ReadingGraphs(decoder, AUTOCAST[precision])
    for _ in range(RECORDED_AFTER - 1):
        assert graphs(*batches()[0], LENGTHS) is None
    found = gradients(decoder, graphs, batches())
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= close * theirs.norm() + 1e-6


@LOOPS
def test_weights_that_changed_and_captions_that_share_a_picture_are_read(name):
    decoder = made(name, dropout=0.0)
    graphs, owners = ReadingGraphs(decoder, nullcontext), torch.tensor([0, 0, 3, 2], device="cuda")
    for _ in range(RECORDED_AFTER):
        graphs(*batches()[0], LENGTHS)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(0.9)
    found = gradients(decoder, graphs, batches(), owners)
    expected = gradients(decoder, decoder.teacher_forced, batches(), owners)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@PRECISIONS
def test_an_encoder_has_the_same_gradients(encoder_weights, precision, close):
    options = {"image_size": 64, "weights": str(encoder_weights), "fine_tune": True}
    encoder = load_encoder(EncoderConfig(name="test_resnet", **options)).cuda().train()
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (2, 5, 3, 64, 64), dtype=torch.uint8, generator=generator).cuda()
    weigh = torch.randn(5, encoder.grid[0] ** 2, encoder.feature_size, generator=generator).cuda()

    def gradients_of(encode):
        encoder.zero_grad()
        for pictures in pixels:  # two batches, as accumulation sums them
            (encode(pictures).float() * weigh).sum().backward()
        return torch.cat([p.grad.flatten() for p in encoder.trained])

    def plainly(pictures):
        with torch.autocast("cuda", torch.float16, enabled=precision == "fp16"):
            return encoder(pictures)

    expected = gradients_of(plainly)
    graphs = EncodingGraphs(encoder, AUTOCAST[precision])
    for _ in range(RECORDED_AFTER - 1):
        assert graphs(pixels[0]) is None
    assert (gradients_of(graphs) - expected).norm() <= close * expected.norm()
    with torch.no_grad():
        for parameter in encoder.trained:
            parameter.mul_(0.9)
    expected = gradients_of(plainly)
    assert (gradients_of(graphs) - expected).norm() <= close * expected.norm()


def test_dropout_differs_from_launch_to_launch():
    graphs = ReadingGraphs(made("attention", dropout=0.5), AUTOCAST["fp16"])
    batch = batches()[0]
    logits = [graphs(*batch, LENGTHS) for _ in range(RECORDED_AFTER + 2)]
    assert logits[RECORDED_AFTER - 2] is None
    first = logits[RECORDED_AFTER - 1].logits.clone()
    assert not torch.equal(graphs(*batch, LENGTHS).logits, first)


def test_what_has_no_graph_is_left_alone():
    decoder = made("attention")
    graphs = ReadingGraphs(decoder, AUTOCAST["fp16"])
    for _ in range(RECORDED_AFTER + 1):
        assert graphs(*batches()[0], torch.tensor([5, 5, 5, 4])) is None
    decoder.eval()
    for _ in range(RECORDED_AFTER + 1):
        assert graphs(*batches()[0], LENGTHS) is None


@pytest.mark.parametrize(
    ("name", "fine_tune"),
    [
        *((name, False) for name in ("attention", "adaptive", "topdown", "transformer", "rnn")),
        *((name, True) for name in ("attention", "rnn")),
    ],
)
def test_a_training_with_graphs_learns_as_one_without(tmp_path, tiny_config, name, fine_tune):
    options = {"decoder": {"name": name, "dropout": 0.0}, "encoder": {"fine_tune": fine_tune}}
    entropies = []
    for compiled in (True, False):
        config = tiny_config(**options, train={"epochs": 5, "compile": compiled})
        run = train(config, tmp_path / f"{compiled}")
        last = json.loads(run.log_file.read_text().splitlines()[-1])
        entropies.append(last["train"]["cross_entropy"])
    assert entropies[0] == pytest.approx(entropies[1], rel=0.05)


def test_features_are_kept_on_the_gpu():
    array = np.random.default_rng(0).standard_normal((700, 4, FEATURES)).astype(np.float16)
    stored = StoredFeatures(array, np.array([3, 699, 3, 300, 12]))
    kept = near(stored, torch.device("cuda"))
    assert isinstance(kept, FeaturesOnDevice)
    assert len(kept.rows) == 4
    chosen = np.array([1, 0, 2, 4, 3])
    assert torch.equal(kept(chosen).cpu(), stored(chosen))
    assert near(stored, torch.device("cpu")) is stored
