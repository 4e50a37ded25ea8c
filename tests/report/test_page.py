"""The report of runs made by hand: self-contained, escaped, complete, small."""

import builtins
import io
import re
from html.parser import HTMLParser

import pytest
from made_runs import captions_of, make_dataset, make_run, stored_results
from PIL import Image

from pictell.compare import compare
from pictell.errors import MissingExtraError
from pictell.files import read_json, read_jsonl, write_jsonl
from pictell.report.page import ATTENTION_BUDGET, write_report

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr", "path", "circle", "use"}


class Page(HTMLParser):
    """Text, elements with their attributes, and whether all elements are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.text, self.elements, self.open, self.unbalanced = "", [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def make_comparison(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr("pictell.compare.evaluate", stored_results)

    def make(*, models=2, change=None, **options):
        runs = []
        for number, wrong in zip(range(models), (0.5, 0.1, 0.3), strict=False):
            run = make_run(
                tmp_path / "runs" / f"model_{number}",
                dataset,
                captions_of(dataset, wrong=wrong, seed=number),
                decoder="attention" if number else "rnn",
                **options,
            )
            runs.append(run)
        if change:
            for run in runs:
                change(run)
        return compare(runs, tmp_path / "out", beams=(1, 3), resamples=100, pictures=3)

    return make


@pytest.fixture
def written(tmp_path, make_comparison):
    comparison = make_comparison()
    html = write_report(comparison, tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    return comparison, html, Page(html)


def picture_bytes(size=(400, 300), noise=False):
    image = Image.effect_noise(size, 200) if noise else Image.new("L", size, 90)
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def test_nothing_is_fetched(written):
    _, html, page = written
    assert "http:" not in html.replace("http://www.w3.org/", "")
    assert "https:" not in html
    assert not re.search(r"@import|url\((?!#)", html)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    sources = [attributes["src"] for attributes in page.all("img")]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_elements_are_closed_and_ids_are_unique(written):
    _, _, page = written
    assert page.unbalanced == [] and page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in (a["href"] for a in page.all("a")):
        assert link.removeprefix("#") in ids
    used = [a.get("href") or a.get("xlink:href") for a in page.all("use")]
    assert used and all(reference.removeprefix("#") in ids for reference in used)


def test_accessible(written):
    _, _, page = written
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in header for header in page.all("th"))
    figures = [svg for svg in page.all("svg") if "role" in svg]
    assert len(figures) == 5 and all(figure["aria-label"] for figure in figures)


def test_shows_the_numbers_and_sentences(written):
    comparison, _, page = written
    difference = comparison["differences"][0]
    assert page.words.index(difference["headline"]) < page.words.index("At a glance")
    for claim in difference["claims"]:
        assert claim["sentence"].replace(" %", "\N{NO-BREAK SPACE}%") in page.text
    for model in comparison["models"]:
        for scores in (beam["scores"] for beam in model["beams"].values()):
            for entry in scores.values():
                assert (
                    f"{entry['score']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]" in page.words
                )
        assert f"{model['teacher_forced']['cross_entropy']:.4f}" in page.words
        assert model["command"] in page.words
    assert comparison["protocol"]["data_sha256"] in page.words
    assert "cannot fall below 0.9" in page.words  # T of 8 words and 196 regions: (1 - 8/196)^2


def test_gallery_holds_pictures_with_captions_and_references(written):
    comparison, _, page = written
    difference = comparison["differences"][0]
    pictures = [
        *difference["second_better"],
        *difference["first_better"],
        *comparison["random_pictures"],
    ]
    assert len(page.all("article")) == len(pictures) >= 6
    for picture in pictures:
        assert all(reference in page.text for reference in picture["references"])
        assert all(caption["caption"] in page.text for caption in picture["captions"])


def test_captions_are_text_whatever_they_hold(tmp_path, make_comparison):
    nasty = "<script>alert('dog')</script> & <img src=x onerror=bark()>"

    def change(run):
        for file in run.glob("evaluation/*/predictions.jsonl"):
            rows = read_jsonl(file)
            write_jsonl(file, [{**row, "caption": nasty, "references": [nasty]} for row in rows])

    comparison = make_comparison(change=change)
    html = write_report(comparison, tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(html)
    assert nasty in page.text
    assert page.all("script") == []
    assert not any("onerror" in image for image in page.all("img"))
    assert all(image["src"] != "x" for image in page.all("img"))


def test_colours_follow_the_model(written):
    _, html, page = written
    names = [a["class"] for _, a in page.elements if "name m" in a.get("class", "")]
    assert set(names) == {"name m0", "name m1"}
    assert "var(--m0)" in html and "var(--m1)" in html  # in the curves
    assert not re.search(r"#0a0b1\d", html)  # no placeholder is left
    assert "prefers-color-scheme: dark" in html
    assert all(f"--m{n}:" in html for n in range(6))


def test_without_attention_the_total_loss_is_not_drawn(tmp_path, make_comparison):
    comparison = make_comparison()
    for model in comparison["models"]:
        model["curves"]["val"]["loss"] = model["curves"]["val"]["cross_entropy"]
    page = Page(write_report(comparison, tmp_path / "r.html").read_text(encoding="utf-8"))
    labels = [svg["aria-label"] for svg in page.all("svg") if "aria-label" in svg]
    assert len(labels) == 4 and not any(label.startswith("Total loss") for label in labels)


def test_three_models(tmp_path, make_comparison):
    comparison = make_comparison(models=3)
    page = Page(write_report(comparison, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.unbalanced == []
    assert all(difference["headline"] in page.words for difference in comparison["differences"])
    assert len(page.all("figure")) == 2 + 5


def test_missing_pictures_and_logs_leave_a_report(tmp_path, make_comparison):
    def change(run):
        (run / "log.jsonl").unlink()

    comparison = make_comparison(change=change)
    for picture in comparison["random_pictures"]:
        picture["path"] = "/gone/away.jpg"
    page = Page(write_report(comparison, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.words.count("was not found where it was") == 3
    assert "Learning curves" not in page.words
    assert "not known for both" in page.words


def test_warnings_are_shown(tmp_path, make_comparison):
    comparison = make_comparison()
    comparison["warnings"] = ["The moon was full."]
    page = Page(write_report(comparison, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "Before believing this The moon was full." in page.words


def test_attention_pictures_from_function_and_dictionary(tmp_path, make_comparison):
    comparison = make_comparison(models=3)
    asked = []

    def source(image_id):
        asked.append(image_id)
        return picture_bytes() if image_id == first else None

    first = comparison["random_pictures"][0]["image_id"]
    second = comparison["random_pictures"][1]["image_id"]
    html = write_report(
        comparison,
        tmp_path / "r.html",
        attention={"model_1": source, "model_2": {second: picture_bytes()}},
    ).read_text(encoding="utf-8")
    page = Page(html)
    assert set(asked) >= {picture["image_id"] for picture in comparison["random_pictures"]}
    shown = page.words.count("Where model_1 looked"), page.words.count("Where model_2 looked")
    assert min(shown) >= 1
    assert len([i for i in page.all("img") if i["alt"].startswith("The picture once")]) == sum(
        shown
    )


def test_attention_pictures_end_at_the_budget(tmp_path, make_comparison, monkeypatch):
    comparison = make_comparison()
    picture = picture_bytes((800, 600), noise=True)
    monkeypatch.setattr("pictell.report.page.ATTENTION_BUDGET", 300_000)
    file = write_report(comparison, tmp_path / "r.html", attention={"model_1": lambda _: picture})
    page = Page(file.read_text(encoding="utf-8"))
    shown = page.words.count("Where model_1 looked")
    assert 1 <= shown < len(page.all("article"))
    left_out = len(page.all("article")) - shown
    assert f"{left_out} attention pictures were left out" in page.words
    assert file.stat().st_size < 300_000 + 400_000 + 400_000


def test_attention_for_an_unknown_model_is_warned_of(tmp_path, make_comparison, capsys):
    write_report(make_comparison(), tmp_path / "r.html", attention={"nobody": {}})
    assert "nobody: no such model" in " ".join(capsys.readouterr().err.split())


def test_small(written, tmp_path):
    assert (tmp_path / "out" / "report.html").stat().st_size < 400_000
    assert ATTENTION_BUDGET < 4_000_000  # with thumbnails the page stays below 6 MB


def test_large_pictures_become_thumbnails(tmp_path, make_comparison):
    comparison = make_comparison()
    picture = tmp_path / "large.jpg"
    Image.effect_noise((1000, 1500), 100).convert("RGB").save(picture)
    for one in comparison["random_pictures"]:
        one["path"] = str(picture)
    file = write_report(comparison, tmp_path / "r.html")
    assert file.stat().st_size < 600_000


def test_the_same_comparison_gives_the_same_page(tmp_path, make_comparison):
    comparison = make_comparison()
    pages = [write_report(comparison, tmp_path / name).read_text() for name in ("a", "b")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_missing_extra(tmp_path, make_comparison, monkeypatch, library):
    comparison = make_comparison()  # written before anything is drawn
    true_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == library:
            raise ImportError(name)
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=rf'{library}.*pip install "pictell\[report\]"'):
        write_report(comparison, tmp_path / "out" / "report.html")
    assert not (tmp_path / "out" / "report.html").exists()
    assert read_json(tmp_path / "out" / "comparison.json")["split"] == "test"
