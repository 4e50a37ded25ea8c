"""Student's t against values recorded once from scipy 1.18 (numbers only)."""

import pytest

from pictell.metrics.students_t import power_of_t_test, runs_needed, t_quantile


@pytest.mark.parametrize(
    ("share", "freedom", "expected"),
    [
        (0.975, 1, 12.7062047362),
        (0.975, 2, 4.3026527297),
        (0.975, 4, 2.7764451052),
        (0.995, 7, 3.4994832974),
        (0.9, 30, 1.3104150253),
        (0.975, 1998, 1.9611520148),
    ],
)
def test_quantiles(share, freedom, expected):
    assert t_quantile(share, freedom) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("freedom", "noncentrality", "expected"),
    [
        (1, 2.0, 0.1257563178),
        (2, 3.0, 0.3874001285),
        (4, 3.0, 0.6192614594),
        (10, 1.0, 0.1481576289),
        (58, 2.8, 0.7862286390),
    ],
)
def test_power(freedom, noncentrality, expected):
    assert power_of_t_test(freedom, noncentrality) == pytest.approx(expected, abs=1e-6)


def test_without_a_difference_the_power_is_the_level():
    assert power_of_t_test(6, 0.0, level=0.01) == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize(
    ("difference", "spread", "fixed_error", "expected"),
    [
        (0.02, 0.01, 0.0, 6),
        (0.01, 0.01, 0.0, 17),
        (-0.005, 0.01, 0.0, 64),
        (0.005, 0.01, 0.0017, 688),
        (0.5, 1.0, 0.0, 64),  # Cohen's table 2.4.1: d = 0.50, power .80, two-sided .05
    ],
)
def test_runs_that_are_needed(difference, spread, fixed_error, expected):
    assert runs_needed(difference, spread, fixed_error=fixed_error) == expected


def test_more_runs_do_not_help_where_the_pictures_leave_it_open():
    assert runs_needed(0.01, 0.001, fixed_error=0.01) is None
    assert runs_needed(0.0, 0.01) is None
    assert runs_needed(0.01, 0.0) == 2
