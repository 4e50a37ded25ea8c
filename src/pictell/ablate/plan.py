"""Which trainings a study needs, and which variations need none.

    plan = Plan.make(study, study.sizes["screening"], Path("runs/study"))
    [job.name for job in plan.trainings()]

A training's folder carries a hash of all that its result depends on: what is there is used again,
and a variation that was changed in the file is trained anew. Variations of the search alone and
ensembles use the runs of others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pictell.ablate.study import BASE, Size, Study, Variation, changed_options
from pictell.comparison.entrants import Entrant
from pictell.config import Config, flatten
from pictell.data.records import Example, dataset_hash, read_dataset
from pictell.errors import InputError
from pictell.files import write_text
from pictell.training.checkpoint import RunFolder, models_hash
from pictell.training.task import used_examples

Kind = Literal["base", "training", "decoding", "ensemble", "unchanged", "needs a GPU"]

# Different values of these change neither the weights nor the times that are compared. (Of the
# search only the longest caption has a say in training: by way of validation.)
_WITHOUT_EFFECT = {
    *("run", "train.seed", "encoder.features", "encoder.batch_size", "data.dataset"),
    *("train.log_every", "train.save_every", "train.tensorboard"),
}


_DEFAULTS = 1  # which defaults of options; see `options_set`


@dataclass(frozen=True)
class Planned:
    """What is done for a variation.

    Attributes:
        variation: As the study has it.
        kind: How it is measured, or why it is not.
        configs: By seed.
        runs: By seed the runs whose captions are scored; several of an ensemble. The seed of an
            ensemble of all seeds is the first.
        changed: Options that differ from the base in effect, with their values.
    """

    variation: Variation
    kind: Kind
    configs: dict[int, Config]
    runs: dict[int, list[Entrant]]
    changed: dict[str, object]

    @property
    def measured(self) -> bool:
        """Whether there is something to measure."""
        return self.kind not in ("unchanged", "needs a GPU")


@dataclass(frozen=True)
class Plan:
    """All variations of a study at a size, the base first."""

    folder: Path
    planned: dict[str, Planned]

    @classmethod
    def make(cls, study: Study, size: Size, folder: Path, *, gpu: bool | None = None) -> Plan:
        """Decide for each variation; nothing is written.

        Args:
            study: The study.
            size: At which size.
            folder: Where its runs are.
            gpu: Whether the machine that measures has a GPU; this one's if None.

        Raises:
            InputError: The data set cannot be used.
        """
        made = cls(folder, {})
        gpu = torch.cuda.is_available() if gpu is None else gpu
        for variation in study.variations.values():
            configs = {seed: study.config(variation, size, seed) for seed in size.seeds}
            base = study.config(study.variations[BASE], size, size.seeds[0])
            changed = changed_options(base, configs[size.seeds[0]], gpu=gpu)
            kind = _kind(variation, changed, size, gpu=gpu)
            made.planned[variation.name] = Planned(variation, kind, configs, {}, changed)
        data = _Data()
        for planned in made.planned.values():
            if planned.kind in ("base", "training"):
                for seed, config in planned.configs.items():
                    run = _entrant(folder, planned.variation.name, config, seed, data)
                    planned.runs[seed] = [run]
        for planned in made.planned.values():
            planned.runs.update(made._borrowed(planned))
        return made

    def _borrowed(self, planned: Planned) -> dict[int, list[Entrant]]:
        """The runs of others that a variation uses."""
        base = self.planned[BASE].runs
        if planned.kind == "decoding":
            return {seed: list(runs) for seed, runs in base.items()}
        if planned.kind != "ensemble":
            return {}
        if planned.variation.ensemble == ("seeds",):
            return {min(base): [run for runs in base.values() for run in runs]}
        members = [self.planned[name] for name in planned.variation.ensemble]
        return {
            seed: [run for member in members for run in (member.runs.get(seed) or base[seed])]
            for seed in base
        }

    def trainings(
        self,
        names: Iterable[str] | None = None,
        kept: Callable[[Planned, int], bool] = lambda planned, seed: False,
    ) -> list[Entrant]:
        """Unfinished trainings of some variations (of all if None), each once, the base first.

        Args:
            names: Of the variations.
            kept: Whether a variation's result with a seed is known and needs no run.
        """
        wanted = set(self.planned if names is None else names) | {BASE}
        for name in list(wanted):
            wanted |= set(self.planned[name].variation.ensemble) & set(self.planned)
        found: dict[Path, Entrant] = {}
        for name, planned in self.planned.items():
            if name in wanted and planned.measured:
                for seed, runs in planned.runs.items():
                    if not kept(planned, seed):
                        found |= {run.run.path: run for run in runs if not run.finished}
        return list(found.values())

    def write_configs(self, trainings: Iterable[Entrant]) -> None:
        """Write the config files that the trainings read."""
        for training in trainings:
            write_text(training.source, training.config.to_yaml())


class _Data:
    """The data sets of a study, each read once."""

    def __init__(self) -> None:
        self._examples: dict[str, list[Example]] = {}
        self._hashes: dict[str, str] = {}

    def check(self, config: Config) -> None:
        """Raise `InputError` unless the data set can be read and has so many pictures."""
        used_examples(config, self._read(config.data.dataset))

    def hash_of(self, config: Config) -> str:
        """sha256 of the data set."""
        dataset = config.data.dataset
        if dataset not in self._hashes:
            self._hashes[dataset] = dataset_hash(self._read(dataset))
        return self._hashes[dataset]

    def _read(self, dataset: str) -> list[Example]:
        if dataset not in self._examples:
            self._examples[dataset] = read_dataset(Path(dataset))
        return self._examples[dataset]


def _kind(variation: Variation, changed: dict[str, object], size: Size, *, gpu: bool) -> Kind:
    if variation.name == BASE:
        return "base"
    fp16 = changed.get("train.precision") == "fp16"
    if (variation.needs_gpu or fp16) and not gpu:
        return "needs a GPU"
    if variation.ensemble == ("seeds",):
        return "ensemble" if len(size.seeds) > 1 else "unchanged"
    if variation.ensemble:
        return "ensemble"
    if not changed:
        return "unchanged"
    return "decoding" if all(name.startswith("search.") for name in changed) else "training"


def _entrant(folder: Path, name: str, config: Config, seed: int, data: _Data) -> Entrant:
    data.check(config)
    options = {
        option: value
        for option, value in options_set(config).items()
        if option not in _WITHOUT_EFFECT
        and (option == "search.max_length" or not option.startswith("search."))
    }
    first = _weights_hash(config.train.init)
    first += "".join(map(_weights_hash, config.train.teacher_runs))
    stem = f"{slug(name)}-{digest_of([options, data.hash_of(config), first])}_seed{seed}"
    run = folder / "runs" / stem
    own = Config.from_dict({**config.to_dict(), "run": str(run)})
    source = folder / "configs" / f"{stem}.yaml"
    return Entrant(f"{name}, seed {seed}", source, own, RunFolder(run), trainable=True)


def _weights_hash(init: str) -> str:
    """sha256 of the weights that a training begins with; empty where they are drawn anew.

    A run that is not there is told of when the training begins.
    """
    run = RunFolder(init) if init else None
    return models_hash([run]) if run is not None and run.model_file.exists() else ""


def options_set(config: Config) -> dict[str, object]:
    """Options by dotted name that are not at their defaults.

    An option that a later version adds changes no hash of an experiment that does not use it.
    Whoever changes a default counts `_DEFAULTS` up.
    """
    defaults = flatten(Config().to_dict())
    flat = flatten(config.to_dict())
    return {o: value for o, value in flat.items() if o not in defaults or defaults[o] != value}


def digest_of(content: object) -> str:
    """Eight characters that tell one content from another."""
    text = json.dumps([_DEFAULTS, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slug(name: str) -> str:
    """A variation's name as a part of a file name."""
    return re.sub(r"[^\w.]+", "_", name).strip("_") or "variation"


def check_names(study: Study, names: Iterable[str]) -> None:
    """Raise `InputError` unless all are variations of the study."""
    for name in names:
        if name not in study.variations:
            known = ", ".join(list(study.variations)[1:])
            raise InputError(f"{name!r} is no variation of {study.file}; it has: {known}")
