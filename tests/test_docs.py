"""What the documentation names must exist: commands, options, files, links, defaults."""

import ast
import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import yaml

import pictell
from pictell.ablate.study import Study
from pictell.cli import VERBS, main
from pictell.config import Config, known_options
from pictell.data.prepare import Kind

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh-CN.md"]
DOCS = [page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*READMES, "CONTRIBUTING.md", "CHANGELOG.md", *DOCS]
SECTIONS = "data|encoder|decoder|train|search"

# -- reading pages ---------------------------------------------------------------------------------


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.M | re.S)


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)


def inline_code(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: str) -> Iterator[list[str]]:
    """Words of each command in the shell blocks and in inline code, comments left out."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += [code for code in inline_code(page) if code.startswith(("pictell ", "make "))]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words:
            yield words


@cache
def options_of(verb: str) -> frozenset[str]:
    """Every option that a verb's --help lists."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([verb, "--help"])
    found = frozenset(re.findall(r"^ +(?:-\w, )?(--[\w.]+)", shown.getvalue(), re.M))
    assert "--help" in found, f"{verb} --help lists no options"
    return found


# -- commands and options --------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    for words in commands(page):
        line = " ".join(words)
        if words[0] == "pictell":
            assert words[1] in VERBS or words[1] in ("VERB", "--help"), line
        elif words[0] == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
            assert next(w for w in words[1:] if "=" not in w) in targets, line
        for word in words:
            if re.match(r"(\.ci|tests|docs|configs)/", word):
                assert (ROOT / word).exists(), line


@pytest.mark.parametrize("page", PAGES)
def test_options_in_commands_exist(page):
    for words in commands(page):
        if words[0] != "pictell" or words[1] not in VERBS:
            continue
        known = options_of(words[1])
        for word in words[2:]:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{' '.join(words)}: no option {word}"
        if words[1] == "prepare" and len(words) > 2:
            assert words[2] in {*get_args(Kind), "KIND"}, " ".join(words)


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_text_exist(page):
    known = set(known_options())
    every = set().union(*(options_of(verb) for verb in VERBS))
    for code in inline_code(page):
        for name in re.findall(rf"(?<![\w./-])(?:--)?((?:{SECTIONS})\.\w+)(?![\w./])", code):
            assert name in known or (ROOT / "src/pictell" / name).exists(), code
        if not code.startswith("pictell "):
            for option in re.findall(r"(?<!\S)(--[\w.]+)", code):
                assert option in every, code


@pytest.mark.parametrize("page", PAGES)
def test_config_files_exist(page):
    for name in re.findall(r"\bconfigs/[\w.-]+\.yaml", text_of(page)):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", PAGES)
def test_experiments_and_studies_that_are_shown_are_valid(page, tmp_path):
    for block in blocks(page, "yaml"):
        values = yaml.safe_load(block)
        if "variations" in values:
            (tmp_path / values["base"]).write_text("{}")
            (tmp_path / "study.yaml").write_text(block)
            Study.load(tmp_path / "study.yaml")
        else:
            Config.from_dict(values, page)


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.name)
def test_experiments_and_studies_of_the_repository_are_valid(file):
    assert Study.load(file) if file.name.startswith("study_") else Config.load(file)


@pytest.mark.parametrize("page", READMES)
def test_files_that_commands_read_are_introduced(page):
    """A YAML file in a command is one of ours, or a block of the page shows it."""
    shown = set(re.findall(r"^# ([\w./-]+\.yaml)$", text_of(page), re.M))
    for words in commands(page):
        for word in words:
            if word.endswith(".yaml") and not word.startswith("runs/"):
                assert word in shown or (ROOT / word).is_file(), " ".join(words)


@pytest.mark.parametrize("page", PAGES)
def test_extras_exist(page):
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    for names in re.findall(r"(?:pictell|\.)\[([\w,]+)\]", text_of(page)):
        assert set(names.split(",")) <= set(extras), names


@pytest.mark.parametrize("page", READMES)
def test_python_that_is_shown_compiles_and_imports_what_there_is(page):
    found = blocks(page, "python")
    assert found
    for block in found:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "pictell"
                assert {alias.name for alias in node.names} <= set(pictell.__all__)


