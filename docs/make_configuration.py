"""Write docs/configuration.md from the docstrings of the options.

    python docs/make_configuration.py            # writes the page
    python docs/make_configuration.py --check    # exit code 1 if the page is stale

Names, defaults, choices and meanings come from `pictell.config` and from the signature of
`pictell.data.prepare.prepare`; the text around the tables stands below. tests/test_docs.py fails
when the page no longer agrees with the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pictell.config import Config
from pictell.data.prepare import prepare

PAGE = Path(__file__).parent / "configuration.md"

INTRODUCTION = """\
# Configuration

<!-- Written by docs/make_configuration.py from the docstrings. Change those, then run it again. -->

An experiment is one YAML file. It holds what differs from the defaults, and may be empty:

```yaml
data:
  dataset: data/holiday
decoder:
  name: rnn
train:
  epochs: 20
```

`pictell train` and `pictell encode` read such a file. The command line overrides the file:

```bash
pictell train holiday.yaml --train.epochs 5 --decoder.dropout 0.3
```

An unknown option is an error that names the nearest known one, and so is a value of the wrong type
or outside its range. The run folder keeps all options, defaults included, in its `config.yaml`.
Yes-or-no options take a word on the command line: `--encoder.fine_tune true`.

`pictell evaluate`, `pictell compare` and `pictell caption` have few options of their own; their
`--help` lists them.
"""

PREPARE = """\
## Options of `pictell prepare`

They are no part of the YAML file: `prepare` runs once for a data set, before any experiment. What
the layouts look like is told in [data.md](data.md).
"""


def page() -> str:
    """The whole of docs/configuration.md."""
    parts = [INTRODUCTION]
    hints = get_type_hints(Config)
    texts = meanings(Config)
    sections = [n for n, kind in hints.items() if dataclasses.is_dataclass(kind)]
    parts.append("## One experiment\n")
    parts.append(_table([_field(Config, name, "") for name in hints if name not in sections]))
    for section in sections:
        cls = hints[section]
        about = _lower_first(texts[section].rstrip("."))
        parts.append(f"## `{section}`{'' if about == section else ': ' + about}\n")
        parts.append(_table([_field(cls, name, f"{section}.") for name in get_type_hints(cls)]))
    parts += [
        PREPARE,
        _table(_parameters(prepare, skip=("kind", "source", "out", "progress"))),
    ]
    return "\n".join(parts)


def meanings(documented: Any) -> dict[str, str]:
    """Name -> text, from the `Args:` of a docstring; continuation lines are joined."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Args:") + 1 :]:
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            name, found[start[1]] = start[1], start[2]
        elif line.startswith(" " * 8):
            found[name] += " " + line.strip()
        else:
            break
    return found


Row = tuple[str, str, str, str]  # option, default, values, meaning


def _field(cls: type, name: str, prefix: str) -> Row:
    default = next(f.default for f in dataclasses.fields(cls) if f.name == name)
    return _row(prefix + name, default, get_type_hints(cls)[name], meanings(cls)[name])


def _parameters(function: Callable[..., Any], skip: Iterable[str]) -> list[Row]:
    texts, kinds = meanings(function), get_type_hints(function)
    return [
        _row(f"--{name}", parameter.default, kinds[name], texts[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in skip
    ]


def _row(name: str, default: object, kind: Any, meaning: str) -> Row:
    return f"`{name}`", _shown(default), _values(kind), meaning


def _shown(value: object) -> str:
    if value in ("", None):
        return "(none)"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    words = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}
    return words.get(kind, "path")


def _lower_first(text: str) -> str:
    # "The CNN" -> "the CNN", but an abbreviation at the start stays as it is.
    return text if text[:2].isupper() else text[0].lower() + text[1:]


def _table(rows: Iterable[Row]) -> str:
    lines = ["| option | default | values | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(map(_escape, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|").replace("**", r"\*\*")


def main() -> int:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(
            f"{PAGE}: {'up to date' if fresh else 'stale; run python docs/make_configuration.py'}"
        )
        return 0 if fresh else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
