"""Peak memory of one way of one operation, in a process of its own.

python -m pictell.bench.child "attention, training step" pictell
"""

from __future__ import annotations

import json
import sys

from pictell.bench.cases import all_cases
from pictell.bench.measure import peak_of, resident_mb


def main(name: str, way: str) -> None:
    """Print the peak in MB above what the imports take."""
    case = next(case for case in all_cases() if case.name == name)
    before = resident_mb()

    def run() -> None:
        operation = case.prepare(way)
        for _ in range(2):
            operation()

    print(json.dumps({"peak_mb": round(peak_of(run) - before, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
