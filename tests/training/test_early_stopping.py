import pytest

from pictell.training.early_stopping import EarlyStopping


def run(scores, patience):
    """Feed scores until it stops; returns the watcher and which epochs were the best so far."""
    stopping, best = EarlyStopping(patience), []
    for score in scores:
        best.append(stopping.update(score))
        if stopping.should_stop:
            break
    return stopping, best


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best_epoch"),
    [
        ([0.1, 0.3, 0.2, 0.25, 0.1, 0.9], 3, 5, 2),
        ([0.1, 0.3, 0.2, 0.25, 0.4, 0.1], 3, 6, 5),
        ([0.3, 0.2], 1, 2, 1),
        ([0.5, 0.5, 0.5], 2, 3, 1),  # as good is not better
        ([0.0, 0.0, 0.0, 0.0], 3, 4, 1),
        ([0.5, 0.4, 0.3, 0.2, 0.1], 0, 5, 1),  # 0 never stops
        ([-3.0, -2.0], 1, 2, 2),
    ],
)
def test_stops_after_patience(scores, patience, epochs, best_epoch):
    stopping, best = run(scores, patience)
    assert (stopping.epoch, stopping.best_epoch) == (epochs, best_epoch)
    assert stopping.best == scores[best_epoch - 1]
    assert best[best_epoch - 1]
    assert not any(best[best_epoch:])


def test_does_not_stop_before_the_first_score():
    assert not EarlyStopping(1).should_stop


def test_goes_on_from_what_was_saved():
    stopping, _ = run([0.3, 0.2], 3)
    again = EarlyStopping(**vars(stopping))
    again.update(0.1)
    assert not again.should_stop
    again.update(0.1)
    assert again.should_stop
