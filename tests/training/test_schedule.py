import pytest
import torch

from pictell.config import TrainConfig
from pictell.training.schedule import LearningRates


def rates(steps_per_epoch: int = 10, **options) -> tuple[LearningRates, torch.optim.Optimizer]:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.Adam(
        [{"params": parameters[:1], "lr": 0.4}, {"params": parameters[1:], "lr": 0.1}]
    )
    return LearningRates(TrainConfig(**options), optimizer, steps_per_epoch), optimizer


def test_constant_is_the_default_and_leaves_the_rates_exactly():
    schedule, optimizer = rates()
    schedule.set(step=12345, epoch=7)
    assert [group["lr"] for group in optimizer.param_groups] == [0.4, 0.1]


def test_warm_up_rises_evenly_to_the_full_rate():
    schedule, optimizer = rates(warmup=4)
    factors = [schedule.factor(step, 0) for step in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    schedule.set(step=1, epoch=0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.05]


def test_cosine_falls_from_the_end_of_the_warm_up_to_the_floor():
    schedule, _ = rates(schedule="cosine", epochs=3, warmup=10, lr_floor=0.1)
    assert schedule.factor(10, 1) == pytest.approx(1.0)
    assert schedule.factor(20, 2) == pytest.approx(0.55)
    assert schedule.factor(30, 3) == pytest.approx(0.1)
    assert schedule.factor(99, 9) == pytest.approx(0.1)  # an epoch may have a step more
    falling = [schedule.factor(step, 0) for step in range(10, 31)]
    assert falling == sorted(falling, reverse=True)


def test_steps_go_down_after_every_few_epochs():
    schedule, _ = rates(schedule="step", decay=0.5, decay_every=3, lr_floor=0.2)
    factors = [schedule.factor(10 * epoch, epoch) for epoch in range(11)]
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2]


def test_plateau_goes_down_where_the_score_stands_still():
    schedule, _ = rates(schedule="plateau", decay=0.5, decay_every=2, patience=9)
    factors = []
    for better in (True, False, False, False, True, False, False, False, False):
        factors.append(schedule.factor(0, 0))
        schedule.end_epoch(better=better)
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_plateau_goes_on_from_what_was_saved():
    first, _ = rates(schedule="plateau", decay_every=2, patience=9)
    second, _ = rates(schedule="plateau", decay_every=2, patience=9)
    for better in (False, False, False):
        first.end_epoch(better=better)
    second.load_state_dict(first.state_dict())
    for schedule in (first, second):
        schedule.end_epoch(better=False)
    assert first.factor(0, 0) == second.factor(0, 0) == pytest.approx(0.64)
