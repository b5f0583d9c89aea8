"""The page as people see it: Debian's Chromium, driven by Playwright, and the rules of axe-core for
accessibility. ``make test`` puts both into build/, where they are not installed.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "browser"
UNPACKED = FOLDER / "usr" / "lib" / "chromium" / "chromium"
BROWSER = shutil.which("chromium") or (str(UNPACKED) if UNPACKED.exists() else "")
AXE = ROOT / "build" / "axe" / "package" / "axe.min.js"
QUIET = (  # nothing of the browser's own leaves the machine
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
IN_CONTAINERS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
DESKTOP, PHONE = (1280, 800), (400, 800)
STARTS = 60  # s, the most until the server answers
FINGER = 44  # px, the least that a finger meets


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    libraries = {str(file.parent) for file in FOLDER.rglob("lib*.so*")}
    own = {"LD_LIBRARY_PATH": ":".join(libraries)}
    if (FOLDER / "usr" / "share" / "fonts").exists():
        own["FONTCONFIG_SYSROOT"] = str(FOLDER)
    environment: dict[str, str | float | bool] = {**os.environ}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER,
            args=[*QUIET, *IN_CONTAINERS],
            env=environment | (own if str(UNPACKED) == BROWSER else {}),
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serving(runs: Path, *options: str) -> Iterator[str]:
    """``evoken web`` in a process of its own; gives its address, and ends it as Ctrl-C does."""
    log = runs.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "evoken", "web", runs, "--port=0", "--no-browser", *options],
            stdout=out,
            stderr=out,
        )
    try:
        until = time.monotonic() + STARTS
        while not (found := re.search(r"http://[\w.:]+", log.read_text())):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield found[0]
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


class Visit:
    """One person's browser: its own cookies and settings, and notes of all that goes wrong.

    Attributes:
        wrong: what the console says of errors, and requests that leave the machine or fail.
    """

    def __init__(
        self,
        browser: Browser,
        address: str,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        script: bool = True,
    ) -> None:
        self.address = address
        self.wrong: list[str] = []
        self.context: BrowserContext = browser.new_context(
            base_url=address,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            has_touch=size == PHONE,
            java_script_enabled=script,
        )
        self.context.set_default_timeout(20_000)
        if AXE.exists():
            self.context.add_init_script(path=AXE)
        self.context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        self.context.on("console", lambda said: self._note(said.type, said.text))
        self.context.on("request", lambda request: self._check(request.url))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.wrong.append(text)

    def _check(self, url: str) -> None:
        if not url.startswith((f"{self.address}/", "data:", "blob:")):
            self.wrong.append(f"asks for {url}")

    def page(self, path: str = "/") -> Page:
        """A new tab."""
        page = self.context.new_page()
        page.goto(path)
        return page


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page as it is now, each with the first place."""
    found = page.evaluate("axe.run()")["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in found]


def broken_pictures(page: Page) -> list[str]:
    """Pictures that could not be shown, once all have been asked for."""
    return page.evaluate(
        """async () => {
            const pictures = [...document.images].filter(one => one.getAttribute("src"));
            for (const one of pictures) one.loading = "eager";
            await Promise.all(pictures.map(one => one.decode().catch(() => {})));
            return pictures.filter(one => !one.naturalWidth).map(one => one.src) }"""
    )


def too_wide(page: Page) -> bool:
    """Whether the page has to be scrolled sideways."""
    return page.evaluate(
        "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )


def too_small(page: Page) -> list[str]:
    """What is there to be touched, and smaller than a finger: links within sentences aside."""
    return page.evaluate(
        """least => [...document.querySelectorAll(
            "button, select, summary, nav a, input:not([type=hidden])")]
        .map(part => part.matches("[type=checkbox], [type=radio], [type=file]")
            ? part.closest("label") ?? part : part)
        .filter(part => part.checkVisibility({visibilityProperty: true}))
        .filter(part => { const box = part.getBoundingClientRect();
            return box.width > 1 && (box.height < least || box.width < least) })
        .map(part => part.outerHTML.slice(0, 200))""",
        FINGER,
    )


def drop(target: Locator, files: Sequence[Path]) -> None:
    """Let go of files above a part of a page, as from a folder's window."""
    contents = [{"name": file.name, "data": [*file.read_bytes()]} for file in files]
    data: Any = target.page.evaluate_handle(
        """files => { const data = new DataTransfer();
        for (const {name, data: bytes} of files)
            data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
        return data }""",
        contents,
    )
    for event in ("dragenter", "dragover", "drop"):
        target.dispatch_event(event, {"dataTransfer": data})
