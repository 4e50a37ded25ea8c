"""A frozen CNN with fused convolutions gives what the CNN gives."""

import copy

import pytest
import timm
import torch
from torch import nn

from pictell.config import EncoderConfig
from pictell.encoders import frozen
from pictell.encoders.encoder import Encoder
from pictell.encoders.frozen import FusedConvolution, fuse

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


def backbone(name: str, dtype=torch.float32) -> nn.Module:
    """Random weights, and batch norms that do something."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, global_pool="").eval().to(dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


def norms_left(traced) -> int:
    used = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    return sum(isinstance(traced.get_submodule(name), nn.BatchNorm2d) for name in used)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "convolutions"),
    [
        ("test_resnet", 64, 15),
        ("resnet18", 64, 20),  # sums of residual blocks, with and without a convolution
        ("resnet50", 64, 53),
        ("tf_efficientnet_lite0", 65, 49),  # TensorFlow's uneven padding, at an odd size
        ("mobilenetv3_small_100", 64, 52),  # hard-swish, squeeze and excitation
        ("resnext50_32x4d", 64, 53),  # groups
    ],
)
def test_equals_the_backbone(name, side, convolutions):
    model = backbone(name)
    fast = fuse(copy.deepcopy(model))
    assert fast is not None
    used = {str(node.target) for node in fast.graph.nodes if node.op == "call_module"}
    fused = [m for n in used if isinstance(m := fast.get_submodule(n), FusedConvolution)]
    assert len(fused) >= convolutions - 1
    assert norms_left(fast) == 0
    with torch.inference_mode():
        for pictures in (2, 1, 3):  # weights are laid out anew for another shape
            pixels = torch.randn(pictures, 3, side, side)
            expected = model.forward_features(pixels)
            (result,) = fast(pixels.to(memory_format=torch.channels_last))
            error = (result - expected).norm() / expected.norm()
            assert error < 1e-5


def test_a_residual_block_becomes_one_operation_a_convolution():
    fast = fuse(backbone("resnet18"))
    assert fast is not None
    called = [node for node in fast.graph.nodes if node.op.startswith("call")]
    modules = [fast.get_submodule(str(n.target)) for n in called if n.op == "call_module"]
    assert sum(isinstance(m, FusedConvolution) for m in modules) == 20
    assert not any(isinstance(m, nn.ReLU) for m in modules)
    assert not any(n.op == "call_function" for n in called)  # no sums


def test_what_cannot_be_traced_stays_as_it_is(monkeypatch):
    class Branching(nn.Module):
        def forward_features(self, pixels):
            return pixels if pixels.sum() > 0 else -pixels

    assert fuse(Branching()) is None
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert fuse(backbone("test_resnet")) is None


def test_the_encoder_uses_it_only_when_frozen_and_nothing_is_differentiated(
    encoder_weights, monkeypatch
):
    calls = []
    original = frozen.FusedConvolution.forward
    monkeypatch.setattr(
        FusedConvolution, "forward", lambda self, *a: calls.append(1) or original(self, *a)
    )
    config = EncoderConfig(name="test_resnet", weights=str(encoder_weights), image_size=64)
    encoder = Encoder(config, backbone("test_resnet"))
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    calls.clear()
    with torch.inference_mode():
        fast = encoder(pixels)
    assert calls
    calls.clear()
    slow = encoder(pixels)
    assert not calls
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    names = set(encoder.state_dict())
    assert not any("fused" in name for name in names)  # no part of the weights


def test_weights_that_move_are_fused_anew(encoder_weights):
    config = EncoderConfig(name="test_resnet", weights=str(encoder_weights), image_size=64)
    encoder = Encoder(config, backbone("test_resnet"))
    pixels = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        before = encoder(pixels)
        for parameter in encoder.backbone.parameters():
            parameter.mul_(1.5)
        after = encoder(pixels)
    assert not torch.allclose(before, after)
    expected = encoder(pixels).detach()
    assert (after - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("pictures", [1, 4, 9])
def test_many_pictures_give_what_each_gives_alone(pictures):
    config = EncoderConfig(name="test_resnet", weights="random", image_size=64)
    encoder = Encoder(config, backbone("test_resnet"))
    pixels = torch.randint(0, 256, (pictures, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        together = encoder(pixels)
        alone = torch.cat([encoder(pixel[None]) for pixel in pixels])
    with torch.enable_grad():
        plain = encoder(pixels)  # not fused, and all at once
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together, plain.detach(), rtol=1e-4, atol=1e-4)
