"""A variation's scores and cost as a small file, which needs no run folder and can travel.

    kept = KeptResults(Path("runs/study/screening/results"))
    key = Key(planned, seed=0, split="val")
    result = kept.read(key) if kept.has(key) else kept.write(key, metrics, cost)

A run folder is large and stays on its machine; what a study needs of it is a few numbers for each
picture. With a results folder that several machines share (or hand on, in a repository), each does
a part of a study and all of them tell the whole of it. A file's name holds a hash of all that its
numbers depend on, so that results of an option that has changed since are not found.

A file holds `name`, `seed`, `split`, `search`, `runs` (names of the trainings), `scores`, `cost`,
`hardware`, `versions`, `created`, and `per_image`: the ten counts of BLEU, ROUGE-L and CIDEr-D of
each picture, in the order of the split. It holds no caption and no picture's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pictell.ablate.plan import Planned, digest_of, options_set, slug
from pictell.errors import InputError
from pictell.files import read_json, write_text
from pictell.machine import hardware, versions
from pictell.metrics import Metric, bleu_of
from pictell.metrics.base import mean_metric

_MEANS = ("ROUGE-L", "CIDEr-D")
_DIGITS = 8  # after the point: far below what any table shows


@dataclass(frozen=True)
class Result:
    """One seed of a variation.

    Attributes:
        metrics: Of its captions, by score.
        cost: What it took, by name; see `pictell.ablate.run`.
        machine: The hardware that it was trained or decoded on.
    """

    metrics: dict[str, Metric]
    cost: dict[str, Any]
    machine: dict[str, Any]


@dataclass(frozen=True)
class Key:
    """Which result, and under which file name."""

    planned: Planned
    seed: int
    split: str

    @property
    def runs(self) -> list[str]:
        """Names of the run folders, which hold hashes of their options and data."""
        return [run.run.name for run in self.planned.runs[self.seed]]

    @property
    def file_name(self) -> str:
        options = options_set(self.planned.configs[self.seed])
        search = {o: value for o, value in options.items() if o.startswith("search.")}
        digest = digest_of([self.runs, self.split, search])
        return f"{slug(self.planned.variation.name)}-{digest}_seed{self.seed}.json"


class KeptResults:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; results need a folder")
        self.folder = folder

    def from_gpu(self) -> bool:
        """Whether any of the results was measured on a machine with a GPU."""
        files = self.folder.glob("*_seed*.json")
        found = (read_json(file, what="result of a study") for file in files)
        return any(values.get("hardware", {}).get("gpu") for values in found)

    def has(self, key: Key) -> bool:
        return (self.folder / key.file_name).exists()

    def read(self, key: Key) -> Result:
        """A result that is there.

        Raises:
            InputError: The file is not as above.
        """
        file = self.folder / key.file_name
        values = read_json(file, what="result of a study")
        try:
            return Result(_metrics_of(values["per_image"]), values["cost"], values["hardware"])
        except (KeyError, TypeError, ValueError, IndexError):
            raise InputError(
                f"{file}: not a result of a study; remove it to have it measured again"
            ) from None

    def write(self, key: Key, metrics: Mapping[str, Metric], cost: Mapping[str, Any]) -> Result:
        """Keep a result; returns what reading it gives."""
        values = {
            "name": key.planned.variation.name,
            "seed": key.seed,
            "split": key.split,
            "search": asdict(key.planned.configs[key.seed].search),
            "runs": key.runs,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": hardware(),
            "versions": versions(),
            "scores": {name: metric.corpus for name, metric in metrics.items()},
            "cost": dict(cost),
        }
        per_image = {
            "BLEU": metrics["BLEU-4"].statistics.astype(int).tolist(),
            **{name: metrics[name].per_image.round(_DIGITS).tolist() for name in _MEANS},
        }
        # Numbers of a score in one line: a file that a person can look into.
        lines = [f" {json.dumps(name)}: {json.dumps(rows)}" for name, rows in per_image.items()]
        head = json.dumps(values, indent=1, ensure_ascii=False).removesuffix("\n}")
        text = f'{head},\n "per_image": {{\n' + ",\n".join(lines) + "\n }\n}\n"
        write_text(self.folder / key.file_name, text)
        return Result(_metrics_of(per_image), dict(cost), values["hardware"])


def _metrics_of(per_image: Mapping[str, Any]) -> dict[str, Metric]:
    counts = np.array(per_image["BLEU"], dtype=np.float64)
    means = {name: np.array(per_image[name], dtype=np.float64) for name in _MEANS}
    if {len(rows) for rows in means.values()} != {len(counts)} or not len(counts):
        raise ValueError("rows are missing")
    return {**bleu_of(counts), **{n: mean_metric(n, scores) for n, scores in means.items()}}
