"""The report of runs made by hand: self-contained, escaped, complete, small."""

import builtins
import json
import re
from html.parser import HTMLParser

import pytest
from made_runs import captions_of, make_dataset, make_run, stored_results
from PIL import Image

from pictell.compare import compare, describe_runs
from pictell.errors import InputError, MissingExtraError
from pictell.files import read_json, read_jsonl, write_json, write_jsonl
from pictell.report.page import MOST_BYTES, write_report
from pictell.report.thumbnails import BUDGET

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr", "path", "circle", "use"}


class Page(HTMLParser):
    """Text, elements with their attributes, and whether all elements are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.text, self.elements, self.open, self.unbalanced = "", [], [], []
        self.scripts = {}  # by type: what they hold
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
        if self.open and self.open[-1] == "script":
            kind = self.all("script")[-1].get("type", "")
            self.scripts.setdefault(kind, []).append(data)
        elif not self.open or self.open[-1] != "style":
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
def make_description(tmp_path, dataset, monkeypatch):
    """What `pictell report` shows, of so many runs."""
    monkeypatch.setattr("pictell.compare.evaluate", stored_results)

    def make(count):
        runs = [
            make_run(
                tmp_path / "runs" / f"model_{number}",
                dataset,
                captions_of(dataset, wrong=0.1 + 0.05 * number, seed=number),
                decoder="attention" if number % 2 else "rnn",
            )
            for number in range(count)
        ]
        return describe_runs(runs, beams=(1, 3), resamples=100, pictures=3)

    return make


@pytest.fixture
def written(tmp_path, make_comparison):
    comparison = make_comparison()
    html = write_report(comparison, tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    return comparison, html, Page(html)


def test_nothing_is_fetched(written):
    _, html, page = written
    assert "http:" not in html.replace("http://www.w3.org/", "")
    assert "https:" not in html
    assert not re.search(r"@import|url\((?!#)", html)
    assert page.all("script") == page.all("iframe") == []
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]  # browsers ask for one else
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
        *comparison["best"],
        *comparison["worst"],
    ]
    assert len(page.all("article")) == len(pictures) >= 12
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
    assert len(page.all("figure")) == 2 + 5 + 2


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


# -- viewers --------------------------------------------------------------------------------------


def entry(name, words=("a", "dog")):
    """A model's caption as the viewer reads it."""
    return {
        "name": name,
        "caption": " ".join(words),
        "kind": "attention",
        "words": [{"text": w, "probability": 0.5, "alternatives": []} for w in words],
        "seen": [0, 0, 48, 32],
        "grid": [1, 2],
        "maps": {"scale": [0.5, 0.5], "data": "AP8A/w=="},
    }


def looks_json(page):
    (text,) = page.scripts["application/json"]
    return json.loads(text)


def test_cards_with_looks_have_a_viewer_and_the_first_is_open(tmp_path, make_comparison):
    comparison = make_comparison()
    first, second, third = (p["image_id"] for p in comparison["random_pictures"])
    looks = {first: {0: entry("model_0"), 1: entry("model_1")}, second: {1: entry("model_1")}}
    page = Page(write_report(comparison, tmp_path / "r.html", looks=looks).read_text("utf-8"))
    assert page.unbalanced == []
    by_picture = {
        d["data-picture"]: d["data-models"] for d in page.all("div") if "data-models" in d
    }
    assert by_picture == {first: "0 1", second: "1"}
    assert third not in by_picture
    assert looks_json(page) == {
        "language": "en",
        "captionLanguage": "en",
        "looks": {
            first: {"0": entry("model_0"), "1": entry("model_1")},
            second: {"1": looks[second][1]},
        },
    }
    opened = [d for d in page.all("details") if d.get("class") == "look" and "open" in d]
    assert 1 <= len(opened) <= 2  # the first card of the group; it may be the best or worst too
    assert len(page.scripts[""]) == 1 and "pictellViewer.mount" in page.scripts[""][0]


