import pytest
import torch
from torch import nn

from pictell.training.averaging import WeightAverage


def test_the_average_is_the_recursion_with_a_rising_decay():
    layer = nn.Linear(3, 2).double()
    average = WeightAverage([layer], decay=0.3)
    expected = layer.weight.detach().clone()
    for number in range(8):
        nn.init.normal_(layer.weight)
        average.update()
        decay = min(0.3, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    now = layer.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(layer.weight.detach(), expected)
    assert torch.equal(layer.weight.detach(), now)


def test_statistics_of_batch_norms_are_averaged_and_frozen_weights_are_not():
    norm, frozen = nn.BatchNorm1d(4), nn.Linear(2, 2).requires_grad_(False)
    average = WeightAverage([norm, frozen], decay=0.5)
    assert norm.running_mean is not None
    norm(torch.ones(8, 4))
    norm.running_mean.fill_(1.0)
    average.update()  # d is 1/10 at the first update
    with average.applied():
        torch.testing.assert_close(norm.running_mean, torch.full((4,), 0.9))
    assert norm.running_mean[0] == 1.0
    assert len(average.state_dict()["averages"]) == 4  # weight, bias, mean, variance


def test_weights_come_back_after_an_error():
    layer = nn.Linear(2, 2)
    average = WeightAverage([layer], decay=0.9)
    nn.init.ones_(layer.weight)
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert torch.equal(layer.weight, torch.ones(2, 2))


def test_without_a_decay_nothing_is_kept():
    average = WeightAverage([nn.Linear(2, 2)], decay=0.0)
    average.update()
    assert average.state_dict() == {"updates": 0, "averages": []}


def test_it_goes_on_from_what_was_saved():
    layer = nn.Linear(2, 2)
    first = WeightAverage([layer], decay=0.9)
    nn.init.ones_(layer.weight)
    first.update()
    second = WeightAverage([layer], decay=0.9)
    second.load_state_dict({**first.state_dict()})
    nn.init.zeros_(layer.weight)
    for average in (first, second):
        average.update()
    for a, b in zip(*(x.state_dict()["averages"] for x in (first, second)), strict=True):
        assert torch.equal(a, b)
