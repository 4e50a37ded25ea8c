"""Self-critical training: the gradient by hand, the baseline, and that it earns more."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from test_loop import assert_same_runs, at_step, epochs_of, log_of, press_control_c, weights_of

from pictell.config import Config
from pictell.data.batches import Batch
from pictell.data.text import END, PAD, START, UNKNOWN
from pictell.decoders.base import DECODERS, build_decoder
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import InterruptedTraining, train
from pictell.training.loss import Tally
from pictell.training.objective import Window
from pictell.training.rewards import CaptionRewards
from pictell.training.self_critical import SelfCritical, advantages, pictures_of

# -- the estimate ----------------------------------------------------------------------------------


def test_each_sample_is_held_against_the_others():
    given = advantages(torch.tensor([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]]))
    expected = torch.tensor([[1 - 4.0, 2 - 3.5, 6 - 1.5], [0, 0, 0]])
    torch.testing.assert_close(given, expected)


def test_the_baseline_leaves_the_expected_gradient_as_it_is():
    """All triples of captions of a policy over five: the estimate's mean is the true gradient."""
    torch.manual_seed(0)
    theta = torch.randn(5, dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([0.3, 2.0, 0.0, 1.1, 0.7], dtype=torch.float64)
    chances = theta.softmax(0)
    (true,) = torch.autograd.grad((chances * rewards).sum(), theta, retain_graph=True)
    triples = torch.tensor(list(itertools.product(range(5), repeat=3)))  # (125, 3)
    weights = chances.detach()[triples].prod(dim=1)
    gains = advantages(rewards[triples]) * theta.log_softmax(0)[triples]
    (estimate,) = torch.autograd.grad((weights * gains.mean(dim=1)).sum(), theta)
    torch.testing.assert_close(estimate, true)
    # ... while its variance falls.
    plain, baselined = (
        _spread(values, triples, weights, theta.detach())
        for values in (rewards[triples], advantages(rewards[triples]))
    )
    assert baselined < plain


def _spread(values, triples, weights, theta) -> float:
    scores = torch.nn.functional.one_hot(triples, 5) - theta.softmax(0)  # grad of log softmax
    estimates = (values[..., None] * scores).mean(dim=1)  # (125, 5)
    mean = (weights[:, None] * estimates).sum(dim=0)
    return float((weights * (estimates - mean).square().sum(dim=1)).sum())


class NoCrossEntropy:
    """Stands in for the supervised part: given features, no loss of its own."""

    def __init__(self, decoder, features) -> None:
        self.decoder, self.given, self.accelerator = decoder, features, Accelerator(cpu=True)

    def features(self, batch):
        return self.given

    def loss_on(self, features, batch, window):
        return features.sum() * 0, Tally()


class Lengths:
    """A reward that can be worked out: the square of the number of words."""

    def __call__(self, captions, images):
        return np.array([len(c) ** 2 + 10.0 * i for c, i in zip(captions, images, strict=True)])


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_the_gradient_is_the_estimator_by_hand(name, monkeypatch):
    torch.manual_seed(0)
    config = Config.from_dict(
        {
            "decoder": {
                "name": name,
                "embedding_size": 4,
                "hidden_size": 6,
                "heads": 2,
                "attention_size": 3,
                "activation": "tanh",
            },
            "train": {"objective": "self_critical", "init": "run", "samples": 3,
                      "cross_entropy_weight": 0.25},
            "search": {"max_length": 5},
        }
    )  # fmt: skip
    decoder = build_decoder(
        config.decoder, vocab_size=9, feature_size=4, cells=(2, 2), pooled_grid=0
    ).double()
    features = torch.randn(2, 4, 4, dtype=torch.float64)
    drawn = {}
    original = SelfCritical._reward

    def reward(self, captions, pictures):
        drawn["captions"], drawn["pictures"] = captions, pictures
        return original(self, captions, pictures)

    monkeypatch.setattr(SelfCritical, "_reward", reward)
    objective = SelfCritical(
        NoCrossEntropy(decoder, features),  # type: ignore[arg-type]
        Lengths(),  # type: ignore[arg-type]
        SimpleNamespace(decode=lambda numbers: [str(n) for n in numbers]),  # type: ignore[arg-type]
        config,
        mean_length=4.0,
    )
    batch = Batch(features, torch.tensor([0, 1, 0]), *[torch.empty(0)] * 3, images=[7, 3, 7])
    loss, _ = objective.loss(batch, Window(words=1, captions=3, pictures=5))
    loss.backward()
    assert decoder.training
    ours = {n: p.grad.clone() for n, p in decoder.named_parameters() if p.grad is not None}
    assert drawn["pictures"] == [7, 3]
    assert len({len(c) for c in drawn["captions"]}) > 1

    decoder.eval()
    decoder.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for picture in range(2):
        captions = drawn["captions"][3 * picture : 3 * picture + 3]
        rewards = [len(c) ** 2 for c in captions]  # what the picture adds cancels
        for k, caption in enumerate(captions):
            baseline = sum(r for j, r in enumerate(rewards) if j != k) / 2
            log_prob = _by_steps(decoder, features[picture : picture + 1], caption)
            total = total + (rewards[k] - baseline) * log_prob
    (-0.75 * total / (5 * 3 * 4.0)).backward()  # M = 5 pictures of the window times 3, T = 4
    for name_, parameter in decoder.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name_], parameter.grad, rtol=1e-8, atol=1e-10)
    assert sum(g.abs().sum() for g in ours.values()) > 0


