"""Student's t distribution: its quantiles, the power of its test, and the runs that a test needs.

    t_quantile(0.975, 4)                        # 2.776
    power_of_t_test(4, noncentrality=3.0)       # 0.619
    runs_needed(0.02, spread=0.01)              # 6 of each

scipy has the first two, and would be here for nothing else. A t variable is a normal one over the
root of an independent chi-square divided by its freedom, so that one integral over that root gives
all of them. Tests hold the values to those of scipy.

Sources: Cohen (1988), "Statistical power analysis for the behavioral sciences", chapter 2 (power
and sample size of the two-sample t test); Johnson, Kotz, Balakrishnan (1995), "Continuous
univariate distributions", volume 2, chapter 31 (the noncentral t distribution).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_POINTS = 1601  # of Simpson's rule; odd
_FAR = 10.0  # standard deviations of the root of the chi-square beyond which nothing is left
MOST_RUNS = 1000
_normal_below = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)), otypes=[float])


@lru_cache(maxsize=256)
def _root(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of sqrt(chi-square / freedom) and their weights, which sum to one."""
    spread = _FAR / math.sqrt(2 * freedom)
    values = np.linspace(max(0.0, 1 - spread), 1 + spread, _POINTS)
    simpson = np.full(_POINTS, 2.0)
    simpson[1::2] = 4.0
    simpson[[0, -1]] = 1.0
    with np.errstate(divide="ignore"):
        logarithm = np.where(values > 0, np.log(values), -np.inf)
    powers = (freedom - 1) * logarithm if freedom > 1 else np.zeros(_POINTS)
    weights = simpson * np.exp(powers - freedom * (values**2 - 1) / 2)
    return values, weights / weights.sum()


def _share_beyond(critical: float, freedom: int, noncentrality: float) -> float:
    """Probability that a noncentral t variable is above `critical` or below its negative."""
    root, weights = _root(freedom)
    above = _normal_below(noncentrality - critical * root)
    below = _normal_below(-noncentrality - critical * root)
    return float(weights @ (above + below))


@lru_cache(maxsize=256)
def t_quantile(share: float, freedom: int) -> float:
    """The value that a t variable is below with probability `share` (0.5 to 1).

    Args:
        share: Such as 0.975 for the bounds of a 95 % interval.
        freedom: Degrees of freedom, at least 1.
    """
    assert 0.5 <= share < 1 and freedom >= 1
    low, high = 0.0, 1.0
    while _share_beyond(high, freedom, 0.0) > 2 * (1 - share):
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        if _share_beyond(middle, freedom, 0.0) > 2 * (1 - share):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def power_of_t_test(freedom: int, noncentrality: float, *, level: float = 0.05) -> float:
    """Probability that a two-sided t test at `level` finds a difference.

    Args:
        freedom: Degrees of freedom.
        noncentrality: The true difference in units of its standard error.
        level: Share of false alarms.
    """
    return _share_beyond(t_quantile(1 - level / 2, freedom), freedom, noncentrality)


def runs_needed(
    difference: float,
    spread: float,
    *,
    fixed_error: float = 0.0,
    power: float = 0.8,
    level: float = 0.05,
) -> int | None:
    """How many runs of each of two methods settle a difference as large as this.

    The standard error with n runs each is sqrt(2 spread^2 / n + fixed_error^2): more runs do not
    shrink what the choice of the pictures leaves open.

    Args:
        difference: Between the means of the two methods.
        spread: Standard deviation of a method's score over its runs, in the same units.
        fixed_error: Standard error that stays however many runs there are.
        power: Probability of settling it.
        level: Share of false alarms of the two-sided test.

    Returns:
        The number of runs of each method, at least 2, or None if 1000 are not enough.
    """

    def enough(runs: int) -> bool:
        error = math.hypot(spread * math.sqrt(2 / runs), fixed_error)
        if error == 0:
            return difference != 0
        freedom = 2 * runs - 2
        return power_of_t_test(freedom, abs(difference) / error, level=level) >= power

    if not enough(MOST_RUNS):
        return None
    low, high = 1, MOST_RUNS  # more runs never have less power
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
