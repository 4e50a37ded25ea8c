"""Training: a tiny run over-fits, accumulates exactly, stops and goes on, says what is wrong."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from shapes import COLOURS, SHAPES, draw_shape, shape_examples

from pictell.config import Config
from pictell.data.batches import epoch_batches
from pictell.data.records import Example, read_dataset, write_dataset
from pictell.data.views import training_views
from pictell.decoders.base import DECODERS
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import InterruptedTraining, Trainer, train
from pictell.training.task import build_task
from pictell.training.validation import write_greedy

BOTH = pytest.mark.parametrize("decoder", ["attention", "rnn"])
TIMES = {"seconds", "captions_per_second", "peak_memory_mb"}


def log_of(run: RunFolder) -> list[dict]:
    """The log without what a clock or the allocator decides."""
    entries = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def epochs_of(run: RunFolder) -> list[dict]:
    return [entry for entry in log_of(run) if entry["kind"] == "epoch"]


def weights_of(run: RunFolder) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.model_file)


def equal(ours, theirs) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return ours == theirs


def assert_same_runs(ours: RunFolder, theirs: RunFolder) -> None:
    assert log_of(ours) == log_of(theirs)
    assert equal(weights_of(ours), weights_of(theirs))
    first, second = ours.load_state(), theirs.load_state()
    trained = ("decoder", "encoder", "optimizer", "rates", "average", "objective")
    for part in (*trained, "stopping", "random"):
        assert equal(first[part], second[part]), part


def at_step(monkeypatch, number: int, act) -> None:
    """Do something right after the optimiser's step of this number."""
    original = Trainer._step

    def step(self, window, batches):
        original(self, window, batches)
        if self.progress.step == number:
            act(self)

    monkeypatch.setattr(Trainer, "_step", step)


def press_control_c(trainer) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def assert_resumes_as_if_uninterrupted(config, folder: Path, monkeypatch, *, step: int) -> None:
    """Train to the end, train another until the step and then on, and compare."""
    whole = train(config, folder / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, step, press_control_c)
        with pytest.raises(InterruptedTraining):
            train(config, folder / "cut")
    torch.rand(5)  # another process has other random numbers
    assert_same_runs(train(config, folder / "cut", resume=True), whole)


# Learning.


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_eight_pictures_are_learnt_by_heart(tmp_path, tiny_config, decoder):
    examples = []
    for number, (colour, shape) in enumerate((c, s) for c in COLOURS for s in SHAPES):
        path = draw_shape(tmp_path / f"{number}.png", colour, shape)
        caption = f"a {colour} {shape} that is number {number}"
        for split, copies in (("train", 4), ("val", 1)):
            name = f"{split}_{number}"
            examples.append(
                Example(image_id=name, path=path, captions=(caption,) * copies, split=split)  # type: ignore[arg-type]
            )
    write_dataset(tmp_path, examples)
    config = tiny_config(
        data={"dataset": str(tmp_path)},
        decoder={"name": decoder, "hidden_size": 48, "embedding_size": 24, "dropout": 0.0},
        train={"batch_size": 8, "accumulation": 1, "epochs": 40, "patience": 0, "log_every": 50},
    )
    run = train(config, tmp_path / "run")
    last = epochs_of(run)[-1]
    assert last["train"]["cross_entropy"] < 0.1
    assert last["val"]["teacher_forced"]["cross_entropy"] < 0.1
    assert last["val"]["BLEU-4"] == pytest.approx(1.0)
    assert last["val"]["distinct_captions"] == 1.0

    task = build_task(config, vocabulary=run.vocabulary)
    split = task.split("train")
    written = write_greedy(
        run.load_decoder(), split, task.encoder, torch.device("cpu"), max_length=12
    )
    captions = [task.tokenizer.join(run.vocabulary.decode(numbers)) for numbers in written]
    assert captions == [example.captions[0] for example in split.examples]


