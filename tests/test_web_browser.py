"""The page in a real browser: what people do there, on a desk and on a phone, in light and dark."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from evoken.words.files import read_embedding
from tests.browser import (
    DESKTOP,
    PHONE,
    ROOT,
    Visit,
    broken_pictures,
    chromium,
    drop,
    serving,
    too_small,
    too_wide,
    violations,
)

PHOTOGRAPHS = sorted((ROOT / "examples" / "otter").glob("*.png"))[:3]
SOON = 120_000  # ms: a process has to load a model, on a machine that has other work


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def runs(finished: Path, edited: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a word and an edit."""
    folder = tmp_path_factory.mktemp("web") / "runs"
    shutil.copytree(finished, folder / "disc")
    shutil.copytree(edited, folder / "house-edit")
    return folder


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    with serving(runs) as found:
        yield found


Visits = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visits]:
    """People at the page, who see no error in the end and asked nobody else for anything."""
    visits: list[Visit] = []

    def come(size: tuple[int, int] = DESKTOP, dark: bool = False, script: bool = True) -> Visit:
        visits.append(Visit(browser, address, size, dark, script))
        return visits[-1]

    yield come
    for one in visits:
        one.context.close()
    assert [wrong for one in visits for wrong in one.wrong] == []


def state(page: Page) -> Locator:
    """What a page says of its run's state."""
    return page.locator(".pill").first


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def check_for_everyone(page: Page) -> None:
    """A page with all its parts open is whole, fits, can be touched, and keeps the rules."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert violations(page) == []
    assert not too_wide(page)
    assert not broken_pictures(page)
    assert too_small(page) == []


def saved(page: Page, link: Locator, folder: Path) -> Path:
    """What a link gives to keep."""
    with page.expect_download() as waiting:
        link.click()
    file = folder / waiting.value.suggested_filename
    waiting.value.save_as(file)
    return file


def test_a_word_is_taught_from_dropped_photographs(visit: Visits, tmp_path: Path) -> None:
    """Two people watch: one at a desk, who reloads in the middle; one on a phone, who stops it."""
    page = visit().page("/")
    drop(page.locator("[data-drop]"), PHOTOGRAPHS)
    chosen = page.get_by_role("list", name="Chosen photographs").get_by_role("img")
    expect(chosen).to_have_count(3)
    page.get_by_label("Name of the word").fill("otter")
    page.get_by_text("More settings").click()
    page.get_by_label("Samples", exact=True).fill("0")
    press(page, "Look at them")
    expect(page.get_by_role("main").get_by_role("img")).to_have_count(3)
    expect(page.get_by_role("main").get_by_text("of memory")).to_be_visible(timeout=SOON)
    check_for_everyone(page)
    press(page, "Teach <otter>")

    phone = visit(PHONE, dark=True).page(urlsplit(page.url).path)
    first = re.compile(r"^pictures with the word after generation \d+$")
    for one in (page, phone):
        expect(state(one)).to_have_text("running", timeout=SOON)
        expect(one.get_by_alt_text(first)).to_be_visible(timeout=SOON)
        expect(one.get_by_text(re.compile(r"(seconds|minutes) left"))).to_be_visible()
    check_for_everyone(phone)
    page.reload()
    page.get_by_text("The same in a terminal").click()
    expect(page.get_by_text("evoken learn")).to_be_visible()
    told = page.locator("#state")
    before = told.inner_text()
    expect(told).not_to_have_text(before, timeout=SOON)
    expect(page.get_by_text("evoken learn")).to_be_visible()  # still open after what has come
    press(phone, "Stop")
    for one in (page, phone):
        expect(state(one)).to_have_text("interrupted", timeout=SOON)
    expect(page.locator("#said")).to_have_text("interrupted")  # what a screen reader reads out

    press(page, "Go on")
    expect(state(phone)).to_have_text("running", timeout=SOON)
    press(phone, "Stop and keep the word")
    for one in (page, phone):
        expect(state(one)).to_have_text("finished", timeout=SOON)
    press(page, "Take 0")
    link = page.get_by_role("link", name="for ComfyUI")
    expect(link).to_be_visible(timeout=SOON)
    assert read_embedding(saved(page, link, tmp_path)).placeholder == "<otter>"
    page.get_by_text("InvokeAI", exact=True).click()
    whole = saved(page, page.get_by_role("link", name=re.compile("^Download .*otter")), tmp_path)
    assert read_embedding(whole).placeholder == "<otter>"


def test_an_edit_is_made_looked_at_and_gone_on_from(visit: Visits, tmp_path: Path) -> None:
    page = visit().page("/edit")
    drop(page.locator("[data-drop]"), PHOTOGRAPHS[:1])
    page.get_by_label("What it shows").fill("a photo of a cat in a room")
    page.get_by_label("What it should show").fill("a photo of a cat on the beach")
    page.get_by_text("More settings").click()
    page.get_by_label("Steps", exact=True).fill("5")
    press(page, "Edit")
    iterates = page.get_by_role("radio")
    expect(iterates).to_have_count(2, timeout=SOON)
    expect(state(page)).to_have_text("finished", timeout=SOON)

    slider = page.get_by_role("slider")
    over = page.locator("[data-over]")
    slider.press("End")
    assert over.evaluate("e => getComputedStyle(e).clipPath").endswith("100%)")
    slider.press("Home")
    assert over.evaluate("e => getComputedStyle(e).clipPath").endswith(" 0%)")
    iterates.first.check()
    mask = page.get_by_alt_text("white where the picture was changed")
    expect(mask).to_have_attribute("src", re.compile(r"/0\.png$"))
    expect(over).to_have_attribute("alt", "iterate 0")
    assert not broken_pictures(page)
    file = saved(page, page.get_by_role("link", name="Download this one"), tmp_path)
    with Image.open(file) as picture:
        assert picture.size == (64, 64)
    page.get_by_role("link", name="Go on from this one").click()
    expect(page.get_by_alt_text("the picture that is gone on from")).to_be_visible()
    expect(page.get_by_label("What it shows")).to_have_value("a photo of a cat on the beach")
    assert not broken_pictures(page)


def test_a_job_that_fails_says_why(visit: Visits) -> None:
    """A word of one model, drawn with another."""
    page = visit().page("/draw?word=disc")
    page.get_by_label("Model").select_option("stickers")
    press(page, "Draw")
    expect(state(page)).to_have_text("failed", timeout=SOON)
    said = page.get_by_role("alert")
    expect(said).to_contain_text("'stickers' needs a word of width 256 (got width 16)")
    check_for_everyone(page)
    sentence = said.inner_text()
    assert not re.search(r"`|--[a-z]", sentence)
    expect(page.get_by_role("button", name="Again")).to_be_visible()
    page.goto("/queue")
    expect(page.get_by_role("main").get_by_text(sentence)).to_be_visible()


def test_a_file_is_looked_at_without_a_script(visit: Visits, runs: Path) -> None:
    page = visit(script=False).page("/files")
    page.get_by_label("Embedding").set_input_files(runs / "disc" / "learned_embeds.safetensors")
    press(page, "Look at it")
    expect(page.get_by_role("heading", name="<disc>")).to_be_visible()
    there = visit().page(urlsplit(page.url).path)
    expect(there.get_by_text("Looking …")).to_have_count(0, timeout=SOON)
    check_for_everyone(there)


def test_the_keyboard_gets_past_the_head(visit: Visits) -> None:
    page = visit().page("/words")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="To the page")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_page_whose_server_is_gone_says_so(visit: Visits) -> None:
    one = visit()
    page = one.page("/words/disc")
    one.context.set_offline(True)
    said = page.get_by_role("alert")
    expect(said).to_contain_text("evoken web does not answer: what you see is of", timeout=20_000)
    assert violations(page) == []
    one.context.set_offline(False)
    expect(said).to_have_count(0, timeout=20_000)
    one.wrong.clear()  # of the requests that failed


def test_focus_and_what_is_open_stay_with_their_job(visit: Visits) -> None:
    page = visit().page("/queue")
    found = page.evaluate(
        """() => {
            const job = (name) => `<li id="job-${name}"><details><summary>Delete</summary></details>
                <button>Stop</button></li>`;
            const part = document.createElement("div");
            const plain = (text) => `<details class="plain"><summary>${text}</summary></details>`;
            part.innerHTML = `<ul id="jobs">${job("a")}${job("b")}</ul>${plain("before")}`;
            part.querySelector(".plain").open = true;
            document.getElementById("main").append(part);
            part.querySelector("#job-b details").open = true;
            part.querySelector("#job-b button").focus();
            const made = document.createElement("template");
            const jobs = ["new", "a", "b"].map(job).join("");
            made.innerHTML = `<ul id="jobs">${jobs}</ul>${plain("now")}`;
            put(part, made.content);
            const open = [...part.querySelectorAll("details")].filter((d) => d.open);
            const name = (e) => e.closest("li") ? e.closest("li").id : e.className;
            return [document.activeElement, ...open].map(name);
        }"""
    )
    assert found == ["job-b", "job-b", "plain"]


PAGES = {
    "Teach": "/",
    "Words": "/words",
    "a word": "/words/disc",
    "Draw": "/draw?word=disc",
    "Edit": "/edit",
    "an edit": "/edits/house-edit",
    "Files": "/files",
    "Queue": "/queue",
}


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_everyone_can_use_every_page(visit: Visits, path: str) -> None:
    """On a desk in the light and on a phone in the dark."""
    for size, dark in ((DESKTOP, False), (PHONE, True)):
        page = visit(size, dark).page(path)
        check_for_everyone(page)


@pytest.mark.parametrize("run", ["disc", "house-edit"])
def test_everyone_can_read_a_report(visit: Visits, runs: Path, run: str) -> None:
    """Nothing runs in a report that the page serves, so the rules look at the same file apart."""
    served = visit(script=False).context.request.get(f"/report/{run}/page/report.html")
    report = (runs / run / "report.html").read_text()
    assert served.ok and served.text() == report
    for size, dark in ((DESKTOP, False), (PHONE, True)):
        page = visit(size, dark).context.new_page()
        page.set_content(report)
        check_for_everyone(page)
