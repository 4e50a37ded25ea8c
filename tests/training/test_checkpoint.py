import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from pictell.config import Config
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train
from pictell.training.task import build_task
from pictell.training.validation import write_greedy


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shapes_dataset, encoder_weights, feature_folder) -> RunFolder:
    """A finished run of one epoch. Not to be written to."""
    config = Config.from_dict(
        {
            "data": {"dataset": str(shapes_dataset), "min_count": 1},
            "encoder": {
                "name": "test_resnet",
                "weights": str(encoder_weights),
                "image_size": 64,
                "features": str(feature_folder),
            },
            "decoder": {"embedding_size": 8, "hidden_size": 8, "attention_size": 8},
            "train": {"batch_size": 8, "epochs": 1, "workers": 0},
        }
    )
    return train(config, tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture
def run(trained, tmp_path) -> RunFolder:
    """A copy of the run that may be spoilt."""
    copy = tmp_path / "run"
    copy.mkdir()
    for file in trained.path.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    return RunFolder.open(copy)


def test_a_run_folder_holds_what_the_design_says(trained):
    names = {p.name for p in trained.path.iterdir()}
    assert {
        "config.yaml",
        "vocab.json",
        "run.json",
        "model.safetensors",
        "log.jsonl",
        "state",
    } == names
    assert (trained.path / "state" / "last.pt").exists()
    assert not list(trained.path.rglob("*.tmp"))


def test_run_json_tells_what_was_done(trained):
    info = trained.info
    assert info["finished"] is True
    assert (info["best_epoch"], info["epochs"], info["processes"]) == (1, 1, 1)
    assert info["data"]["train_pictures"] == 8
    assert info["data"]["train_captions"] == 32
    assert info["data"]["val_pictures"] == 4
    assert info["encoder"]["trained_parameters"] == 0
    assert info["decoder"]["regions"] == 196
    decoder = trained.load_decoder()
    assert info["decoder"]["parameters"] == sum(p.numel() for p in decoder.parameters())
    assert info["data"]["vocab_size"] == len(trained.vocabulary) == decoder.vocab_size
    assert {"torch", "timm", "pictell"} <= info["versions"].keys()
    assert info["hardware"]["cores"] >= 1
    assert info["seconds"] > 0


def test_the_vocabulary_is_fitted_on_training_captions_alone(trained):
    words = trained.vocabulary.words
    assert "yellow" in words
    assert "zebra" not in words  # stands in validation and test captions only
    task = build_task(trained.config)
    assert any("zebra" in caption for refs in task.split("val").references for caption in refs)


def test_loaded_models_write_what_the_trained_one_wrote(trained):
    decoder, encoder = trained.load_decoder(), trained.load_encoder()
    assert not decoder.training
    task = build_task(trained.config, vocabulary=trained.vocabulary, encoder=encoder)
    written = write_greedy(decoder, task.split("val"), encoder, torch.device("cpu"), max_length=30)
    words = [trained.vocabulary.decode(numbers) for numbers in written]
    epoch = json.loads(trained.log_file.read_text().splitlines()[-1])
    assert len({tuple(w) for w in words}) / len(words) == epoch["val"]["distinct_captions"]


def test_the_weights_are_plain_tensors(trained):
    tensors = safetensors.torch.load_file(trained.model_file)
    assert all(name.startswith("decoder.") for name in tensors)  # the frozen encoder's are not kept
    assert torch.equal(
        tensors["decoder.vocabulary.weight"], trained.load_decoder().vocabulary.weight
    )


def test_the_config_of_a_run_is_complete(trained):
    text = trained.config_file.read_text()
    assert "alpha_c: 1.0" in text
    assert Config.load(trained.config_file) == trained.config


@pytest.mark.parametrize(
    ("missing", "message"),
    [("config.yaml", "not a run folder"), ("model.safetensors", "no weights yet")],
)
def test_an_incomplete_run_is_told(run, missing, message):
    (run.path / missing).unlink()
    with pytest.raises(InputError, match=message) as caught:
        RunFolder.open(run.path)
    assert str(caught.value).startswith(str(run.path))


def test_a_missing_run_is_told(tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        RunFolder.open(tmp_path / "none")


def test_broken_weights_are_told(run):
    run.model_file.write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"model\.safetensors: not readable"):
        run.load_decoder()


def test_weights_that_do_not_fit_the_config_are_told(run):
    config = run.config
    other = replace(config, decoder=replace(config.decoder, hidden_size=9))
    run.config_file.write_text(other.to_yaml())
    with pytest.raises(InputError, match=r"does not fit config\.yaml") as caught:
        run.load_decoder()
    assert "\n" not in str(caught.value)


def test_an_encoder_with_other_weights_is_refused(run, tmp_path, encoder_weights):
    state = safetensors.torch.load_file(encoder_weights)
    state["bn1.bias"] += 0.01
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"trained with other encoder weights.*--weights FILE"):
        run.load_encoder(weights=str(tmp_path / "other.safetensors"))


def test_the_same_weights_may_lie_elsewhere(run, tmp_path, encoder_weights):
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(encoder_weights.read_bytes())
    assert run.load_encoder(weights=str(moved)).fingerprint() == run.info["encoder"]["key"]


def test_a_missing_or_broken_state_is_told(run):
    with pytest.raises(InputError, match="nothing to resume"):
        run.load_state()
    run.state_file.parent.mkdir()
    run.state_file.write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"last\.pt: not readable"):
        run.load_state()


def test_the_state_needs_no_pickled_code(trained):
    state = torch.load(trained.state_file, weights_only=True)
    assert {"decoder", "optimizer", "progress", "stopping", "random"} <= state.keys()