@BOTH
def test_the_same_seed_gives_the_same_run(tmp_path, tiny_config, decoder):
    config = tiny_config(decoder={"name": decoder})
    first = train(config, tmp_path / "first")
    torch.rand(7)
    second = train(config, tmp_path / "second")
    assert_same_runs(first, second)
    assert first.model_file.read_bytes() == second.model_file.read_bytes()
    other = train(tiny_config(decoder={"name": decoder}, train={"seed": 1}), tmp_path / "other")
    assert log_of(other) != log_of(first)


def test_the_log_tells_the_two_terms_apart(tmp_path, tiny_config):
    run = train(tiny_config(train={"alpha_c": 0.5}), tmp_path / "run")
    steps = [entry for entry in log_of(run) if entry["kind"] == "step"]
    assert [entry["step"] for entry in steps] == list(range(1, 9))  # 8 batches / 2, two epochs
    for entry in steps:
        terms = entry["cross_entropy"] + 0.5 * entry["regularisation"]
        assert entry["loss"] == pytest.approx(terms)
        assert entry["regularisation"] > 0
        assert 0 <= entry["top5"] <= 1
        assert entry["gradient_norm"] > 0
    epochs = epochs_of(run)
    assert [entry["epoch"] for entry in epochs] == [1, 2]
    assert {"BLEU-1", "BLEU-4", "CIDEr-D", "ROUGE-L", "teacher_forced"} <= epochs[0]["val"].keys()
    assert epochs[1]["train"]["cross_entropy"] < epochs[0]["train"]["cross_entropy"]


def test_the_rnn_pays_no_attention_term(tmp_path, tiny_config):
    run = train(tiny_config(decoder={"name": "rnn"}, train={"epochs": 1}), tmp_path / "run")
    (entry,) = epochs_of(run)
    assert entry["train"]["regularisation"] == 0
    assert entry["train"]["loss"] == entry["train"]["cross_entropy"]


def test_a_last_batch_of_one_caption_trains(tmp_path, tiny_config):
    config = tiny_config(decoder={"name": "rnn"}, train={"batch_size": 31, "epochs": 1})
    assert epochs_of(train(config, tmp_path / "run"))[0]["step"] == 1


# Accumulation and clipping.


def gradients_of(monkeypatch, config: Config, folder: Path) -> list[torch.Tensor]:
    """The gradients with which the optimiser makes its steps, one flat tensor each."""
    found = []
    original = Trainer._update

    def update(self):
        found.append(torch.cat([p.grad.flatten() for p in self.update.parameters]).clone())
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", update)
        train(config, folder)
    return found


def options(batch_size: int, accumulation: int, **others) -> dict:
    return {"batch_size": batch_size, "accumulation": accumulation, "epochs": 1, **others}


def test_accumulated_batches_give_the_gradient_of_one_large_batch(
    tmp_path, tiny_config, monkeypatch
):
    decoder = {"dropout": 0.0}
    (large,) = gradients_of(
        monkeypatch, tiny_config(decoder=decoder, train=options(32, 1)), tmp_path / "large"
    )
    for batch_size, accumulation in [(16, 2), (4, 8), (5, 7)]:  # 5 does not divide 32
        config = tiny_config(decoder=decoder, train=options(batch_size, accumulation))
        (parts,) = gradients_of(monkeypatch, config, tmp_path / f"of_{batch_size}")
        torch.testing.assert_close(parts, large, rtol=1e-4, atol=1e-6)


