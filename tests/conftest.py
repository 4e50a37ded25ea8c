"""Tiny data, shared by the tests: pictures of coloured shapes, and an encoder that fits in 1 MB."""

import os

# Tiny tensors are fastest on one thread; set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import warnings
from pathlib import Path

import pytest
from PIL import Image
from shapes import ENCODER, shape_examples, tiny_values

from pictell.config import Config
from pictell.data.records import write_dataset


def pytest_configure(config: pytest.Config) -> None:
    """Hide a GPU from all but `pytest -m gpu`: bit-for-bit equalities hold on a CPU."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def shapes_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with dataset.jsonl: 8 train, 4 val, 2 test pictures. Not to be written to."""
    folder = tmp_path_factory.mktemp("shapes")
    write_dataset(folder, shape_examples(folder / "pictures"))
    return folder


@pytest.fixture(scope="session")
def encoder_weights(tmp_path_factory: pytest.TempPathFactory, shapes_dataset: Path) -> Path:
    """A checkpoint of the tiny encoder: random kernels, batch norms settled on the shapes.

    (Without settled batch norms a random network gives nearly the same features for all pictures.)
    """
    import numpy as np
    import timm
    import torch
    from safetensors.torch import save_file

    pictures = sorted((shapes_dataset / "pictures").iterdir())
    pixels = np.stack([np.asarray(Image.open(p), np.float32) for p in pictures]) / 128 - 1
    torch.manual_seed(1)
    model = timm.create_model(ENCODER, pretrained=False).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def feature_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of feature stores for all tests that only want features quickly."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def tiny_config(shapes_dataset: Path, encoder_weights: Path, feature_folder: Path):
    """Make a config of a training that takes a second; sections are overridden by keyword."""

    def make(**sections) -> Config:
        values = tiny_values(shapes_dataset, encoder_weights, feature_folder)
        for name, section in sections.items():
            values[name] |= section
        return Config.from_dict(values)

    return make


@pytest.fixture(scope="session")
def trained_runs(
    tmp_path_factory: pytest.TempPathFactory,
    shapes_dataset: Path,
    encoder_weights: Path,
    feature_folder: Path,
) -> Path:
    """Folder with a finished run of each decoder, rnn and attention. Not to be written to."""
    from pictell.training.loop import train

    folder = tmp_path_factory.mktemp("runs")
    for name in ("rnn", "attention"):
        values = tiny_values(shapes_dataset, encoder_weights, feature_folder)
        values["decoder"]["name"] = name
        values["train"]["epochs"] = 30
        values["train"]["patience"] = 30
        train(Config.from_dict(values), folder / name)
    return folder


@pytest.fixture
def quiet_random_weights():
    """Leave out the warning that random weights mean little."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*random weights")
        yield
