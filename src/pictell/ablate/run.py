"""Run a study: train what is missing, score it, and write what each variation brings.

    record = ablate(Path("configs/study_flickr8k.yaml"), Path("runs/study"), size="screening")

Below OUT/SIZE: `runs/`, `configs/` and `logs/` of the trainings, `decoded/` for captions of
variations that trained nothing, `results/` (see kept.py), and what all comes to, `study.json`,
`table.md`, `forest.svg` and `forest.png`. study.json holds

    created, command, study, size, split, seeds, jobs, resamples, seed
    pictures            how many were captioned for each variation
    base                the options of the base at this size, and hardware: of this machine
    warnings            sentences to read before believing the rest
    variations          for each, the base first: name, kind (base, training, decoding, ensemble,
                        unchanged, needs a GPU), options, ensemble, changed (options that differ in
                        effect), state (measured, failed, not trained, not measured, unchanged,
                        needs a GPU), seeds, pictures, failures (seed, reason), runs, machines
                        (hardware that it was measured on)
        scores          by name score (mean over seeds), deviation, by_seed
        cost            means over seeds of best_epoch, epochs, seconds, seconds_to_best (with
                        validation), epoch_seconds, captions_per_second (training),
                        peak_memory_mb, decoding_captions_per_second; null where nothing was trained
        differences     CIDEr-D and BLEU-4: variation minus base, with the fields of
                        `pictell.metrics.RunsBootstrap`, spread, needed, p_holm and verdict (better,
                        worse, unsure, within noise)
    claims              subject, claimed, measured and sentence of each of the starting report

Scores are 0 to 1 (CIDEr-D 0 to 10), memory is in MB (10^6 bytes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from pictell.ablate.claims import claims_of
from pictell.ablate.encoding import encode_for
from pictell.ablate.forest import check_matplotlib, draw_forest
from pictell.ablate.kept import KeptResults, Key
from pictell.ablate.plan import Plan, check_names
from pictell.ablate.results import results_of
from pictell.ablate.study import BASE, SIZES, Size, Study
from pictell.ablate.table import markdown_of
from pictell.ablate.training_jobs import Failures, run_trainings
from pictell.errors import InputError
from pictell.files import write_json, write_text
from pictell.machine import hardware
from pictell.progress import console

try:
    import fcntl
except ImportError:  # not a Unix system: two studies must not work in one folder there
    fcntl = None

STUDY_FILE = "study.json"
TABLE_FILE = "table.md"
FOREST = "forest"


def ablate(
    file: Path,
    out: Path,
    *,
    size: str = "screening",
    jobs: int = 1,
    results: Path | None = None,
    names: Sequence[str] = (),
    trained_only: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
    command: str = "",
) -> dict[str, Any]:
    """Run a study, or go on with it.

    Args:
        file: The study.
        out: The folder to write into.
        size: `screening` (scored on validation) or `full` (scored on test).
        jobs: Trainings at once; the processor's threads are divided between them.
        results: The folder of results (see `pictell.ablate.kept`); OUT/SIZE/results if None. What
            is there is not trained again, also where it was trained on another machine.
        names: Train and score these variations (and the base) alone; what was trained or scored of
            the others before is in the results too.
        trained_only: Train nothing; tell of what is trained.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        command: What was typed, for the record.

    Returns:
        The contents of study.json.

    Raises:
        InputError: The study, a name or a number cannot be used; nothing was trained.
        InterruptedTraining: It was stopped; the same call goes on from there.
    """
    _check(size, jobs, resamples)
    study = Study.load(file)
    check_names(study, names)
    check_matplotlib()
    chosen = study.sizes[size]
    folder = out / size
    kept = KeptResults(folder / "results" if results is None else results)
    # What a machine with a GPU measured can be told of on one without.
    gpu = torch.cuda.is_available() or (trained_only and kept.from_gpu())
    plan = Plan.make(study, chosen, folder, gpu=gpu)
    warnings = list(_warnings(plan))
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False, soft_wrap=True)
    with _alone(folder):
        wanted = [BASE, *names] if names else None
        failures = {} if trained_only else _train(plan, wanted, kept, jobs, folder)
        variations = results_of(
            plan, chosen, failures, kept, resamples=resamples, seed=seed, names=names
        )
        record = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "study": str(file),
            **_about(study, chosen, variations),
            "jobs": jobs,
            "resamples": resamples,
            "seed": seed,
            "hardware": hardware(),
            "warnings": warnings,
            "variations": variations,
        }
        record["claims"] = claims_of(record)
        _write(record, folder)
    return record


def failed(record: dict[str, Any]) -> bool:
    """Whether anything failed that the study was to do."""
    return any(variation["failures"] for variation in record["variations"])


def _check(size: str, jobs: int, resamples: int) -> None:
    if size not in SIZES:
        raise InputError(f"size is {size!r}; it must be one of {', '.join(SIZES)}")
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it must be at least 1")
    if resamples < 100:
        raise InputError(f"resamples is {resamples}; an interval needs at least 100")


def _train(
    plan: Plan, names: list[str] | None, kept: KeptResults, jobs: int, folder: Path
) -> Failures:
    split = SIZES[folder.name]
    trainings = plan.trainings(names, lambda planned, seed: kept.has(Key(planned, seed, split)))
    failures = encode_for(trainings)
    for path, reason in failures.items():
        console.print(f"{path.name} failed: {reason}", highlight=False, markup=False)
    able = [training for training in trainings if training.run.path not in failures]
    plan.write_configs(able)
    return failures | run_trainings(able, jobs=jobs, logs=folder / "logs")


def _warnings(plan: Plan) -> Iterator[str]:
    """Variations that cannot say anything, or nothing new."""
    for name, planned in plan.planned.items():
        if planned.kind == "unchanged":
            why = "one seed is the base" if planned.variation.ensemble else "it is the base"
            yield f"{name!r} changes nothing against the base ({why}): it is not measured"
    measured = {
        name: repr(sorted(planned.changed.items()))
        for name, planned in plan.planned.items()
        if planned.kind in ("training", "decoding")
    }
    for same, count in Counter(measured.values()).items():
        if count > 1:
            names = ", ".join(repr(name) for name, value in measured.items() if value == same)
            yield f"{names} are the same experiment under several names"


def _about(study: Study, size: Size, variations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    pictures = [v["pictures"] for v in variations if v["pictures"]]
    base = study.config(study.variations[BASE], size, size.seeds[0])
    return {
        "size": size.name,
        "split": size.split,
        "seeds": list(size.seeds),
        "pictures": pictures[0] if pictures else 0,
        "base": base.to_dict(),
    }


def _write(record: dict[str, Any], folder: Path) -> None:
    write_json(folder / STUDY_FILE, record)
    write_text(folder / TABLE_FILE, markdown_of(record))
    draw_forest(record, folder / FOREST)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process out of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another pictell ablate is at work in it") from None
        yield