def test_the_last_shorter_window_is_used_and_nothing_leaks_into_the_next_epoch(
    tmp_path, tiny_config, monkeypatch
):
    """With weights that stand still, the windows of an epoch add up to the gradient of it all."""
    still = {"decoder_lr": 1e-9, "alpha_c": 0.0}
    config = tiny_config(decoder={"dropout": 0.0}, train=options(8, 3, **still) | {"epochs": 2})
    windows = gradients_of(monkeypatch, config, tmp_path / "windows")
    config = tiny_config(decoder={"dropout": 0.0}, train=options(32, 1, **still))
    (whole,) = gradients_of(monkeypatch, config, tmp_path / "whole")
    assert len(windows) == 4  # an epoch has four batches: a window of three and one of one
    lengths = build_task(config).split("train").captions.lengths
    for epoch in range(2):
        batches = epoch_batches(lengths, 8, seed=0, epoch=epoch)
        chosen = [np.concatenate(batches[:3]), np.concatenate(batches[3:])]
        first, second = (lengths[captions].sum() / lengths.sum() for captions in chosen)
        summed = first * windows[2 * epoch] + second * windows[2 * epoch + 1]
        torch.testing.assert_close(summed, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_by", ["caption", "picture"])
def test_an_epoch_can_read_a_few_captions_of_each_picture(
    tmp_path, tiny_config, monkeypatch, batch_by
):
    seen = []
    original = Trainer._step

    def step(self, window, batches):
        seen.append((self.progress.epoch, np.concatenate(window)))
        return original(self, window, batches)

    monkeypatch.setattr(Trainer, "_step", step)
    config = tiny_config(train=options(2, 1, captions_per_picture=1, batch_by=batch_by, epochs=3))
    run = train(config, tmp_path / "run")
    images = build_task(config).split("train").captions.images
    read = [np.concatenate([w for e, w in seen if e == epoch]) for epoch in range(3)]
    for captions in read:
        assert sorted(images[captions]) == sorted(set(images))
    assert any(sorted(read[0]) != sorted(other) for other in read[1:])
    pictures = len(set(images))
    for line in run.log_file.read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "epoch":
            rate = pictures / entry["seconds"]["train"]
            assert entry["captions_per_second"] == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("clip_by", ["norm", "value"])
def test_clipping(tmp_path, tiny_config, monkeypatch, clip_by):
    seen = []
    original = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        parameters = [p for group in self.param_groups for p in group["params"]]
        seen.append(torch.cat([p.grad.flatten() for p in parameters]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    train(tiny_config(train={"clip": 1e-3, "clip_by": clip_by, "epochs": 1}), tmp_path / "run")
    for gradient in seen:
        size = gradient.norm() if clip_by == "norm" else gradient.abs().max()
        assert size.item() == pytest.approx(1e-3, rel=1e-2)
    seen.clear()
    run = train(tiny_config(train={"clip": 0.0, "epochs": 1}), tmp_path / "unclipped")
    steps = [entry for entry in log_of(run) if entry["kind"] == "step"]
    for gradient, entry in zip(seen, steps, strict=True):
        assert gradient.norm().item() == pytest.approx(entry["gradient_norm"], rel=1e-5)


# Stopping and going on.


@BOTH
@pytest.mark.parametrize("step", [1, 4, 6])  # 4 is the last of an epoch
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path, tiny_config, monkeypatch, decoder, step
):
    config = tiny_config(decoder={"name": decoder})
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, step, press_control_c)
        with pytest.raises(InterruptedTraining, match=f"after step {step}; go on with: .*--resume"):
            train(config, tmp_path / "cut")
    cut = RunFolder(tmp_path / "cut")
    assert cut.load_state()["progress"]["step"] == step
    assert not cut.info["finished"]
    torch.rand(5)  # another process has other random numbers
    resumed = train(config, tmp_path / "cut", resume=True)
    assert_same_runs(resumed, whole)
    assert resumed.info["finished"]


# Every option that draws random numbers, keeps something between steps, or looks at the clock.
EVERYTHING = {
    "decoder": {
        "embedding_dropout": 0.2,
        "region_dropout": 0.2,
        "region_projection": 24,
        "embedding_size": 32,
        "tied_embedding": True,
        "forget_bias": 1.0,
    },
    "train": {
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup": 3,
        "label_smoothing": 0.1,
        "scheduled_sampling": 0.5,
        "scheduled_sampling_epochs": 1,
        "flip": True,
        "crops": 2,
        "ema": 0.9,
        "select_by": "cross-entropy",
    },
    "search": {"block_repeats": 3},
}


def with_everything(tiny_config, decoder: str, **train_options) -> Config:
    sections = {name: dict(section) for name, section in EVERYTHING.items()}
    sections["decoder"]["name"] = decoder
    sections["train"] |= train_options
    return tiny_config(**sections)


@BOTH
@pytest.mark.parametrize("step", [2, 4, 6])
def test_with_all_options_interrupted_and_resumed_equals_uninterrupted(
    tmp_path, tiny_config, monkeypatch, decoder, step
):
    config = with_everything(tiny_config, decoder)
    assert_resumes_as_if_uninterrupted(config, tmp_path, monkeypatch, step=step)


def test_a_plateau_resumes_as_if_uninterrupted(tmp_path, tiny_config, monkeypatch):
    options = {"schedule": "plateau", "decay": 0.1, "decay_every": 1, "patience": 0, "epochs": 5}
    config = tiny_config(train={**options, "decoder_lr": 1e-5})  # hardly ever better
    whole = train(config, tmp_path / "whole")
    assert whole.load_state()["rates"]["decays"] > 0
    with monkeypatch.context() as patch:
        at_step(patch, 14, press_control_c)
        with pytest.raises(InterruptedTraining):
            train(config, tmp_path / "cut")
    assert_same_runs(train(config, tmp_path / "cut", resume=True), whole)


def test_more_epochs_would_change_the_rates_of_a_cosine(tmp_path, tiny_config):
    train(tiny_config(train={"epochs": 1, "schedule": "cosine"}), tmp_path / "run")
    with pytest.raises(InputError, match=r"was trained with train\.epochs = 1, not 3"):
        train(tiny_config(train={"epochs": 3, "schedule": "cosine"}), tmp_path / "run", resume=True)


def test_control_c_twice_stops_at_once(tmp_path, tiny_config, monkeypatch):
    def twice(trainer):
        press_control_c(trainer)
        press_control_c(trainer)

    at_step(monkeypatch, 2, twice)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config(), tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_after_a_crash_it_goes_on_from_the_last_state_and_the_log_has_no_line_twice(
    tmp_path, tiny_config, monkeypatch
):
    config = tiny_config()
    whole = train(config, tmp_path / "whole")

    def crash(trainer):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, tmp_path / "cut")
    cut = RunFolder(tmp_path / "cut")
    assert cut.load_state()["progress"]["step"] == 4  # saved at the end of the first epoch
    assert log_of(cut)[-1]["step"] == 7
    assert_same_runs(train(config, tmp_path / "cut", resume=True), whole)


