import time

import pytest

from pictell.bench.case import PICTELL, TEXTBOOK, Case, Term
from pictell.bench.measure import (
    Measured,
    Timing,
    alternate,
    matrix_pace,
    measure,
    peak_of,
    read_bandwidth,
    resident_mb,
)
from pictell.machine import return_freed_memory


class Counting(Case):
    """Notes which way ran."""

    name, unit, amount = "counting", "captions", 10

    def __init__(self, equal: bool = True) -> None:
        self.ran: list[str] = []
        self.equal = equal

    def prepare(self, way):
        return lambda: self.ran.append(way)

    def check(self):
        assert self.equal, "not equal"

    def arithmetic(self):
        return [
            Term(name="product", shape="", gflop=6.0, megabytes=10.0),
            Term(name="reading", shape="", gflop=0.1, megabytes=4000.0),
        ]


def measured(ours: float, plain: float) -> Measured:
    return Measured(
        case=Counting(),
        timings={
            TEXTBOOK: Timing(median=plain, least=plain, most=plain),
            PICTELL: Timing(median=ours, least=ours, most=ours),
        },
        terms=Counting().arithmetic(),
        pace=100.0,
        bandwidth=40.0,
        memory_mb={},
    )


def test_ways_alternate_after_a_run_of_each():
    case = Counting()
    timings = alternate({way: case.prepare(way) for way in case.ways}, 3)
    assert case.ran == [TEXTBOOK, PICTELL] * 4
    assert all(0 <= t.least <= t.median <= t.most for t in timings.values())


def test_figures():
    m = measured(0.25, 2.0)
    assert m.ratio == 8
    assert m.rate == 40
    assert m.gflop == pytest.approx(6.1)
    assert m.pace_share == pytest.approx(6.1 / 0.25 / 100)
    # 6 GFLOP at 100 GFLOP/s, then 4,000 MB at 40 GB/s.
    assert m.roofline == pytest.approx(0.06 + 0.1)


def test_nothing_is_measured_when_the_ways_differ():
    case = Counting(equal=False)
    with pytest.raises(AssertionError, match="not equal"):
        measure(case, repeats=1, memory=False)
    assert not case.ran


def test_the_machine_has_a_pace_and_a_bandwidth():
    assert 1 < matrix_pace(repeats=1) < 1e5
    assert 0.1 < read_bandwidth(repeats=2) < 1e4


def test_peak_memory_is_seen_though_it_is_given_back():
    # Earlier tests may have left as much in freed blocks: taking these again shows no growth.
    return_freed_memory()
    before = resident_mb()

    def hold():
        kept = bytearray(b"x") * 200_000_000
        time.sleep(0.05)
        return len(kept)

    assert 190 < peak_of(hold) - before < 260
