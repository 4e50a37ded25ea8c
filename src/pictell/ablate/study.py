"""What a study is: a base experiment, variations of it, seeds, and two sizes.

    study = Study.load(Path("configs/study_flickr8k.yaml"))
    study.config(study.variations["alpha_c 0"], study.sizes["screening"], seed=0)

    base: flickr8k_attention.yaml                     # beside the study, or options
    seeds: [0, 1]
    screening: {data.pictures: 1500, train.epochs: 4}
    full: {seeds: [0, 1, 2]}
    variations:
      alpha_c 0: {train.alpha_c: 0}
      no mixed precision: {train.precision: none, needs: gpu}
      all seeds together: {ensemble: seeds}
      with tanh together: {ensemble: [base, tanh]}

Everything that can be known to be wrong is said when the file is read, before anything is trained.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pictell.config import Config, flatten
from pictell.decoders.base import DECODERS, decoder_class
from pictell.errors import InputError
from pictell.files import read_text

BASE = "base"
SIZES = {"screening": "val", "full": "test"}  # and the split that each is scored on
_KEYS = ("base", "seeds", "variations", *SIZES)


@dataclass(frozen=True)
class Size:
    """How large the trainings of a study are.

    Attributes:
        name: screening or full.
        split: Where captions are scored: screening must not look at the test split.
        seeds: Of the trainings.
        options: What differs from the base, by dotted name.
    """

    name: str
    split: str
    seeds: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Variation:
    """A few options that differ from the base.

    Attributes:
        name: To read; `base` is the base itself.
        options: By dotted name.
        needs_gpu: Whether it says nothing on a CPU.
        ensemble: Variations whose runs of the same seed write together; or `("seeds",)`, all seeds
            of the base together; empty for none.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    needs_gpu: bool = False
    ensemble: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A study, checked.

    Attributes:
        file: Where it was read from.
        base: The options of the base experiment.
        variations: By name, the base first.
        sizes: `screening` and `full`.
    """

    file: Path
    base: Config
    variations: dict[str, Variation]
    sizes: dict[str, Size]

    @classmethod
    def load(cls, file: Path) -> Study:
        """Read a study.

        Raises:
            InputError: The file is missing or not as above, or an option is not known or has a
                wrong value; the nearest known option is named.
        """
        values = _parse(file)
        base = _base(values.get("base"), file)
        seeds = _seeds(values.get("seeds", [base.train.seed]), f"{file}, seeds")
        sizes = {
            name: _size(name, values.get(name) or {}, seeds, f"{file}, {name}") for name in SIZES
        }
        given = values.get("variations")
        if not isinstance(given, dict) or not given:
            raise InputError(f"{file}: variations must be names with options, such as {_EXAMPLE}")
        variations = {BASE: Variation(BASE)}
        for name, options in given.items():
            variations[str(name)] = _variation(str(name), options, file)
        study = cls(file, base, variations, sizes)
        study._check()
        return study

    def config(self, variation: Variation, size: Size, seed: int) -> Config:
        """The options of one training of a variation.

        Raises:
            InputError: An option is unknown or has a wrong value.
        """
        flat = flatten(self.base.to_dict()) | size.options | variation.options
        where = f"{self.file}, {'base' if variation.name == BASE else repr(variation.name)}"
        config = Config.from_dict(_nested(flat | {"train.seed": seed, "run": ""}), where)
        if config.decoder.name not in DECODERS:
            raise InputError(
                f"{where}: decoder.name is {config.decoder.name!r}; known: {', '.join(DECODERS)}"
            )
        return config

    def _check(self) -> None:
        for size in self.sizes.values():
            for option, value in size.options.items():  # its own place in the message
                _single(self.base, option, value, f"{self.file}, {size.name}")
            for variation in self.variations.values():
                self.config(variation, size, seed=0)
        for variation in self.variations.values():
            self._check_ensemble(variation)

    def _check_ensemble(self, variation: Variation) -> None:
        if variation.ensemble == ("seeds",):
            return
        for name in variation.ensemble:
            where = f"{self.file}, {variation.name!r}: ensemble names {name!r}"
            if name not in self.variations:
                raise InputError(f"{where}, which is no variation{_near(name, self.variations)}")
            if self.variations[name].ensemble:
                raise InputError(f"{where}, which is an ensemble itself")


_EXAMPLE = "'alpha_c 0: {train.alpha_c: 0}'"


def _parse(file: Path) -> dict[str, Any]:
    import yaml

    text = read_text(file, what="study")
    try:
        values = yaml.safe_load(text)
        node = yaml.compose(text)
    except (yaml.YAMLError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise InputError(
            f"{file}: not YAML{'' if line is None else f' (line {line + 1})'}"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{file}: must hold {', '.join(_KEYS)}, not {values!r}")
    for key in values:
        if key not in _KEYS:
            raise InputError(f"{file}: unknown key {key!r}{_near(str(key), _KEYS)}")
    _check_names_once(node, file)
    return values


def _check_names_once(node: Any, file: Path) -> None:
    """YAML keeps the last of two equal names and is silent about it."""
    for key, value in node.value:
        if key.value == "variations" and isinstance(value.value, list):
            names = Counter(name.value for name, _ in (v for v in value.value if len(v) == 2))
            for name, count in names.items():
                if count > 1 or name == BASE:
                    why = "stands for the base itself" if name == BASE else "is there twice"
                    raise InputError(f"{file}: variation {name!r} {why}; give it another name")


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _base(given: Any, file: Path) -> Config:
    if isinstance(given, dict):
        return Config.from_dict(_nested(given), f"{file}, base")
    if not isinstance(given, str):
        raise InputError(f"{file}: base must be a config file or options, not {given!r}")
    beside = file.parent / given
    return Config.load(beside if beside.exists() else Path(given))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested dictionaries, which may be among the values already."""
    nested: dict[str, Any] = {name: {} for name, value in flat.items() if value == {}}
    for name, value in flatten(dict(flat)).items():
        *sections, last = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return nested


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    whole = isinstance(given, list) and all(type(s) is int and s >= 0 for s in given)
    if not whole or not given or len(set(given)) < len(given):
        raise InputError(f"{where}: must be different whole numbers, such as [0, 1], not {given!r}")
    return tuple(given)