def test_states_are_saved_within_an_epoch(tmp_path, tiny_config, monkeypatch):
    saved = []
    original = Trainer.save_state
    monkeypatch.setattr(
        Trainer, "save_state", lambda self: saved.append(self.progress.step) or original(self)
    )
    train(tiny_config(train={"save_every": 1e-9, "epochs": 1}), tmp_path / "often")
    assert saved == [1, 2, 3, 4, 4]
    saved.clear()
    train(tiny_config(train={"save_every": 0.0, "epochs": 1}), tmp_path / "seldom")
    assert saved == [4]


def test_a_finished_run_goes_on_with_more_epochs(tmp_path, tiny_config):
    long = train(tiny_config(train={"epochs": 3}), tmp_path / "long")
    train(tiny_config(train={"epochs": 1}), tmp_path / "short")
    run = train(tiny_config(train={"epochs": 3}), tmp_path / "short", resume=True)
    assert_same_runs(run, long)
    assert run.config.train.epochs == 3


def test_resume_of_a_finished_run_changes_nothing(tmp_path, tiny_config):
    run = train(tiny_config(train={"epochs": 1}), tmp_path / "run")
    before = run.log_file.read_bytes(), run.model_file.read_bytes()
    train(tiny_config(train={"epochs": 1}), tmp_path / "run", resume=True)
    assert (run.log_file.read_bytes(), run.model_file.read_bytes()) == before


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("train", {"decoder_lr": 2e-2}),
        ("train", {"batch_size": 8}),
        ("train", {"seed": 1}),
        ("decoder", {"dropout": 0.1}),
        ("data", {"min_count": 2}),
        ("search", {"max_length": 5}),
    ],
)
def test_resume_with_another_option_is_refused(tmp_path, tiny_config, section, changes):
    train(tiny_config(train={"epochs": 1}), tmp_path / "run")
    changed = tiny_config(**{section: changes})  # more epochs, which is allowed
    (name,) = changes
    with pytest.raises(InputError, match=f"was trained with {section}.{name} = .*, not ") as caught:
        train(changed, tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)