def _by_steps(decoder, features, caption) -> torch.Tensor:
    state, read = decoder.start(features), START
    total = torch.zeros((), dtype=torch.float64)
    for t, word in enumerate(caption):
        step = decoder.step(state, torch.tensor([[read]]))
        state, read = step.state, word
        allowed = step.logits[0, 0].clone()
        allowed[[PAD, START, UNKNOWN] + [END] * (t == 0)] = -torch.inf
        total = total + allowed.log_softmax(0)[word]
    return total


def test_pictures_of_a_batch_in_the_order_of_its_features():
    batch = Batch(torch.empty(3, 1, 1), torch.tensor([2, 0, 1, 0]), *[torch.empty(0)] * 3,
                  images=[5, 9, 4, 9])  # fmt: skip
    assert pictures_of(batch) == [9, 4, 5]
    assert pictures_of(replace(batch, owners=None, images=[3, 3])) == [3, 3]


# -- whole runs ------------------------------------------------------------------------------------


@pytest.fixture
def first_run(tmp_path, tiny_config) -> RunFolder:
    """A model that has learnt a little."""
    config = tiny_config(decoder={"dropout": 0.2}, train={"epochs": 3})
    return train(config, tmp_path / "first")


def going_on(tiny_config, run: RunFolder, **options) -> Config:
    options = {"objective": "self_critical", "init": str(run.path), "patience": 0} | options
    return tiny_config(decoder={"dropout": 0.2}, train=options)


def test_sampled_captions_earn_more_and_more(tmp_path, tiny_config, first_run):
    config = going_on(tiny_config, first_run, epochs=12, decoder_lr=3e-3, accumulation=1)
    run = train(config, tmp_path / "run")
    steps = [entry for entry in log_of(run) if entry["kind"] == "step"]
    rewards = [entry["sampled"]["reward"] for entry in steps]
    epochs = epochs_of(run)
    assert np.mean(rewards[-8:]) > 1.3 * np.mean(rewards[:8])
    assert epochs[-1]["sampled"]["reward"] > epochs[0]["sampled"]["reward"]


def test_the_log_tells_what_was_sampled_and_where_the_time_went(tmp_path, tiny_config, first_run):
    run = train(going_on(tiny_config, first_run, epochs=1, samples=4), tmp_path / "run")
    lines = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    for line in lines:
        sampled, shares = line["sampled"], line["time_shares"]
        assert {"share_ending_in_function_word", "share_repeating"} <= sampled.keys()
        assert 1 <= sampled["mean_words"] <= 12
        assert sampled["distinct_words"] > 0
        assert shares.keys() == {"sampling", "reward", "gradients"}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert lines[0]["sampled"]["captions"] == 8 * 4 / 4  # one window of two batches of one picture
    assert lines[-1]["val"]["fluency"].keys() == {
        "share_ending_in_function_word", "share_repeating", "distinct_words", "mean_words",
    }  # fmt: skip