@pytest.mark.parametrize("page", READMES)
def test_default_settings_are_those_of_the_code(page):
    rows = re.findall(rf"^\|[^|]+\| `((?:{SECTIONS})\.\w+)` \| `([^`]+)` \|$", text_of(page), re.M)
    assert len(rows) > 15
    values = Config().to_dict()
    for option, default in rows:
        section, name = option.split(".")
        value = values[section][name]
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        assert default == shown, option


# -- links -----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Names under which GitHub links the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_resolve(page):
    here = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = here / name if name else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


# -- two languages ---------------------------------------------------------------------------------


def test_both_readmes_show_the_same_commands():
    for language in ("bash", "yaml", "text", "python"):
        first, second = ([_bare(b) for b in blocks(page, language)] for page in READMES)
        assert first == second


def _bare(block: str) -> list[str]:
    return [re.sub(r"\s+# .*| +#.*", "", line).rstrip() for line in block.splitlines()]


def test_both_readmes_have_the_same_structure_and_link_to_each_other():
    levels, tables, links = [], [], []
    for page in READMES:
        levels.append(re.findall(r"^(#+) ", prose(page), re.M))
        tables.append([len(row.split("|")) for row in re.findall(r"^\|.*\|$", prose(page), re.M)])
        links.append(sorted(re.findall(r"\]\(((?!README)[^)\s]+)\)", prose(page))))
    assert levels[0] == levels[1]
    assert tables[0] == tables[1]
    assert links[0] == links[1]
    for page, other in zip(READMES, reversed(READMES), strict=True):
        assert f"]({other})" in "\n".join(text_of(page).splitlines()[:5])


def test_both_pages_of_results_have_the_same_commands_and_numbers():
    pages = ["docs/results.md", "docs/results.zh-CN.md"]
    first, second = (blocks(page, "bash") for page in pages)
    assert first == second
    levels = [re.findall(r"^(#+) ", prose(page), re.M) for page in pages]
    assert levels[0] == levels[1]
    rows = [re.findall(r"^\|.*\|$", prose(page), re.M) for page in pages]
    numbers = [[re.findall(r"(?<!top-)(?<!\d)[\d.,]*\d", row) for row in one] for one in rows]
    assert numbers[0] == numbers[1]
    assert sum(map(len, numbers[0])) > 100
    # Hashes and scores of the text too, in whatever order the sentences have them.
    text = [sorted(re.findall(r"(?<!\d)\.\d{3,}|`\w{12}`", prose(page))) for page in pages]
    assert text[0] == text[1]


# -- pages that follow the code --------------------------------------------------------------------


def maker_of(name: str):
    """A module of docs/ that writes a page."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_encoders_page_shows_what_encoders_give():
    """The smallest of its networks; making the page anew takes a minute."""
    maker = maker_of("make_encoders")
    page = text_of("docs/encoders.md")
    assert all(f"| `{name}` |" in page for name in maker.NAMES)
    shown = maker.rows(["tf_efficientnet_lite0", "vit_small_patch16_224"], maker.SIZE)
    assert set(shown) <= set(page.splitlines())
    template = maker.TEXT.format(size=maker.SIZE, rows="")
    assert set(template.splitlines()) <= set(page.splitlines())


def test_configuration_page_is_up_to_date():
    stale = "docs/configuration.md is stale; run  python docs/make_configuration.py"
    assert text_of("docs/configuration.md") == maker_of("make_configuration").page(), stale


def test_configuration_page_names_every_option_once():
    page = text_of("docs/configuration.md")
    for option in known_options():
        assert page.count(f"| `{option}` |") == 1, option
    shown = set(re.findall(r"^\| `(--\w+)`", page, re.M))
    assert shown == options_of("prepare") - {"--help", "--out"}


def test_design_page_lists_what_a_resumed_run_may_change():
    from pictell.training.record import RESUMABLE_CHANGES

    resume = text_of("docs/design.md").split("### Resume")[1].split("## Search")[0]
    named = set(re.findall(rf"`((?:{SECTIONS})\.\w+|run)`", resume)) - {"train.save_every"}
    assert named == RESUMABLE_CHANGES - {"train.save_every"}