def test_resume_with_other_encoder_weights_is_refused(tmp_path, tiny_config, encoder_weights):
    train(tiny_config(train={"epochs": 1}), tmp_path / "run")
    state = safetensors.torch.load_file(encoder_weights)
    moved, other = tmp_path / "moved.safetensors", tmp_path / "other.safetensors"
    safetensors.torch.save_file(state, moved)
    state["bn1.bias"] += 0.01
    safetensors.torch.save_file(state, other)
    with pytest.raises(InputError, match="other encoder weights"):
        train(
            tiny_config(encoder={"weights": str(other)}, train={"epochs": 1}),
            tmp_path / "run",
            resume=True,
        )
    train(
        tiny_config(encoder={"weights": str(moved)}, train={"epochs": 1}),
        tmp_path / "run",
        resume=True,
    )


def test_resume_with_changed_captions_is_refused(tmp_path, tiny_config):
    examples = shape_examples(tmp_path / "pictures")
    write_dataset(tmp_path, examples)
    config = tiny_config(data={"dataset": str(tmp_path)}, train={"epochs": 1})
    train(config, tmp_path / "run")
    write_dataset(tmp_path, [replace(examples[0], captions=("something else",)), *examples[1:]])
    with pytest.raises(InputError, match="the data set has changed"):
        train(config, tmp_path / "run", resume=True)


def test_an_existing_run_is_not_overwritten_unasked(tmp_path, tiny_config):
    config = tiny_config(train={"epochs": 1})
    run = train(config, tmp_path / "run")
    before = run.model_file.read_bytes()
    with pytest.raises(InputError, match=r"holds a run already; --resume .* --overwrite"):
        train(config, tmp_path / "run")
    assert run.model_file.read_bytes() == before
    changed = tiny_config(train={"epochs": 1, "seed": 5})
    again = train(changed, tmp_path / "run", overwrite=True)
    assert len(epochs_of(again)) == 1
    assert again.config.train.seed == 5
    assert again.model_file.read_bytes() != before


def test_nothing_to_resume_is_told(tmp_path, tiny_config):
    with pytest.raises(InputError, match="nothing to resume"):
        train(tiny_config(), tmp_path / "none", resume=True)


# Choosing the model.


def script_scores(monkeypatch, scores: list[float], name: str = "BLEU-4") -> None:
    original = Trainer._validate
    wanted = iter(scores)
    monkeypatch.setattr(Trainer, "_validate", lambda self: {**original(self), name: next(wanted)})


@pytest.mark.parametrize("name", ["BLEU-4", "CIDEr-D"])
def test_training_stops_when_patience_runs_out_and_keeps_the_best_epoch(
    tmp_path, tiny_config, monkeypatch, name
):
    options = {"patience": 2, "select_by": name}
    with monkeypatch.context() as patch:
        script_scores(patch, [0.1, 0.3, 0.2, 0.3, 0.9], name)
        run = train(tiny_config(train={"epochs": 9, **options}), tmp_path / "run")
    assert [entry["best"] for entry in epochs_of(run)] == [True, True, False, False]
    assert run.info["best_epoch"] == 2
    assert run.info["best_score"] == {name: 0.3}
    assert run.info["finished"]
    with monkeypatch.context() as patch:
        script_scores(patch, [0.1, 0.3], name)
        short = train(tiny_config(train={"epochs": 2, **options}), tmp_path / "short")
    assert equal(weights_of(run), weights_of(short))
    assert not equal(run.load_state()["decoder"], short.load_state()["decoder"])


