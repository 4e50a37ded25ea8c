"""Every kind of hostile upload against a real server: a 4xx or a right caption, and it lives."""

from collections import Counter

import pytest
from running_server import RunningServer
from serving import benchmark


@pytest.mark.slow
def test_hostile_uploads_are_refused_or_captioned(trained_runs):
    hostile = benchmark("hostile_uploads")
    kinds = len(hostile.KINDS)
    options = ["--timeout", str(hostile.SLOW_TIMEOUT)]
    with RunningServer([str(trained_runs / "attention")], options) as server:
        outcome = hostile.attack_all(server, 2 * kinds, seed=1)
    assert outcome.problems == []
    assert sum(outcome.answers.values()) == 2 * kinds
    statuses = Counter(status for _, status in outcome.answers)
    assert {200, 400, 413, 422} <= set(statuses)
    assert outcome.memory_after < outcome.memory_before + 150
