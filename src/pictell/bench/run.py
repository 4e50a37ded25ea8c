"""`pictell bench`: measure, show, and write down.

    run_bench("train", out=Path("benchmarks"))

With `quick` nothing is timed: tiny sizes are run to see that all ways give the same results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import torch

from pictell.bench.arithmetic import Shapes
from pictell.bench.case import PICTELL, TEXTBOOK, Case
from pictell.bench.cases import DECODERS, GROUPS, full_cases, quick_cases
from pictell.bench.decoding import OnePicture
from pictell.bench.gpu import GpuResult, Setting, measure_setting, settings
from pictell.bench.growth import OPERATIONS, SIZES, exponent, grow, plot
from pictell.bench.measure import Measured, Timing, measure
from pictell.bench.start import IMPORTS, Start
from pictell.bench.table import print_results, sections, write_results
from pictell.bench.validation import Validation
from pictell.errors import InputError
from pictell.machine import hardware, versions
from pictell.progress import console

T = TypeVar("T")
WHAT = (*GROUPS, "start", "growth", "gpu", "all")
TRAIN_PICTURES, TRAIN_CAPTIONS, EPOCHS = 6000, 30000, 10  # Flickr8k


@dataclass
class Results:
    """All that one run of the benchmarks found.

    Attributes:
        operations: Times and ratios.
        whole_trainings: For each decoder the seconds of ten epochs on Flickr8k, computed.
        validation: For each decoder the seconds of a validation and of an epoch.
        one_picture: Milliseconds of the parts, from file to caption.
        start: Seconds until something happens.
        growth: Seconds and memory against pictures.
        gpu: Ways of training on a GPU.
    """

    about: dict[str, Any]
    operations: list[Measured] = field(default_factory=list)
    whole_trainings: dict[str, dict[str, float]] = field(default_factory=dict)
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    one_picture: dict[str, dict[str, float]] = field(default_factory=dict)
    start: dict[str, Timing] = field(default_factory=dict)
    growth: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    gpu: list[GpuResult] = field(default_factory=list)


def run_bench(
    what: str = "all",
    *,
    quick: bool = False,
    runs: Sequence[Path] = (),
    picture: Path | None = None,
    repeats: int = 5,
    memory: bool = True,
    only: str = "",
    out: Path | None = None,
) -> Results:
    """Measure, print, and write BENCH.md and bench.json where `out` says.

    Args:
        what: One of `WHAT`.
        quick: Check results at tiny sizes and time nothing.
        runs: Run folders for what needs a trained model (one picture, start).
        picture: A picture file for the same.
        repeats: Runs of each way that are timed.
        memory: Measure peak memory too, in processes of their own.
        only: Of the operations (with `gpu`: of its ways of training) those whose name holds these
            words, without what is computed from several; empty for all.
        out: Folder to write into; None only prints.

    Raises:
        InputError: `what` is unknown, `only` names nothing, or the textbook's code is not here.
    """
    if what not in WHAT:
        raise InputError(f"bench {what!r}: unknown; known: {', '.join(WHAT)}")
    groups = [group for group in GROUPS if what in (group, "all")]
    results = Results(about=_about(what))
    if quick:
        _check(groups)
        return results
    if only and what == "gpu":
        _gpu(results, _named(only, settings(), str))
        return _told(results, out)
    if only:
        cases = [case for group in groups for case in full_cases(group)]
        cases = _named(only, cases, attrgetter("name"))
        results.operations = [_measure(case, repeats, memory) for case in cases]
        return _told(results, out)
    for group in groups:
        for case in full_cases(group):
            results.operations.append(_measure(case, repeats, memory))
    if "train" in groups:
        _validations(results, repeats)
    if "encode" in groups and "train" in groups:
        _whole_trainings(results)
    if picture is not None and "decode" in groups:
        for run in runs:
            _one_picture(results, OnePicture(run, picture), repeats)
    if what in ("start", "all"):
        console.print("start")
        results.start = Start(runs[0] if runs else None, picture).timings(repeats)
    if what in ("growth", "all"):
        for operation in OPERATIONS:
            console.print(f"growth: {operation} at {', '.join(map(str, SIZES))} pictures")
            results.growth[operation] = grow(operation)
    if what in ("gpu", "all"):
        _gpu(results, settings())
    return _told(results, out)


def _named(words: str, operations: Sequence[T], name: Callable[[T], str]) -> list[T]:
    """Those whose names hold some words."""
    chosen = [operation for operation in operations if words in name(operation)]
    if not chosen:
        names = "; ".join(map(name, operations))
        raise InputError(f"--only {words!r}: no operation is called so; there are: {names}")
    return chosen


def _told(results: Results, out: Path | None) -> Results:
    print_results(results)
    if out is not None and sections(results):  # nothing measured writes over nothing
        write_results(results, out)
        if results.growth:
            plot(results.growth, out / "growth.svg")
    return results


def _gpu(results: Results, chosen: Sequence[Setting]) -> None:
    """Measure ways of training on a GPU, or say what would be measured."""
    if not torch.cuda.is_available():
        console.print(
            f"gpu: there is none; on one, {len(chosen)} ways of training would be measured in "
            "captions per second, peak memory, and as a ratio to the textbook's code:"
        )
        for setting in chosen:
            console.print(f"  {setting}", highlight=False)
        return
    for setting in chosen:
        console.print(f"{setting} ...")
        results.gpu.append(measure_setting(setting))


def _about(what: str) -> dict[str, Any]:
    return {
        "command": " ".join(["pictell", *sys.argv[1:]]) or what,
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
    }


def _check(groups: Sequence[str]) -> None:
    for group in groups:
        for case in quick_cases(group):
            case.check()
            for way in case.ways:
                case.prepare(way)()
            print(f"{case.name}: {'equal' if len(case.ways) > 1 else 'as it should be'}")


def _measure(case: Case, repeats: int, memory: bool) -> Measured:
    console.print(f"{case.name} ...")
    return measure(case, repeats=repeats, memory=memory)


def _seconds(results: Results, start: str, way: str) -> float:
    found = next(m for m in results.operations if m.case.name.startswith(start))
    return found.timings[way].median / found.case.amount


def _validations(results: Results, repeats: int) -> None:
    for name in DECODERS:
        case = Validation(name, Shapes())
        measured = _measure(case, repeats, False)
        epoch = TRAIN_CAPTIONS * _seconds(results, f"{name}, training", PICTELL)
        seconds = measured.timings[PICTELL].median
        results.validation[name] = {"validation": seconds, "epoch": epoch, "share": seconds / epoch}


def _whole_trainings(results: Results) -> None:
    """Ten epochs on raw pictures: the textbook encodes for each caption and epoch, we once."""
    for name in DECODERS:
        encode = {w: _seconds(results, "encoding, resnet101", w) for w in (TEXTBOOK, PICTELL)}
        step = {w: _seconds(results, f"{name}, training", w) for w in (TEXTBOOK, PICTELL)}
        captions = EPOCHS * TRAIN_CAPTIONS
        plain = captions * (encode[TEXTBOOK] + step[TEXTBOOK])
        ours = TRAIN_PICTURES * encode[PICTELL] + captions * step[PICTELL]
        results.whole_trainings[name] = {
            "textbook": plain,
            "pictell": ours,
            "ratio": plain / ours,
            **{f"encode a picture, {w}": s for w, s in encode.items()},
            **{f"train a caption, {w}": s for w, s in step.items()},
        }


def _one_picture(results: Results, case: OnePicture, repeats: int) -> None:
    measured = _measure(case, 4 * repeats, False)
    parts = case.time_parts(4 * repeats)
    results.one_picture[case.name] = {"whole": 1000 * measured.timings[PICTELL].median, **parts}


def start_ratio(start: dict[str, Timing]) -> float | None:
    """How long a cold caption takes against the imports of torch and timm."""
    if "pictell caption" not in start:
        return None
    return start["pictell caption"].median / start[IMPORTS].median


def growth_exponents(growth: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """For each operation the power with which time grows."""
    return {name: exponent(v["pictures"], v["seconds"]) for name, v in growth.items()}