def test_a_run_that_had_stopped_goes_on_with_more_patience(tmp_path, tiny_config, monkeypatch):
    script_scores(monkeypatch, [0.3, 0.2, 0.1, 0.4])
    train(tiny_config(train={"epochs": 4, "patience": 1}), tmp_path / "run")
    assert len(epochs_of(RunFolder(tmp_path / "run"))) == 2
    run = train(tiny_config(train={"epochs": 4, "patience": 3}), tmp_path / "run", resume=True)
    assert len(epochs_of(run)) == 4
    assert run.info["best_epoch"] == 4


# What goes wrong.


def test_a_loss_that_is_not_finite_names_the_pictures_and_keeps_the_state(tmp_path, tiny_config):
    features = tmp_path / "features"
    config = tiny_config(encoder={"features": str(features)}, train={"epochs": 1})
    run = train(config, tmp_path / "run")
    state = run.state_file.read_bytes()
    array = np.load(next(features.rglob("features.npy")), mmap_mode="r+")
    array[0] = np.nan  # the first picture of the data set
    array.flush()
    first = read_dataset(Path(config.data.dataset))[0].image_id
    more = replace(config, train=replace(config.train, epochs=2))
    with pytest.raises(InputError, match="the loss is nan in epoch 2, step") as caught:
        train(more, tmp_path / "run", resume=True)
    assert first in str(caught.value)
    assert "the last saved state is kept" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run.state_file.read_bytes() == state


def test_a_loss_that_is_never_finite_is_told_too(tmp_path, tiny_config, monkeypatch):
    def broken(*args):
        return torch.tensor(float("inf")), torch.tensor(0.0)

    monkeypatch.setattr("pictell.training.objective.loss_sums", broken)
    with pytest.raises(InputError, match=r"the loss is inf in epoch 1, step 1 \(nothing saved\)"):
        train(tiny_config(), tmp_path / "run")


