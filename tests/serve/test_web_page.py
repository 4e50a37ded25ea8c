"""The page in a real browser: Debian's Chromium, driven by Playwright.

apt-get install chromium
npm install --prefix .cache/axe --no-save axe-core@4.14.1  # for the tests of accessibility
"""

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from running_server import RunningServer
from serving import png

from pictell.captioner import Captioner
from pictell.cli import main

playwright = pytest.importorskip("playwright.sync_api", reason='pip install "pictell[dev]"')

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
AXE = Path(os.environ.get("PICTELL_AXE", ROOT / ".cache/axe/node_modules/axe-core/axe.min.js"))
CHROMIUM = os.environ.get("PICTELL_CHROMIUM") or shutil.which("chromium")
PATIENCE = 60_000  # milliseconds; a busy machine is slow, not broken


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in PICTELL_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(trained_runs) -> Iterator[RunningServer]:
    runs = [str(trained_runs / name) for name in ("rnn", "attention")]
    with RunningServer(runs, ["--decoders", "1"]) as server:
        yield server


class Watched:
    """A browser's page, and all that it complained of or asked for."""

    def __init__(self, context, address: str) -> None:
        self.context, self.page = context, context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def _note(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def upload(self, *files: Path | dict) -> None:
        self.page.set_input_files("#files", [_payload(file) for file in files])

    def wait_for_captions(self, count: int) -> None:
        self.page.wait_for_function(
            "count => document.querySelectorAll('.card[aria-busy=false]').length === count",
            arg=count,
        )

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()


def _payload(file: Path | dict) -> dict:
    if isinstance(file, dict):
        return file
    return {"name": file.name, "mimeType": "image/png", "buffer": file.read_bytes()}


@pytest.fixture
def open_page(browser, server) -> Iterator:
    contexts = []

    def make(address: str = "", **options) -> Watched:
        context = browser.new_context(**{"locale": "en-GB", **options})
        contexts.append(context)
        return Watched(context, address or f"http://127.0.0.1:{server.port}/")

    yield make
    for context in contexts:
        context.close()


def captions_by(trained_runs, paths) -> list[list[str]]:
    """The words of each picture by both models, in the order shown."""
    models = [Captioner.load(trained_runs / name) for name in ("rnn", "attention")]
    return [[model.caption(path)[0].text for model in models] for path in paths]


def test_uploaded_pictures_are_captioned_by_both_models(open_page, photos, trained_runs, server):
    watched = open_page()
    watched.upload(*photos)
    watched.wait_for_captions(len(photos))
    said = watched.texts(".said li span")
    assert said == [text for texts in captions_by(trained_runs, photos) for text in texts]
    assert watched.texts(".card h3") == [path.name for path in photos]
    assert watched.texts("#status") == ["4 of 4 pictures captioned"]
    assert watched.complaints == []
    own = (f"http://127.0.0.1:{server.port}/", "blob:", "data:")
    assert [url for url in watched.requests if not url.startswith(own)] == []


def shown_map(watched) -> bool:
    return watched.page.locator(".pv-stage.pv-on").count() == 1


def test_hovering_over_a_word_shows_where_the_model_looked(open_page, photos):
    watched = open_page()
    watched.upload(photos[0])
    watched.wait_for_captions(1)
    attention = watched.page.locator(".pv-model").nth(1)
    word = attention.locator(".pv-word").first
    assert not shown_map(watched)
    word.hover()
    assert shown_map(watched)
    assert word.inner_text() in attention.locator(".pv-detail").inner_text()
    watched.page.mouse.move(0, 0)
    assert not shown_map(watched)
    plain = watched.page.locator(".pv-model").nth(0)
    plain.locator(".pv-word").first.hover()
    assert not shown_map(watched)  # this model has none
    assert "%" in plain.locator(".pv-detail").inner_text()
    assert watched.complaints == []


def test_arrow_keys_move_over_the_words(open_page, photos):
    watched = open_page()
    watched.upload(photos[0])
    watched.wait_for_captions(1)
    page = watched.page
    for _ in range(40):  # as a person would: Tab until a word has the focus
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('[aria-label=attention]') !== null"):
            break
    words = page.locator(".pv-model").nth(1).locator(".pv-word")
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused) == words.nth(0).inner_text()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == words.nth(1).inner_text()
    assert words.nth(1).get_attribute("aria-pressed") == "true"
    assert shown_map(watched)
    spoken = page.locator(".pv-model").nth(1).locator("[role=status]").inner_text()
    assert words.nth(1).inner_text() in spoken
    page.keyboard.press("Escape")
    assert not shown_map(watched)


