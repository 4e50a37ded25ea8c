"""What a run says of itself before its first step, and whether another run is the same experiment.

check_same_experiment(run, config)      # before a run is resumed
"""

from __future__ import annotations

import math
from typing import Any

from pictell.config import Config, flatten
from pictell.decoders.base import Decoder
from pictell.errors import InputError
from pictell.machine import hardware, versions
from pictell.training.checkpoint import RunFolder
from pictell.training.task import Task

# What may change when a run is resumed: it does not change what a step computes.
RESUMABLE_CHANGES = {
    *("run", "encoder.features", "encoder.batch_size", "encoder.weights"),
    *("train.epochs", "train.patience", "train.workers", "train.log_every", "train.save_every"),
    *("train.tensorboard", "search.beam", "search.length_penalty"),
    *("search.neighbours", "search.neighbour_weight", "search.neighbours_by"),
    "search.patience",
}


def describe_run(task: Task, decoder: Decoder, *, precision: str, processes: int) -> dict[str, Any]:
    """What run.json says of a run before its first step."""
    encoder = task.encoder
    train, val = task.split("train"), task.split("val")
    return {
        "data": {
            "dataset": task.config.data.dataset,
            "sha256": task.data_hash,
            "train_pictures": len(train.examples),
            "train_captions": len(train.captions.words),
            "val_pictures": len(val.examples),
            "vocab_size": len(task.vocabulary),
        },
        "encoder": {
            "name": encoder.config.name,
            "key": encoder.fingerprint(),
            "grid": list(encoder.grid),
            "feature_size": encoder.feature_size,
            "parameters": sum(p.numel() for p in encoder.parameters()),
            "trained_parameters": sum(p.numel() for p in encoder.trained),
        },
        "decoder": {
            "name": task.config.decoder.name,
            "parameters": sum(p.numel() for p in decoder.parameters()),
            "regions": math.prod(decoder.grid),
        },
        "precision": precision,
        "processes": processes,
        "versions": versions(),
        "hardware": hardware(),
        "finished": False,
    }


def check_same_experiment(run: RunFolder, config: Config) -> None:
    """Raise `InputError` if a resumed run would compute something else than before."""
    if not run.config_file.exists():
        raise InputError(f"{run.path}: nothing to resume")
    before, now = flatten(run.config.to_dict()), flatten(config.to_dict())
    allowed = RESUMABLE_CHANGES
    if config.train.schedule == "cosine":  # its rates are a function of where it ends
        allowed = allowed - {"train.epochs"}
    for name, value in now.items():
        if before[name] != value and name not in allowed:
            raise InputError(
                f"{run.path}: was trained with {name} = {before[name]!r}, not {value!r}; a resumed "
                "run must keep it (use another run folder for another experiment)"
            )


def check_same_inputs(run: RunFolder, task: Task) -> None:
    """Captions and features must be those of the steps taken so far."""
    info, encoder = run.info, task.encoder
    if task.data_hash != info["data"]["sha256"]:
        raise InputError(
            f"{run.path}: the data set has changed since this run began; begin anew with "
            "--overwrite, or in another run folder"
        )
    if not encoder.trained and encoder.fingerprint() != info["encoder"]["key"]:
        raise InputError(
            f"{run.path}: was trained with other encoder weights than those found now for "
            f"{encoder.config.name} ({encoder.config.weights}); give the right ones with "
            "--encoder.weights FILE"
        )