def test_it_begins_with_the_weights_of_the_run(tmp_path, tiny_config, first_run):
    config = going_on(tiny_config, first_run, epochs=1, decoder_lr=1e-12)
    run = train(config, tmp_path / "run")
    for name, tensor in weights_of(first_run).items():
        torch.testing.assert_close(weights_of(run)[name], tensor, rtol=0, atol=1e-9)
    assert run.info["init"]["run"] == str(first_run.path)
    assert len(run.info["init"]["model_sha256"]) == 64


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"captions_per_picture": 1, "batch_size": 1},
        {"crops": 2},
        {"cross_entropy_weight": 0.0, "reward_bleu": 0.5},
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path, tiny_config, first_run, monkeypatch, options
):
    config = going_on(tiny_config, first_run, epochs=2, ema=0.9, flip=True, **options)
    monkeypatch.setattr("test_loop.TIMES", {"seconds", "captions_per_second", "peak_memory_mb",
                                            "time_shares"})  # fmt: skip
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, 6, press_control_c)
        with pytest.raises(InterruptedTraining):
            train(config, tmp_path / "cut")
    torch.rand(5)
    assert_same_runs(train(config, tmp_path / "cut", resume=True), whole)


def test_a_reward_that_is_no_number_stops_and_keeps_the_last_state(
    tmp_path, tiny_config, first_run, monkeypatch
):
    config = going_on(tiny_config, first_run, epochs=2, accumulation=1)
    calls = []
    original = CaptionRewards.__call__

    def broken(self, captions, images):
        calls.append(None)
        values = original(self, captions, images)
        return np.where(np.arange(len(values)) == 2, np.nan, values) if len(calls) > 10 else values

    monkeypatch.setattr(CaptionRewards, "__call__", broken)
    message = r"the reward of the sampled caption '.+' is nan in epoch 2.*last saved state is kept"
    with pytest.raises(InputError, match=message):
        train(config, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.load_state()["progress"]["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in run.load_state()["decoder"].values())
    monkeypatch.setattr(CaptionRewards, "__call__", original)
    assert train(config, run.path, resume=True).info["finished"]


def test_fine_tuned_encoders_go_on_too(tmp_path, tiny_config):
    section = {"encoder": {"fine_tune": True}}
    first = train(
        tiny_config(**section, train={"epochs": 1, "encoder_lr": 1e-3}), tmp_path / "first"
    )
    options = {"objective": "self_critical", "init": str(first.path), "epochs": 1}
    run = train(tiny_config(**section, train=options | {"encoder_lr": 1e-3}), tmp_path / "run")
    before, after = weights_of(first), weights_of(run)
    moved = [n for n in before if n.startswith("encoder.") and not torch.equal(before[n], after[n])]
    assert moved
    with pytest.raises(InputError, match="it has a fine-tuned encoder of its own"):
        train(tiny_config(train=options), tmp_path / "frozen")
    assert not Path(tmp_path / "frozen").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"init": "nowhere"}}, "nowhere: no such run folder; pictell train CONFIG"),
        ({"decoder": {"name": "rnn"}}, "it was trained with decoder.name = 'attention', not 'rnn'"),
        ({"decoder": {"activation": "tanh"}}, "decoder.activation = 'relu', not 'tanh'"),
        ({"decoder": {"hidden_size": 16}}, "its weights do not fit this config (size mismatch"),
        ({"encoder": {"image_size": 96}}, "its frozen encoder had other weights or another"),
    ],
)
def test_a_run_that_does_not_fit_is_told_before_anything_is_written(
    tmp_path, tiny_config, first_run, sections, message
):
    train_options = {"init": str(first_run.path)} | sections.pop("train", {})
    with pytest.raises(InputError) as caught:
        train(tiny_config(**sections, train=train_options), tmp_path / "run")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
