"""Mixed precision on a GPU: run with `pytest -m gpu`."""

import json
import os
import signal

import pytest
import torch

from pictell.decoders.base import DECODERS
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import InterruptedTraining, Trainer, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU (or hidden by conftest.py)"),
]


def last_epoch(run: RunFolder) -> dict:
    return json.loads(run.log_file.read_text().splitlines()[-1])


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_fp16_is_the_default_and_learns_as_full_precision_does(tmp_path, tiny_config, decoder):
    options = {"decoder": {"name": decoder, "dropout": 0.0}}
    half = train(tiny_config(**options, train={"epochs": 5}), tmp_path / "half")
    full = train(
        tiny_config(**options, train={"epochs": 5, "precision": "none"}), tmp_path / "full"
    )
    assert (half.info["precision"], full.info["precision"]) == ("fp16", "no")
    assert half.load_state()["scaler"]["scale"] > 1
    losses = [last_epoch(run)["train"]["cross_entropy"] for run in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert half.info["peak_memory_mb"] > 0


def test_fp16_resumes(tmp_path, tiny_config, monkeypatch):
    config = tiny_config(decoder={"dropout": 0.0})
    whole = train(config, tmp_path / "whole")
    original = Trainer._step

    def step(self, window, batches):
        original(self, window, batches)
        if self.progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(InterruptedTraining):
            train(config, tmp_path / "cut")
    resumed = train(config, tmp_path / "cut", resume=True)
    ours, theirs = (last_epoch(run)["train"]["cross_entropy"] for run in (resumed, whole))
    assert ours == pytest.approx(theirs, rel=0.02)
