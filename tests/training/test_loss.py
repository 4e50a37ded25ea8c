import math

import pytest
import torch

from pictell.config import DecoderConfig
from pictell.decoders.base import TeacherForced, build_decoder
from pictell.training.loss import (
    Tally,
    attention_regularisation,
    loss_sums,
    smoothing_sum,
    top5_hits,
)


def test_regularisation_by_hand():
    sums = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.5, 0.5]])
    lengths = torch.tensor([2, 3])
    # (0 + 0 + 1) / 3 and (1 + 0.25 + 0.25) / 3
    assert attention_regularisation(sums, lengths, "one").item() == pytest.approx(2.5 / 3)
    # targets 2/3 and 1: (1/9 + 1/9 + 4/9) / 3 and as above
    assert attention_regularisation(sums, lengths, "mean").item() == pytest.approx(2 / 9 + 0.5)


def test_the_constant_that_made_a_published_comparison_look_bad():
    """196 regions and 12 words: uniform attention, the best there is, still costs 0.88."""
    lengths = torch.full((3,), 12)
    uniform = torch.full((3, 196), 12 / 196)
    least = attention_regularisation(uniform, lengths, "one").item() / 3
    assert least == pytest.approx((1 - 12 / 196) ** 2)
    assert least == pytest.approx(0.881, abs=1e-3)
    for seed in range(5):
        torch.manual_seed(seed)
        attention = torch.randn(3, 12, 196).softmax(dim=-1).sum(dim=1)
        assert attention_regularisation(attention, lengths, "one").item() / 3 > least
    assert attention_regularisation(uniform, lengths, "mean").item() == pytest.approx(0, abs=1e-9)


def test_a_decoder_that_cannot_choose_attends_uniformly_and_pays_the_constant():
    config = DecoderConfig(embedding_size=4, hidden_size=4, attention_size=4)
    decoder = build_decoder(config, vocab_size=9, feature_size=5, cells=(8, 8), pooled_grid=14)
    torch.nn.init.zeros_(decoder.score.weight)
    lengths = torch.tensor([12, 12])
    output = decoder.teacher_forced(torch.randn(2, 64, 5), torch.full((2, 12), 4), lengths)
    _, regularisation = loss_sums(output, torch.full((24,), 5), lengths, "one")
    assert regularisation.item() / 2 == pytest.approx((1 - 12 / 196) ** 2, rel=1e-5)


def test_cross_entropy_is_summed_over_words():
    logits = torch.zeros(7, 10)
    entropy, regularisation = loss_sums(
        TeacherForced(logits, None), torch.arange(7), torch.tensor([4, 3]), "one"
    )
    assert entropy.item() == pytest.approx(7 * math.log(10))
    assert regularisation.item() == 0


def test_half_precision_logits_are_summed_in_full_precision():
    logits = torch.zeros(70_000, 4, dtype=torch.float16)  # the sum is beyond fp16's 65,504
    targets = torch.zeros(70_000, dtype=torch.long)
    entropy, _ = loss_sums(TeacherForced(logits, None), targets, torch.tensor([70_000]), "one")
    assert entropy.item() == pytest.approx(70_000 * math.log(4), rel=1e-4)


def test_label_smoothing_adds_up_to_torch_s_own():
    logits, targets = torch.randn(7, 10, dtype=torch.float64), torch.arange(7)
    plain, _ = loss_sums(TeacherForced(logits, None), targets, torch.tensor([4, 3]), "one")
    smoothed = torch.nn.functional.cross_entropy(
        logits, targets, reduction="sum", label_smoothing=0.15
    )
    added = smoothing_sum(logits, targets, 0.15)
    assert (plain + added).item() == pytest.approx(smoothed.item(), rel=1e-6)
    tally = Tally(cross_entropy=plain.item(), words=7, smoothing=added.item())
    assert tally.means(1.0)["loss"] == pytest.approx(smoothed.item() / 7, rel=1e-6)
    assert tally.means(1.0)["cross_entropy"] == pytest.approx(plain.item() / 7)


def test_top5():
    logits = torch.arange(8.0).repeat(4, 1)  # best are words 7 6 5 4 3
    assert top5_hits(logits, torch.tensor([7, 3, 2, 0])).item() == 2
    assert top5_hits(torch.zeros(2, 3), torch.tensor([0, 2])).item() == 2  # fewer than five words


def test_tally_makes_means_of_sums():
    tally = Tally(cross_entropy=6.0, top5=1, words=2, regularisation=3.0, captions=1)
    tally += Tally(cross_entropy=2.0, top5=2, words=6, regularisation=1.0, captions=3)
    assert tally.means(alpha_c=0.5) == {
        "loss": 1.0 + 0.5 * 1.0,
        "cross_entropy": 8 / 8,
        "regularisation": 4 / 4,
        "top5": 3 / 8,
    }


def test_an_empty_tally_divides_by_nothing():
    assert Tally().means(1.0)["loss"] == 0
