"""Two processes compute what one does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pictell.training.checkpoint import RunFolder
from pictell.training.loop import Trainer, train

SCRIPT = Path(__file__).with_name("one_of_two_processes.py")


def run_two(config_file: Path, out: Path) -> None:
    """Start both processes on this machine's CPU and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in "01":
        environment = {
            **os.environ,
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(config_file), str(out)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes == [0, 0], "\n".join(output[-3000:] for output in outputs)
    assert "epoch 1" in outputs[0]
    assert "epoch 1" not in outputs[1]  # what all processes do is told once


@pytest.mark.slow
def test_two_processes_sum_to_the_gradient_of_one(tmp_path, tiny_config, monkeypatch):
    # 32 captions in batches of 5 are 7: windows of 2, 2, 2 and 1, and in the last one process has
    # nothing to do. Weights stand still, so that each window can be compared by itself.
    train_options = {"batch_size": 5, "decoder_lr": 1e-9, "epochs": 1}
    together = tiny_config(
        decoder={"dropout": 0.0},
        encoder={"features": str(tmp_path / "features")},  # empty: one process has to encode
        train={**train_options, "accumulation": 1},
    )
    (tmp_path / "config.yaml").write_text(together.to_yaml())
    run_two(tmp_path / "config.yaml", tmp_path)

    expected = []
    original = Trainer._update

    def update(self):
        expected.append(torch.cat([p.grad.flatten() for p in self.update.parameters]))
        return original(self)

    monkeypatch.setattr(Trainer, "_update", update)
    alone = tiny_config(decoder={"dropout": 0.0}, train={**train_options, "accumulation": 2})
    one = train(alone, tmp_path / "alone")
    two = RunFolder.open(tmp_path / "run")
    assert (one.info["processes"], two.info["processes"]) == (1, 2)
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"gradients_{rank}.pt")
        assert len(gradients) == len(expected) == 4
        for ours, theirs in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)

    # SIGINT reached the second process only: both stopped after the same step.
    stops = [(tmp_path / f"stopped_{rank}.txt").read_text() for rank in (0, 1)]
    assert stops[0] == stops[1]
    assert "after step 2" in stops[0]
    assert RunFolder(tmp_path / "interrupted").load_state()["progress"]["step"] == 2
