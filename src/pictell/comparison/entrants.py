"""Who is compared: config files and run folders, checked before anything is trained.

    entrants = resolve_entrants(["configs/flickr8k_rnn.yaml", "runs/flickr8k_attention"])
    check_comparable(entrants)

A config file stands for its run folder, which may be missing or unfinished; a run folder must be
finished. Whatever can be known to be wrong is said here, before hours of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pictell.config import Config, flatten
from pictell.data.records import dataset_hash, read_dataset
from pictell.data.text import same_text
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder, run_path
from pictell.training.record import RESUMABLE_CHANGES

# A run may differ from its config file in these and still be that experiment's result: captions
# are written anew, as the file says now.
_WITHOUT_EFFECT = RESUMABLE_CHANGES - {"train.epochs", "train.patience"}


@dataclass(frozen=True)
class Entrant:
    """One side of a comparison.

    Attributes:
        name: Short, and unlike the others' names.
        source: What the user gave.
        config: Its options.
        run: Its run folder, which may not exist yet.
        trainable: Whether it was given as a config file, and so may be trained.
        overrides: Options of the command line that make it of the config file.
    """

    name: str
    source: Path
    config: Config
    run: RunFolder
    trainable: bool
    overrides: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """What trains it, after `pictell`."""
        file = self.source if self.trainable else self.run.config_file
        return ["train", str(file), *self.overrides]

    @property
    def finished(self) -> bool:
        """Whether the run was trained to its end."""
        return (
            self.run.info_file.exists()
            and self.run.model_file.exists()
            and bool(self.run.info.get("finished"))
        )

    @property
    def data_hash(self) -> str:
        """sha256 of the data set that it was, or will be, trained on."""
        if self.run.info_file.exists():
            return self.run.info["data"]["sha256"]
        return dataset_hash(read_dataset(Path(self.config.data.dataset)))

    def with_length_penalty(self, length_penalty: float) -> Entrant:
        """The same with another `search.length_penalty` than its config says."""
        search = replace(self.config.search, length_penalty=length_penalty)
        return replace(self, config=replace(self.config, search=search))


def resolve_entrants(
    items: Sequence[Path | str], *, at_least: int = 2, seeds: int = 1
) -> list[Entrant]:
    """Find the config and the run folder of each item.

    Args:
        items: Config files and run folders.
        at_least: How many entrants there must be.
        seeds: Each config file stands for this many runs: of its own seed, and of those after it
            in run folders with the seed in their names.

    Raises:
        InputError: Fewer items, an item that is neither a config file nor a finished run
            folder, two items with the same run folder, or a run that was trained with other options
            than its config file holds now.
    """
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; it must be at least 1")
    found = [entrant for item in items for entrant in _entrants_of(Path(item), seeds)]
    if len(found) < at_least:
        needed = (
            "a comparison needs at least two config files or run folders"
            if at_least == 2
            else "a report needs at least one run folder"
        )
        raise InputError(f"{needed}, not {len(found)}")
    names = _short_names([entrant.run.path for entrant in found])
    entrants = [replace(e, name=name) for e, name in zip(found, names, strict=True)]
    for entrant in entrants:
        _check_entrant(entrant)
    return entrants


def _entrants_of(item: Path, seeds: int) -> list[Entrant]:
    """A run folder, or a config file with each of its seeds; names are given later."""
    if item.is_dir():
        run = RunFolder.open(item)
        return [Entrant("", item, run.config, run, trainable=False)]
    if not item.exists():
        raise InputError(f"{item}: no such config file or run folder")
    config = Config.load(item)
    first = Entrant("", item, config, RunFolder(run_path(config, item)), trainable=True)
    own = config.train.seed
    return [first, *(_with_seed(first, seed) for seed in range(own + 1, own + seeds))]


def _with_seed(entrant: Entrant, seed: int) -> Entrant:
    path = seed_path(entrant.run.path, seed)
    train = replace(entrant.config.train, seed=seed)
    return replace(
        entrant,
        config=replace(entrant.config, run=str(path), train=train),
        run=RunFolder(path),
        overrides=("--train.seed", str(seed), "--run", str(path)),
    )


def seed_path(run: Path, seed: int) -> Path:
    """The run folder of another seed than the config's own."""
    return run.with_name(f"{run.name}_seed{seed}")


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of their parents as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for first, path in enumerate(paths):
        if parts[first] in parts[:first]:
            raise InputError(f"{path}: is given twice; compare it with another run")
    length = 1
    while len({part[-length:] for part in parts}) < len(parts):
        length += 1
    return ["/".join(part[-length:]) for part in parts]


def _check_entrant(entrant: Entrant) -> None:
    run = entrant.run
    if not entrant.trainable:
        if not entrant.finished:
            raise InputError(
                f"{entrant.source}: its training is not finished; go on with  pictell train "
                f"{run.config_file} --resume"
            )
        return
    if not run.config_file.exists():
        return
    before, now = flatten(run.config.to_dict()), flatten(entrant.config.to_dict())
    # What an interrupted run may change, its resumption will take up.
    allowed = _WITHOUT_EFFECT if entrant.finished else RESUMABLE_CHANGES
    for option, value in now.items():
        if before[option] != value and option not in allowed:
            raise InputError(
                f"{run.path}: was trained with {option} = {before[option]!r}, but {entrant.source} "
                f"says {value!r}; train it again, give the config another run folder, or compare "
                "the run folder itself"
            )


def common_language(entrants: Sequence[Entrant]) -> str:
    """In what captions are scored: the language of all, or Chinese words where some write
    words and others characters.
    """
    languages = {entrant.config.data.language for entrant in entrants}
    return languages.pop() if len(languages) == 1 else "zh"


def check_comparable(entrants: Sequence[Entrant]) -> None:
    """Check that all entrants have the first one's language and data set.

    Chinese in words and in characters is one language: both have scores per word and per character.

    Raises:
        InputError: They do not; the two that differ are named.
    """
    first = entrants[0]
    for other in entrants[1:]:
        languages = first.config.data.language, other.config.data.language
        if not same_text(*languages):
            raise InputError(
                f"{first.name} is in {languages[0]!r} and {other.name} in {languages[1]!r}; "
                "captions in different languages cannot be compared"
            )
    expected = first.data_hash
    for other in entrants[1:]:
        found = other.data_hash
        if found != expected:
            raise InputError(
                f"{first.name} and {other.name} are runs on different data sets "
                f"({first.config.data.dataset}, sha256 {expected[:12]}, and "
                f"{other.config.data.dataset}, sha256 {found[:12]}); train both on the same"
            )
