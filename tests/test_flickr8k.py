"""The main job on a small slice of real photographs, with real ImageNet features."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from pictell import Captioner
from pictell.cli import main
from pictell.data.prepare import prepare
from pictell.data.records import read_dataset, write_dataset

_SHARED = Path(__file__).parents[1] / ".." / "shared" / "data" / "flickr8k"
FLICKR8K = Path(os.environ.get("PICTELL_FLICKR8K", _SHARED))
SLICE = {"train": 48, "val": 12, "test": 12}

pytestmark = [
    pytest.mark.flickr8k,
    pytest.mark.slow,
    pytest.mark.skipif(not FLICKR8K.is_dir(), reason="the Flickr8k data set is not there"),
]


@pytest.fixture(scope="module")
def slice_folder(tmp_path_factory):
    """A data set of 72 photographs and two configs, in a folder of their own."""
    folder = tmp_path_factory.mktemp("flickr8k")
    prepare("flickr8k", FLICKR8K, folder / "all", progress=False)
    examples = read_dataset(folder / "all")
    chosen = [e for s, n in SLICE.items() for e in [e for e in examples if e.split == s][:n]]
    write_dataset(folder / "data", chosen)
    for name in ("rnn", "attention"):
        config = {
            "run": str(folder / name),
            "data": {"dataset": str(folder / "data"), "min_count": 2},
            "encoder": {
                "name": "tf_efficientnet_lite0",
                "features": str(folder / "features"),
                "batch_size": 24,
            },
            "decoder": {"name": name},
            "train": {"epochs": 3, "workers": 0},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_the_whole_comparison(slice_folder, capsys):
    out = slice_folder / "compare"
    configs = [str(slice_folder / f"{name}.yaml") for name in ("rnn", "attention")]
    assert main(["compare", *configs, "--out", str(out), "--beam", "1", "3"]) == 0
    comparison = json.loads((out / "comparison.json").read_text())
    assert [m["name"] for m in comparison["models"]] == ["rnn", "attention"]
    for model in comparison["models"]:
        assert model["beams"]["3"]["scores"]["BLEU-1"]["score"] > 0.1
    for name in ("rnn", "attention"):
        epochs = [
            entry
            for entry in map(json.loads, (slice_folder / name / "log.jsonl").open())
            if entry["kind"] == "epoch"
        ]
        losses = [epoch["train"]["cross_entropy"] for epoch in epochs]
        assert losses[-1] < losses[0] - 0.3  # it learns from photographs
    assert (out / "report.html").stat().st_size > 50_000

    rows = (slice_folder / "attention" / "evaluation" / "test-beam3" / "predictions.jsonl").open()
    row = json.loads(next(rows))
    photograph = next(
        e for e in read_dataset(slice_folder / "data") if e.image_id == row["image_id"]
    )
    caption = Captioner.load(slice_folder / "attention").caption(photograph.path, beam=3)[0]
    assert caption.words == row["words"]  # from the store and from the file
    assert caption.attention is not None
    assert caption.attention.shape == (len(caption.words), 14, 14)
    assert np.allclose(caption.attention.sum(axis=(1, 2)), 1, atol=1e-4)
    assert np.ptp(caption.attention) > 0