def test_without_looks_there_is_no_script(written):
    _, _, page = written
    assert page.scripts == {}
    assert not [d for d in page.all("details") if d.get("class") == "look"]


def test_words_cannot_end_the_script(tmp_path, make_comparison):
    comparison = make_comparison()
    image_id = comparison["random_pictures"][0]["image_id"]
    nasty = "</script><script>bark()</script>\u2028<!--"
    looks = {image_id: {0: entry("model_0", words=(nasty, "dog"))}}
    page = Page(write_report(comparison, tmp_path / "r.html", looks=looks).read_text("utf-8"))
    assert looks_json(page)["looks"][image_id]["0"]["words"][0]["text"] == nasty
    assert len(page.all("script")) == 2


def test_a_page_beyond_the_limit_is_refused_and_not_written(tmp_path, make_comparison, monkeypatch):
    comparison = make_comparison()
    monkeypatch.setattr("pictell.report.page.MOST_BYTES", 10_000)
    with pytest.raises(InputError, match=r"would be \d\.\d MB.*--pictures"):
        write_report(comparison, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_pictures_shrink_until_they_fit(tmp_path, make_comparison, monkeypatch):
    comparison = make_comparison()
    picture = tmp_path / "large.jpg"
    Image.effect_noise((1000, 1500), 100).convert("RGB").save(picture)
    for one in comparison["random_pictures"]:
        one["path"] = str(picture)
    sizes = []
    for budget in (9_000_000, 60_000):
        monkeypatch.setattr("pictell.report.thumbnails.BUDGET", budget)
        sizes.append(write_report(comparison, tmp_path / "r.html").stat().st_size)
    assert sizes[1] < sizes[0] - 100_000


# -- one, many, Chinese ---------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_single_run(tmp_path, make_description, language):
    description = make_description(1)
    page = Page(
        write_report(description, tmp_path / "r.html", language=language).read_text("utf-8")
    )
    assert page.unbalanced == []
    score = description["models"][0]["beams"]["3"]["scores"]["BLEU-4"]
    assert f"{score['score']:.3f}" in page.words
    assert f"{score['low']:.4f}" in page.words
    assert "search.length_penalty" in page.words  # all options, as there is nothing to differ from
    for said_of_two in ("minus", "What the numbers settle", "How the configs differ"):
        assert said_of_two not in page.words


@pytest.mark.parametrize("language", ["en", "zh"])
def test_ten_runs(tmp_path, make_description, language):
    description = make_description(10)
    page = Page(
        write_report(description, tmp_path / "r.html", language=language).read_text("utf-8")
    )
    assert page.unbalanced == []
    ranking = description["ranking"]
    best = max(
        range(10),
        key=lambda i: description["models"][i]["beams"]["3"]["scores"]["CIDEr-D"]["score"],
    )
    assert ranking[0]["model"] == best
    assert page.words.index(f"model_{best}") < page.words.index("BLEU-1")
    assert all(row["settled"] == (row["behind"]["low"] > 0) for row in ranking[1:])
    galleries = [description[key] for key in ("most_different", "random_pictures", "best", "worst")]
    assert len(page.all("article")) == sum(map(len, galleries)) >= 12
    assert all(len(picture["captions"]) == 10 for picture in galleries[0])
    assert {f"name m{n}" for n in range(10)} <= {a.get("class") for _, a in page.elements}


def test_chinese_says_everything_in_chinese(tmp_path, make_comparison):
    comparison = make_comparison(change=with_attention)
    comparison["models"][1]["attention"] |= {"change_over_words": 0.01}
    page = Page(write_report(comparison, tmp_path / "r.html", language="zh").read_text("utf-8"))
    assert page.all("html")[0]["lang"] == "zh-CN"
    captions = [c["caption"] for p in comparison["random_pictures"] for c in p["captions"]]
    assert all(caption in page.text for caption in captions)  # captions stay as they are
    assert "注意力几乎不随词移动" in page.words
    headings = re.findall(r"<h[23][^>]*>(.*?)</h", (tmp_path / "r.html").read_text("utf-8"), re.S)
    for heading in headings:
        assert re.search(r"[\u4e00-\u9fff]|model_|BLEU|CIDEr", heading), heading
    for sentence in (c["sentence"] for d in comparison["differences"] for c in d["claims"]):
        assert sentence not in page.text
    assert not re.search(r"\d %", page.text)


def test_an_unknown_language_is_an_error(tmp_path, make_comparison):
    with pytest.raises(InputError, match="no report in language 'fr'"):
        write_report(make_comparison(), tmp_path / "r.html", language="fr")
    assert not (tmp_path / "r.html").exists()


# -- attention and groups -------------------------------------------------------------------------


def with_attention(run):
    """Add measures of attention to the evaluations of a run that attends."""
    if "name: rnn" in (run / "config.yaml").read_text():
        return
    for file in run.glob("evaluation/*/scores.json"):
        write_json(file, {**read_json(file), "attention": ATTENTION})


def interval(score):
    return {"score": score, "low": score - 0.01, "high": score + 0.01}


ATTENTION = {
    "pictures": 40,
    "words": 240,
    "grid": [14, 14],
    "entropy": 0.7654,
    "change_over_words": 0.31,
    "change_over_pictures": 0.42,
    "warnings": [],
    "by_class": {"thing": {"words": 100, "entropy": 0.611, "gate": 0.512}},
    "boxes": {
        "words": 75,
        "pictures": 38,
        **{name: interval(0.345) for name in ("share", "hits")},
        **{name: interval(0.134) for name in ("uniform_share", "uniform_hits")},
        **{name: interval(0.162) for name in ("shuffled_share", "shuffled_hits")},
        **{
            f"{kind}_over_{o}": interval(0.2)
            for kind in ("share", "hits")
            for o in ("uniform", "shuffled")
        },
        "neighbours": {"-1": {"share": 0.222, "hits": 0.3}, "1": {"share": None, "hits": None}},
    },
    "deletion": {
        "pictures": 30,
        "words": 244,
        "greyed_cells": 5,
        "cells": 49,
        "attended": interval(0.871),
        "random": interval(0.279),
        "elsewhere": None,
        "attended_over_random": interval(0.591),
        "attended_over_elsewhere": None,
        "by_class": None,
    },
    "settings": {"deletion_pictures": 30, "resamples": 1000, "seed": 0},
}


def test_attention_is_told_in_numbers(tmp_path, make_comparison):
    comparison = make_comparison(change=with_attention)
    page = Page(write_report(comparison, tmp_path / "r.html").read_text("utf-8"))
    text = page.words.replace("\N{NO-BREAK SPACE}", " ")
    for number in ("34.5 %", "13.4 %", "16.2 %", "76.5 %", "61.1 %", "0.512", "+0.871", "5 of 49"):
        assert number in text, number
    assert "With the map of the word before it would be 22.2 % instead of 34.5 %." in text
    assert "42.0 % elsewhere than in the mean over all pictures" in text


def test_attention_that_is_worth_nothing_is_warned_of_before_all(tmp_path, make_comparison):
    comparison = make_comparison(change=with_attention)
    comparison["models"][1]["attention"] |= {"entropy": 0.999}
    page = Page(write_report(comparison, tmp_path / "r.html").read_text("utf-8"))
    assert "Before believing this model_1: Attention is all but even" in page.words


def test_without_measures_there_is_no_attention_section(written):
    _, html, _ = written
    assert 'id="attention"' not in html


def test_groups_are_shown_with_their_scores(written):
    comparison, _, page = written
    # Of verbs and places no two of the three references have the same.
    assert [g["name"] for g in comparison["groups"]["word_class"]] == ["thing", "function"]
    for model in comparison["models"]:
        for entry in model["breakdown"]["word_class"].values():
            assert f"{entry['score']:.3f}" in page.words


def test_small(written, tmp_path):
    assert (tmp_path / "out" / "report.html").stat().st_size < 400_000
    assert BUDGET < MOST_BYTES / 1.5  # what pictures leave is for words, maps and curves


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