DROP = """([data, name, kind]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted_pictures_are_captioned(open_page, photos, kind):
    watched = open_page()
    data = base64.b64encode(photos[0].read_bytes()).decode()
    watched.page.evaluate(DROP, [data, f"{kind}.png", kind])
    watched.wait_for_captions(1)
    assert watched.texts(".card h3") == [f"{kind}.png"]
    assert len(watched.texts(".said li")) == 2


def test_pictures_that_come_before_the_page_is_ready_wait_for_it(open_page, photos):
    watched = open_page()
    held = []
    watched.page.route("**/v1/models", lambda route: held.append(route))
    watched.page.reload()
    watched.upload(photos[0])
    watched.page.wait_for_timeout(200)
    assert watched.texts("#status") == [""]
    held[0].continue_()
    watched.wait_for_captions(1)
    assert len(watched.texts(".said li")) == 2


def test_an_error_is_shown_as_words(open_page, photos):
    watched = open_page()
    text = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    watched.upload(photos[0], text)
    watched.wait_for_captions(2)
    assert watched.texts(".error[role=alert]") == [
        "notes.jpg: not a picture; send JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP"
    ]
    assert watched.texts("#status") == ["1 of 2 pictures captioned, 1 not"]


def test_a_server_that_is_gone_is_told(open_page, photos):
    watched = open_page()
    watched.page.route("**/v1/captions", lambda route: route.abort())
    watched.upload(photos[0])
    watched.wait_for_captions(1)
    assert "The server does not answer" in watched.texts(".error")[0]


def test_a_busy_server_is_asked_again(open_page, photos):
    watched = open_page()
    answers = [503, 503, None]

    def handle(route):
        status = answers.pop(0)
        if status is None:
            route.continue_()
        else:
            route.fulfill(status=status, headers={"Retry-After": "1"}, body="{}")

    watched.page.route("**/v1/captions", handle)
    watched.upload(photos[0])
    watched.page.wait_for_selector("text=The server is busy; trying again in 1 s")
    watched.wait_for_captions(1)
    assert answers == []
    assert len(watched.texts(".said li")) == 2


def test_options_are_obeyed(open_page, photos):
    watched = open_page()
    watched.page.fill("#max-length", "2")
    watched.page.fill("#beam", "1")
    watched.page.uncheck("#models input[value=rnn]")
    watched.upload(photos[0])
    watched.wait_for_captions(1)
    assert watched.texts(".said b") == ["attention"]
    assert len(watched.texts(".said li span")[0].split()) == 2
    watched.page.fill("#max-length", "")
    watched.page.click("#again")
    watched.page.wait_for_function(
        "() => document.querySelector('.said span')?.textContent.split(' ').length > 2"
    )
    watched.page.uncheck("#models input[value=attention]")
    watched.page.click("#again")
    watched.page.wait_for_selector("text=Choose at least one model.")


def test_occlusion_maps_are_made_on_demand(open_page, photos):
    watched = open_page()
    watched.upload(photos[0])
    watched.wait_for_captions(1)
    assert watched.texts(".pv-name small") == ["no maps", "attention"]
    watched.page.click("text=Occlusion maps")
    watched.page.wait_for_selector("text=Attention maps")
    assert watched.texts(".pv-name small") == ["occlusion", "occlusion"]
    watched.page.locator(".pv-word").first.hover()
    assert shown_map(watched)
    assert watched.complaints == []


def test_captions_are_copied(open_page, photos):
    watched = open_page(permissions=["clipboard-read", "clipboard-write"])
    watched.upload(photos[0])
    watched.wait_for_captions(1)
    clipboard = "navigator.clipboard.readText()"
    said = watched.texts(".said li span")
    watched.page.click(".card-actions button:has-text('Copy text')")
    watched.page.wait_for_selector("text=Copied.")
    lines = [
        f"{photos[0].name}\t{name}\t{text}"
        for name, text in zip(("rnn", "attention"), said, strict=True)
    ]
    assert watched.page.evaluate(clipboard).splitlines() == lines
    watched.page.click("#copy-json")
    watched.page.wait_for_function(
        "async () => (await navigator.clipboard.readText()).startsWith('[')"
    )
    copied = json.loads(watched.page.evaluate(clipboard))
    assert [caption["text"] for caption in copied[0]["captions"]] == said


def test_a_format_that_browsers_do_not_show_is_shown(open_page):
    tiff = io.BytesIO()
    Image.new("RGB", (90, 60), "blue").save(tiff, format="TIFF")
    watched = open_page()
    watched.upload({"name": "a.tif", "mimeType": "image/tiff", "buffer": tiff.getvalue()})
    watched.wait_for_captions(1)
    picture = watched.page.locator(".pv-picture").first
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [90, 60]


def test_removing_leaves_nothing(open_page, photos):
    watched = open_page()
    watched.upload(*photos[:2])
    watched.wait_for_captions(2)
    watched.page.click(f"[aria-label='Remove: {photos[0].name}']")
    assert watched.texts(".card h3") == [photos[1].name]
    watched.page.click("#clear")
    assert watched.texts(".card") == []
    assert watched.page.evaluate("document.activeElement.id") == "pick"


def test_the_page_speaks_chinese(open_page, photos):
    watched = open_page(locale="zh-CN")
    watched.upload(photos[0])
    watched.wait_for_captions(1)
    assert watched.page.get_attribute("html", "lang") == "zh-CN"
    assert watched.texts("#status") == ["1 张图片中已完成 1 张"]
    watched.page.select_option("#language", "en")
    assert watched.texts("#status") == ["1 of 1 picture captioned"]
    assert watched.texts(".card-actions button")[0] == "Copy text"


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_it_fits_a_phone(open_page, photos, locale):
    watched = open_page(viewport={"width": 360, "height": 740}, locale=locale)
    name = "a-very-long-name-without-any-place-to-break-it" * 3 + ".png"
    watched.upload(photos[0], {"name": name, "mimeType": "image/png", "buffer": png()})
    watched.wait_for_captions(2)
    sizes = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scrolled, visible = watched.page.evaluate(sizes)
    assert scrolled <= visible


# -- accessibility ---------------------------------------------------------------------------------


def serious_faults(page) -> list[str]:
    """What axe-core finds serious or critical."""
    if not AXE.exists():
        pytest.skip(
            "no axe-core: npm install --prefix .cache/axe --no-save axe-core@4.14.1, or name "
            "axe.min.js in PICTELL_AXE"
        )
    page.evaluate(AXE.read_text(encoding="utf-8"))  # a script element would break the policy
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{fault['id']}: {fault['help']} ({node['html'][:200]})"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_the_page(open_page, photos, scheme):
    watched = open_page(color_scheme=scheme)
    assert serious_faults(watched.page) == []
    text = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    watched.upload(photos[0], text)
    watched.wait_for_captions(2)
    watched.page.locator(".pv-model").nth(1).locator(".pv-word").first.click()
    watched.page.click("text=All words")
    watched.page.click(".program summary")
    assert serious_faults(watched.page) == []


# -- the report ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(trained_runs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for name in ("rnn", "attention"):
        shutil.copytree(trained_runs / name, folder / name)
    runs = [str(folder / name) for name in ("rnn", "attention")]
    out = folder / "report.html"
    options = ["--beam", "1", "--resamples", "100", "--deletion_pictures", "2"]
    assert main(["report", *runs, "--out", str(out), *options]) == 0
    return out


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_opens_from_disk_without_network_or_complaint(open_page, report, scheme):
    watched = open_page(report.as_uri(), color_scheme=scheme)
    assert [url for url in watched.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in watched.requests if url.startswith("file:")]) == 1
    assert watched.complaints == []
    assert watched.page.locator("h1").count() == 1
    assert serious_faults(watched.page) == []
