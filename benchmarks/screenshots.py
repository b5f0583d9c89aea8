"""Pictures of the page for docs/web.md: every part of it, on a desk and on a phone.

    python -m benchmarks.screenshots

A word is taught and a picture edited for them on the embedded models, which takes some minutes.
"""

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import DESKTOP, PHONE, ROOT, Visit, broken_pictures, chromium, drop, serving

SHEETS = ROOT / "docs" / "sheets"
LONGEST = 900_000  # ms, of a job
VIEWS: tuple[tuple[str, tuple[int, int], Literal["light", "dark"]], ...] = (
    ("-phone", PHONE, "dark"),
    ("", DESKTOP, "light"),
)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "runs") as address,
        chromium() as browser,
    ):
        visit = Visit(browser, address)
        take(visit.page("/"))
        assert not visit.wrong, visit.wrong


def take(page: Page) -> None:
    """Go through the page as a person does who has nothing yet."""
    drop(page.locator("[data-drop]"), sorted((ROOT / "examples" / "otter").glob("*.png")))
    page.get_by_label("Name of the word").fill("otter")
    shoot(page, "teach")
    press(page, "Look at them")
    expect(page.get_by_role("main").get_by_text("of memory")).to_be_visible(timeout=LONGEST)
    shoot(page, "check")
    press(page, "Teach <otter>")
    expect(page.get_by_text("after generation 10")).to_be_visible(timeout=LONGEST)
    shoot(page, "learning")
    wait_for(page, "finished")
    shoot(page, "word")

    page.goto("/edit")
    page.get_by_role("button", name="Turn “").click()
    wait_for(page, "finished")
    shoot(page, "edit")

    page.goto("/draw?word=otter")
    page.get_by_label("What to draw").fill("a photo of a <otter> on the beach")
    press(page, "Draw")
    wait_for(page, "done")
    page.goto("/draw?word=otter")
    shoot(page, "draw")
    page.goto("/words")
    shoot(page, "words")


def press(page: Page, name: str) -> None:
    """Click a button."""
    page.get_by_role("button", name=name, exact=True).click()


def wait_for(page: Page, state: str) -> None:
    """Until the job of a page has come so far."""
    expect(page.locator(".pill").first).to_have_text(state, timeout=LONGEST)


def shoot(page: Page, name: str) -> None:
    """Write pictures of a page as it is, on a desk in the light and on a phone in the dark."""
    for suffix, (width, height), scheme in VIEWS:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        page.evaluate("scrollTo(0, 0)")
        assert not broken_pictures(page)
        with Image.open(BytesIO(page.screenshot())) as picture:
            picture.save(SHEETS / f"web-{name}{suffix}.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
