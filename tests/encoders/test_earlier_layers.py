"""Earlier layers stand beside the last one in each cell."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from torch.nn.functional import avg_pool2d

from pictell.config import EncoderConfig
from pictell.encoders.earlier_layers import beside_the_last, layer_outputs
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.encoders.features import FeatureStore
from pictell.encoders.frozen import FusedConvolution
from pictell.encoders.weights import load_weights
from pictell.errors import InputError

pytestmark = pytest.mark.usefixtures("quiet_random_weights")


def encoder(name="resnet18", **options):
    options = {"name": name, "weights": "random", "image_size": 64, **options}
    return load_encoder(EncoderConfig(**options))


def random_pixels(size: int, images: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8, generator=generator)


def test_maps_worked_out_by_hand():
    last = torch.tensor([[[[3.0]], [[1.0]]]])  # root mean square: sqrt(5)
    earlier = torch.tensor([[[[1.0, 3.0], [5.0, -1.0]]]])  # mean 2, which is its root mean square
    result = beside_the_last([last, earlier])
    assert result.shape == (1, 3, 1, 1)
    assert result.flatten().tolist() == pytest.approx([3, 1, 5**0.5])


def test_each_picture_is_scaled_by_itself():
    torch.manual_seed(0)
    last, earlier = torch.randn(3, 8, 2, 2), torch.randn(3, 5, 4, 4)
    together = beside_the_last([last, earlier])
    for i in range(3):
        alone = beside_the_last([last[i : i + 1], 100 * earlier[i : i + 1]])
        torch.testing.assert_close(together[i : i + 1], alone)
    scales = together[:, 8:].square().mean(dim=(1, 2, 3)), last.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(*scales)


def test_a_layer_of_zeros_stays_zero():
    result = beside_the_last([torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)])
    assert result.flatten().tolist() == [1, 1, 0, 0]


def test_stages_of_a_resnet_equal_torchvisions():
    """The last stage as without the option, and the one before it averaged over 2 x 2 cells."""
    with_layers = encoder(earlier_layers="layer3")
    model = torchvision.models.resnet18(weights=None).eval()
    state = with_layers.backbone.state_dict()
    model.load_state_dict({n: state.get(n, t) for n, t in model.state_dict().items()}, strict=True)
    pixels = random_pixels(64)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    parts = list(model.children())
    with torch.inference_mode():
        third = torch.nn.Sequential(*parts[:7])((pixels / 255 - mean) / std)  # (2, 256, 4, 4)
        last = parts[7](third)  # (2, 512, 2, 2)
        third = avg_pool2d(third, 2)
        scale = (last.square().mean((1, 2, 3)) / third.square().mean((1, 2, 3))).sqrt()
        expected = torch.cat([last, third * scale[:, None, None, None]], 1)
        result = with_layers(pixels)
    assert (with_layers.grid, with_layers.feature_size) == ((2, 2), 768)
    torch.testing.assert_close(
        result, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4 * float(last.abs().max())
    )


@pytest.mark.parametrize(
    ("name", "layers", "size", "side", "width"),
    [
        ("tf_efficientnet_lite0", "blocks.4,blocks.5", 96, 3, 1280 + 112 + 192),
        ("vit_tiny_patch16_224", "blocks.5, blocks.8", 224, 14, 3 * 192),
        ("vit_tiny_patch16_224", "blocks.2.attn.qkv", 224, 14, 192 + 576),  # inside of a block
        ("swin_tiny_patch4_window7_224", "layers.2", 224, 7, 768 + 384),
        ("convnext_atto", "stages.2", 64, 2, 320 + 160),
    ],
)
def test_backbones_of_all_kinds(name, layers, size, side, width):
    with_layers = encoder(name, image_size=size, earlier_layers=layers)
    without = encoder(name, image_size=size)
    pixels = random_pixels(size)
    with torch.inference_mode():
        cells, alone = with_layers(pixels), without(pixels)
    assert (with_layers.grid, with_layers.feature_size) == ((side, side), width)
    assert cells.shape == (2, side * side, width)
    torch.testing.assert_close(cells[..., : alone.shape[2]], alone)
    earlier = cells[..., alone.shape[2] :]
    assert float(earlier.std()) > 0.1 * float(alone.std())


def test_fused_convolutions_give_the_same(monkeypatch):
    with_layers = encoder("tf_efficientnet_lite0", earlier_layers="blocks.4,blocks.6")
    pixels = random_pixels(64, images=5)
    calls = []
    original = FusedConvolution.forward
    monkeypatch.setattr(
        FusedConvolution, "forward", lambda self, *a: calls.append(1) or original(self, *a)
    )
    with torch.inference_mode():
        fused = with_layers(pixels)
    assert calls
    calls.clear()
    plain = with_layers(pixels)  # differentiated, so that nothing is fused
    assert not calls
    assert (fused - plain).norm() < 1e-5 * plain.norm()


def test_a_layer_that_is_fused_away_is_still_there():
    """The norm after a convolution is no operation of its own when fused."""
    with_layers = encoder(earlier_layers="bn1")
    pixels = random_pixels(64)
    with torch.inference_mode():
        result = with_layers(pixels)
    assert result.shape == (2, 4, 512 + 64)
    assert (result - with_layers(pixels)).norm() < 1e-5 * result.norm()


def test_gradients_reach_what_is_fine_tuned():
    with_layers = encoder(earlier_layers="layer3", fine_tune=True, fine_tune_from=3)
    with_layers(random_pixels(64))[..., 512:].sum().backward()  # the cells of layer3 alone
    backbone = with_layers.backbone
    assert any(p.grad is not None and p.grad.any() for p in backbone.layer3.parameters())
    assert all(p.grad is None for p in backbone.layer2.parameters())


def test_other_layers_are_other_features():
    layers = ["", "layer3", "layer2", "layer2,layer3", "layer3,layer2"]
    assert len({encoder(earlier_layers=names).fingerprint() for names in layers}) == len(layers)


def test_a_store_says_which_layers(tmp_path):
    with_layers = encoder(earlier_layers="layer2, layer3")
    store = FeatureStore.open(with_layers, tmp_path)
    assert store.description["earlier_layers"] == ["layer2", "layer3"]
    assert store.feature_size == 512 + 128 + 256
    assert store.folder != FeatureStore.open(encoder(), tmp_path).folder


def test_threads_do_not_get_each_others_outputs():
    backbone = encoder(earlier_layers="layer3").backbone
    first, second = torch.ones(1, 3, 64, 64), -torch.ones(2, 3, 64, 64)
    meanwhile = []

    def other_thread(*_):
        if not meanwhile:  # between the first one's layer3 and its end
            meanwhile.append(None)
            with ThreadPoolExecutor(1) as pool:
                meanwhile[0] = pool.submit(layer_outputs, backbone, second, ["layer3"]).result()

    expected = layer_outputs(backbone, first, ["layer3"])[1]
    handle = backbone.layer4.register_forward_hook(other_thread)
    result = layer_outputs(backbone, first, ["layer3"])[1]
    handle.remove()
    assert torch.equal(result, expected)
    assert torch.equal(meanwhile[0][1], layer_outputs(backbone, second, ["layer3"])[1])


def test_no_hook_is_left():
    with_layers = encoder(earlier_layers="layer3")
    layer_outputs(with_layers.backbone, torch.zeros(1, 3, 64, 64), ["layer3"])
    assert not any(module._forward_hooks for module in with_layers.backbone.modules())


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("resnet18", "layer5", r"names 'layer5', which resnet18 lacks; did you mean layer\d"),
        ("resnet18", "nothing", "which resnet18 lacks: conv1, bn1, "),
        ("resnet18", "layer3,", "'layer3,'; it must be different layers with a comma"),
        ("resnet18", "layer3,layer3", "must be different layers"),
        ("resnet18", "global_pool", "names 'global_pool', which does nothing on the way"),
    ],
)
def test_layers_that_cannot_be_used(name, layers, message):
    with pytest.raises(InputError, match=message):
        encoder(name, earlier_layers=layers)


def test_a_layer_without_a_grid_is_told():
    backbone = load_weights("resnet18", "random")
    backbone.layer3.append(torch.nn.Flatten())
    backbone.layer3.append(torch.nn.Unflatten(1, (256, 4, 4)))
    config = EncoderConfig(
        name="resnet18", weights="random", image_size=64, earlier_layers="layer3.2"
    )
    with pytest.raises(InputError, match=r"'layer3\.2', but not all of these layers of resnet18"):
        Encoder(config, backbone)