def test_fp16_needs_a_gpu(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"train\.precision is 'fp16', which needs a GPU"):
        train(tiny_config(train={"precision": "fp16"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@BOTH
def test_bf16_trains_on_a_cpu_and_full_precision_after_it(tmp_path, tiny_config, decoder):
    """Two precisions in one process: an ablation does that."""
    half = train(
        tiny_config(decoder={"name": decoder}, train={"precision": "bf16"}), tmp_path / "half"
    )
    full = train(
        tiny_config(decoder={"name": decoder}, train={"precision": "none"}), tmp_path / "full"
    )
    assert (half.info["precision"], full.info["precision"]) == ("bf16", "no")
    losses = [epochs_of(run)[-1]["train"]["cross_entropy"] for run in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] != losses[1]
    assert all(t.dtype == torch.float32 for t in weights_of(half).values() if t.is_floating_point())


def test_auto_precision_is_full_on_a_cpu(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = train(tiny_config(train={"epochs": 1}), tmp_path / "run")
    assert run.info["precision"] == "no"


# Fine-tuning.


@BOTH
def test_fine_tuning_trains_the_late_stages_on_pixels(tmp_path, tiny_config, decoder):
    features = tmp_path / "features"
    config = tiny_config(
        encoder={"fine_tune": True, "features": str(features)},
        decoder={"name": decoder},
        train={"encoder_lr": 1e-3, "epochs": 1, "workers": 1},
    )
    run = train(config, tmp_path / "run")
    assert not features.exists()
    assert run.info["encoder"]["trained_parameters"] > 0
    before = load_encoder(config.encoder).backbone.state_dict()
    after = run.load_encoder().backbone.state_dict()
    for name, tensor in before.items():
        moves = name.startswith(("layer2", "layer3", "layer4")) and "running" not in name
        moves = moves and not name.endswith("num_batches_tracked")
        assert torch.equal(after[name], tensor) != moves, name


def test_the_captions_of_a_picture_share_its_encoding(tmp_path, tiny_config, monkeypatch):
    """Eight pictures with four captions each: the encoder sees each of them once an epoch."""
    seen = []
    original = Encoder.forward

    def forward(self, pixels):
        if torch.is_grad_enabled():  # not in validation
            seen.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(Encoder, "forward", forward)
    for batch_by, pictures in (("auto", 8), ("caption", 32)):
        seen.clear()
        config = tiny_config(
            encoder={"fine_tune": True},
            train={"encoder_lr": 1e-3, "epochs": 1, "batch_size": 8, "batch_by": batch_by},
        )
        train(config, tmp_path / batch_by)
        assert 8 <= sum(seen) <= pictures
    assert sum(seen) > 8


def test_fine_tuning_resumes_as_if_uninterrupted(tmp_path, tiny_config, monkeypatch):
    config = tiny_config(encoder={"fine_tune": True}, train={"encoder_lr": 1e-3})
    assert_resumes_as_if_uninterrupted(config, tmp_path, monkeypatch, step=6)


def test_a_fine_tuned_run_without_encoder_weights_is_told(tmp_path, tiny_config):
    config = tiny_config(encoder={"fine_tune": True}, train={"epochs": 1})
    run = train(config, tmp_path / "run")
    decoder_only = {n: t for n, t in weights_of(run).items() if n.startswith("decoder.")}
    safetensors.torch.save_file(decoder_only, run.model_file)
    with pytest.raises(InputError, match="do not fit test_resnet"):
        run.load_encoder()


def test_tensorboard_curves(tmp_path, tiny_config):
    pytest.importorskip("tensorboard")
    train(tiny_config(train={"tensorboard": True, "epochs": 1}), tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


# Options of training.


def steps_of(run: RunFolder) -> list[dict]:
    return [entry for entry in log_of(run) if entry["kind"] == "step"]


def test_the_schedule_sets_the_rate_of_each_step(tmp_path, tiny_config, monkeypatch):
    seen = []
    original = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    options = {"schedule": "step", "decay": 0.5, "decay_every": 1, "warmup": 2, "epochs": 3}
    train(tiny_config(train=options), tmp_path / "run")  # four steps an epoch
    assert seen == pytest.approx([0.005, *[0.01] * 3, *[0.005] * 4, *[0.0025] * 4])


def test_the_run_holds_the_averaged_weights_and_training_goes_on_with_its_own(
    tmp_path, tiny_config
):
    run = train(tiny_config(train={"ema": 0.5, "epochs": 1}), tmp_path / "run")
    plain = train(tiny_config(train={"epochs": 1}), tmp_path / "plain")
    kept, state = weights_of(run)["decoder.vocabulary.weight"], run.load_state()
    assert not torch.equal(kept, state["decoder"]["vocabulary.weight"])
    assert any(torch.equal(kept, average) for average in state["average"]["averages"])
    assert equal(plain.load_state()["decoder"], state["decoder"])  # averaging changes no step
    captions = write_greedy(
        run.load_decoder(), (task := build_task(run.config)).split("val"), task.encoder,
        torch.device("cpu"), max_length=12,
    )  # fmt: skip
    words = [run.vocabulary.decode(numbers) for numbers in captions]
    distinct = len({tuple(w) for w in words}) / len(words)
    assert epochs_of(run)[0]["val"]["distinct_captions"] == distinct


def test_label_smoothing_raises_the_loss_and_not_the_cross_entropy(tmp_path, tiny_config):
    smoothed = train(tiny_config(train={"label_smoothing": 0.2, "epochs": 1}), tmp_path / "run")
    plain = train(tiny_config(train={"epochs": 1}), tmp_path / "plain")
    first, other = steps_of(smoothed)[0], steps_of(plain)[0]
    assert first["cross_entropy"] == other["cross_entropy"]  # before the first step
    difference = first["loss"] - first["cross_entropy"] - first["regularisation"]
    assert difference != 0
    assert first["gradient_norm"] != other["gradient_norm"]


def test_own_words_come_with_the_epochs(tmp_path, tiny_config):
    options = {"scheduled_sampling": 0.6, "scheduled_sampling_epochs": 2, "epochs": 4}
    run = train(tiny_config(train=options), tmp_path / "run")
    shares = {entry["epoch"]: entry["own_words"] for entry in steps_of(run)}
    assert shares == {1: 0.0, 2: pytest.approx(0.3), 3: pytest.approx(0.6), 4: pytest.approx(0.6)}
    plain = train(tiny_config(train={"epochs": 4}), tmp_path / "plain")
    ours, theirs = steps_of(run), steps_of(plain)
    assert all(a["loss"] == b["loss"] for a, b in zip(ours[:4], theirs[:4], strict=True))
    assert ours[4]["loss"] != theirs[4]["loss"]


@pytest.mark.parametrize("fine_tune", [False, True])
@pytest.mark.parametrize(
    "options", [{"flip": True}, {"crops": 2}, {"flip": True, "crops": 2}], ids=str
)
def test_captions_see_the_views_of_their_pictures(
    tmp_path, tiny_config, monkeypatch, options, fine_tune
):
    seen = []
    original = Trainer._step

    def watch(self, window, batches):
        batches = [next(batches) for _ in window]
        split, count = self.train_split, len(self.train_split.examples)
        views = training_views(self.config.train)
        for captions, batch in zip(window, batches, strict=True):
            owners = range(len(captions)) if batch.owners is None else batch.owners.tolist()
            for caption, owner in zip(captions, owners, strict=True):
                view, image = divmod(int(self.views[caption]), count)
                assert image == split.captions.images[caption]
                path = split.examples[image].path
                expected = torch.from_numpy(views[view].read(path, self.encoder.transform))
                if not fine_tune:
                    with torch.inference_mode():
                        expected = self.encoder(expected[None])[0].half()
                torch.testing.assert_close(batch.pictures[owner], expected, rtol=2e-3, atol=2e-3)
                seen.append(views[view])
        original(self, window, iter(batches))

    monkeypatch.setattr(Trainer, "_step", watch)
    config = tiny_config(
        encoder={"fine_tune": fine_tune, "features": str(tmp_path / "features")},
        train={**options, "epochs": 2, "encoder_lr": 1e-6},
    )
    train(config, tmp_path / "run")
    assert len(seen) == 64
    assert set(seen) == set(training_views(config.train))
    if "flip" in options:
        assert 16 < sum(view.mirrored for view in seen) < 48


def test_a_fine_tuned_encoder_that_sees_crops_resumes_as_if_uninterrupted(
    tmp_path, tiny_config, monkeypatch
):
    options = {"crops": 2, "flip": True, "encoder_lr": 1e-3}
    config = tiny_config(encoder={"fine_tune": True}, train=options)
    assert_resumes_as_if_uninterrupted(config, tmp_path, monkeypatch, step=6)
    with pytest.raises(InputError, match=r"was trained with train\.crops = 2, not 3"):
        train(replace(config, train=replace(config.train, crops=3)), tmp_path / "cut", resume=True)


def test_the_lowest_cross_entropy_is_kept(tmp_path, tiny_config):
    options = {"select_by": "cross-entropy", "epochs": 8, "decoder_lr": 0.05, "patience": 2}
    run = train(tiny_config(train=options), tmp_path / "run")
    entropies = [e["val"]["teacher_forced"]["cross_entropy"] for e in epochs_of(run)]
    assert run.info["best_epoch"] == 1 + entropies.index(min(entropies))
    assert run.info["best_score"] == {"cross-entropy": min(entropies)}


def test_a_tied_matrix_is_saved_and_loaded(tmp_path, tiny_config):
    options = {"tied_embedding": True, "embedding_size": 32}
    run = train(tiny_config(decoder=options, train={"epochs": 1}), tmp_path / "run")
    decoder = run.load_decoder()
    assert decoder.vocabulary.weight is decoder.embedding.weight
    kept = weights_of(run)
    assert torch.equal(kept["decoder.vocabulary.weight"], decoder.embedding.weight)
