"""The arrows of the design: who may import whom, read from the source without running it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pictell

ROOT = Path(pictell.__file__).parent

# From the top down; modules in one set may import each other and everything below.
LAYERS = [
    {"cli", "__main__"},
    {"serve", "report", "ablate", "bench"},
    {"attention", "captioning", "compare", "comparison", "evaluate"},
    {
        "captioner",
        "caption_files",
        "caption_space",
        "caption_table",
        "ensemble",
        "neighbours",
        "occlusion",
        "training",
    },
    {"decoders", "encoders"},
    {"data"},
    {"config"},
]
# Anyone may use them, they use only each other.
LEAVES = {"errors", "files", "progress", "machine", "translations"}
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
LAZY_NAMES = {"Caption": "captioner", "Captioner": "captioner"}  # what `pictell` itself hands out


def modules() -> dict[str, Path]:
    """`data.text` -> its file, for everything below src/pictell but the package's own face."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts:
            found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Full dotted names that a file imports anywhere, in functions and for types too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who is meant"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(name: str) -> set[str]:
    """What a module imports of pictell, as names below it: {"data.text.END", "errors.InputError"}.

    Names that the package itself hands out lazily count as the module that they come from.
    """
    found = set()
    for imported in imports(MODULES[name]):
        first, _, rest = imported.partition(".")
        if first == "pictell" and rest and not rest.startswith("__version__"):
            found.add(LAZY_NAMES.get(rest, rest))
    return found


def top(name: str) -> str:
    return name.split(".")[0]


def test_every_module_has_its_place():
    places = RANK.keys() | LEAVES | {"metrics"}
    homeless = {name for name in MODULES if top(name) not in places}
    assert not homeless, f"give them a place in LAYERS: {homeless}"


@pytest.mark.parametrize("name", [n for n in MODULES if top(n) in RANK])
def test_imports_run_only_downwards(name):
    upwards = {
        other
        for other in own_imports(name)
        if top(other) in RANK and RANK[top(other)] < RANK[top(name)]
    }
    assert not upwards, f"{name} imports {upwards}"


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_leaves_import_only_leaves(name):
    assert {top(other) for other in own_imports(name)} <= LEAVES


@pytest.mark.parametrize("name", [n for n in MODULES if top(n) == "metrics"])
def test_metrics_know_numpy_the_standard_library_sacrebleu_and_errors_only(name):
    foreign = {top(other) for other in imports(MODULES[name])} - {"pictell", "numpy", "sacrebleu"}
    assert foreign <= set(sys.stdlib_module_names)
    assert {top(other) for other in own_imports(name)} <= {"metrics", "errors"}


def test_metrics_are_imported_only_where_scores_are_made():
    users = {top(n) for n in MODULES if "metrics" in {top(other) for other in own_imports(n)}}
    allowed = {
        "ablate",
        "attention",
        "evaluate",
        "compare",
        "comparison",
        "neighbours",
        "training",
        "report",
        "bench",
    }
    assert users <= {"metrics", *allowed}
    assert "training" in users  # validation scores as the test does


@pytest.mark.parametrize("name", [n for n in MODULES if top(n) == "decoders"])
def test_decoders_know_no_data_but_the_numbers_of_special_words(name):
    special = {f"data.text.{word}" for word in ("PAD", "START", "END", "UNKNOWN")}
    assert {other for other in own_imports(name) if top(other) == "data"} <= special


def test_search_knows_no_decoder():
    used = {other for other in own_imports("decoders.search") if top(other) == "decoders"}
    assert used == {
        *("decoders.base.State", "decoders.base.Step"),
        "decoders.repeats.block_repeats",
    }


def test_nothing_imports_the_command_line():
    users = {n for n in MODULES if "cli" in {top(other) for other in own_imports(n)}}
    assert users <= {"cli", "__main__"}


@pytest.mark.parametrize("name", ["pictell", "pictell.config", "pictell.cli"])
def test_import_brings_no_torch(name):
    if name == "pictell.cli" and "cli" not in MODULES:
        pytest.skip("there is no command line yet")
    code = (
        f"import sys, {name}; print(sorted({{'torch', 'timm', 'accelerate'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
