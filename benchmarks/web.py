"""The page beside the command: the ``web.*`` figures.

    python -m benchmarks.web [--repeats 3]

A job of the page and the same command are started in turns.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import Page

from benchmarks import figures
from tests.browser import PHONE, Visit, chromium, serving, violations

ROOT = Path(__file__).parent.parent
CALLS = "4000"  # a third of a run
OPTIONS = (f"--calls={CALLS}", "--samples=1")
PATHS = ("/", "/words", "/words/otter", "/draw", "/edit", "/files", "/queue")
TIMEOUT = 600_000  # ms
PAUSE = 0.02  # seconds between two looks


def first_preview(run: Path, started: float) -> float:
    """Seconds until the first preview is there."""
    while not (run / "previews" / "0000.png").exists():
        time.sleep(PAUSE)
    return time.monotonic() - started


def command(runs: Path, name: str) -> tuple[float, float]:
    """Seconds to the first preview and to the end, of the command."""
    started = time.monotonic()
    arguments = ["learn", str(ROOT / "examples" / "otter"), *OPTIONS, f"--output={name}"]
    with subprocess.Popen(
        [sys.executable, "-m", "evoken", *arguments],
        cwd=runs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        seen = first_preview(runs / name, started)
    if process.returncode:
        raise SystemExit("the command failed")
    return seen, time.monotonic() - started


def job(page: Page, runs: Path) -> tuple[float, float]:
    """The same of a job of the page, from the click on, with the page open."""
    page.goto("/")
    page.set_input_files("#photos", sorted((ROOT / "examples" / "otter").glob("*.png")))
    page.fill("#word", "otter")
    page.click("summary:has-text('More settings')")
    page.fill("#f-calls", CALLS)
    page.fill("#f-samples", "1")
    page.click("text=Look at them")
    page.wait_for_selector(".forecast", timeout=TIMEOUT)
    started = time.monotonic()
    page.click("button.main")
    page.wait_for_url("**/words/*")
    name = page.url.rpartition("/")[2]
    seen = first_preview(runs / name, started)
    page.wait_for_selector(".pill.finished", timeout=TIMEOUT)
    return seen, time.monotonic() - started


def bytes_first_load(visit: Visit) -> int:
    """What comes over the wire for the first page, in an empty browser."""
    page, sizes = visit.context.new_page(), []
    session = visit.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto("/")
    page.wait_for_timeout(500)
    page.close()
    return int(sum(sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    runs = Path(tempfile.mkdtemp(prefix="evoken-web-"))
    rows = []
    try:
        with serving(runs) as address, chromium() as browser:
            visit = Visit(browser, address)
            sent, page = bytes_first_load(visit), visit.page()
            for number in range(repeats):
                rows.append((*job(page, runs), *command(runs, f"command-{number}")))
                print(" ".join(f"{value:.2f}" for value in rows[-1]), flush=True)
            visits = [visit, Visit(browser, address, PHONE, dark=True)]
            broken = sum(len(violations(one.page(path))) for one in visits for path in PATHS)
    finally:
        shutil.rmtree(runs, ignore_errors=True)
    found = {
        "web.seconds_to_first_preview": figures.spread([row[0] for row in rows], 2),
        "web.seconds_to_first_preview.command": figures.spread([row[2] for row in rows], 2),
        "web.overhead": round(median(r[1] for r in rows) / median(r[3] for r in rows), 3),
        "web.bytes_first_load": sent,
        "web.accessibility_violations": broken,
    }
    figures.update(found)


if __name__ == "__main__":
    main()