def _size(name: str, given: Any, seeds: tuple[int, ...], where: str) -> Size:
    if not isinstance(given, dict):
        raise InputError(f"{where}: must hold options, not {given!r}")
    options = flatten(given)
    if "seeds" in options:
        seeds = _seeds(options.pop("seeds"), f"{where}, seeds")
    _no_seed(options, where)
    return Size(name, SIZES[name], seeds, options)


def _variation(name: str, given: Any, file: Path) -> Variation:
    where = f"{file}, {name!r}"
    if not isinstance(given, dict):
        raise InputError(f"{where}: must hold options, such as {_EXAMPLE}, not {given!r}")
    options = flatten(given)
    needs = options.pop("needs", None)
    if needs not in (None, "gpu"):
        raise InputError(f"{where}: needs is {needs!r}; it must be gpu, or left out")
    ensemble = _ensemble(options.pop("ensemble", []), where)
    _no_seed(options, where)
    foreign = [option for option in options if ensemble and not option.startswith("search.")]
    if foreign:
        raise InputError(
            f"{where}: an ensemble trains nothing, so that {foreign[0]} has no effect; vary it in "
            "a variation that the ensemble names"
        )
    return Variation(name, options, needs == "gpu", ensemble)


def _ensemble(given: Any, where: str) -> tuple[str, ...]:
    if given == "seeds":
        return ("seeds",)
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise InputError(
            f"{where}: ensemble is {given!r}; it must be seeds, or a list of variations"
        )
    return tuple(given)


def _no_seed(options: Mapping[str, Any], where: str) -> None:
    for option in ("train.seed", "run"):
        if option in options:
            raise InputError(f"{where}: {option} is not for a variation; a study has seeds")


def _single(base: Config, option: str, value: Any, where: str) -> None:
    """Raise `InputError` unless the base can take this option."""
    Config.from_dict(_nested(flatten(base.to_dict()) | {option: value}), where)


def changed_options(first: Config, second: Config, *, gpu: bool) -> dict[str, Any]:
    """The options in which the second config computes something else, with its values.

    What `auto` comes to on this machine is looked at, and options that the decoder does not read
    are left out.
    """
    before, after = (_effective(config, gpu=gpu) for config in (first, second))
    return {
        option: value
        for option, value in after.items()
        if option not in before or before[option] != value
    }


def _effective(config: Config, *, gpu: bool) -> dict[str, Any]:
    flat = flatten(config.to_dict())
    if flat["train.precision"] == "auto":
        flat["train.precision"] = "fp16" if gpu else "none"
    flat["train.batch_by"] = config.batch_by
    ignored = {"run", "train.seed", *_not_read(config.decoder.name)}
    return {k: v for k, v in flat.items() if k not in ignored}


def _not_read(decoder: str) -> set[str]:
    """Options that a decoder does not read."""
    kind = decoder_class(decoder)
    own = {option for name in DECODERS for option in decoder_class(name).options}
    found = {f"decoder.{option}" for option in own - kind.options}
    return found if kind.attends else found | {"train.alpha_c", "train.alpha_target"}
