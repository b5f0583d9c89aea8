"""``make demo``: learn an object and a style that the model has never seen, and show them."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from evoken.cli.app import app
from evoken.cli.door import wait_briefly

EXAMPLES = Path(__file__).parent
RUNS = Path("runs")
PROMPTS = {
    "otter": (
        "a photo of a <otter>",
        "a photo of a <otter> on the beach",
        "a photo of a <otter> in space",
    ),
    "blueprint": (
        "a cat in the style of <blueprint>",
        "a house in the style of <blueprint>",
        "a bicycle in the style of <blueprint>",
    ),
}
KINDS = {"otter": "object", "blueprint": "style"}
SIDE, LINE = 128, 28  # of a picture and of a caption in the sheet, in pixels


def evoken(*arguments: object) -> None:
    """Run a command as a user would type it, but in this process: models load once."""
    words = [str(a) for a in arguments]
    print("$ evoken " + " ".join(f'"{w}"' if " " in w else w for w in words), flush=True)
    if code := app(words, standalone_mode=False):
        sys.exit(code)


def learn(name: str) -> Path:
    """Learn a concept; continues a demo that was interrupted."""
    run = RUNS / f"demo-{name}"
    if (run / "config.json").exists():
        evoken("learn", "--resume", run)
    else:
        evoken("learn", EXAMPLES / name, "--kind", KINDS[name], "--output", run)
    return run


def draw(name: str, run: Path) -> list[tuple[str, list[Path]]]:
    """Rows of the sheet: the images that were given, and four pictures for each prompt."""
    rows = [("what it was shown", sorted((EXAMPLES / name).glob("*.png")))]
    shutil.rmtree(run / "pictures", ignore_errors=True)
    for i, prompt in enumerate(PROMPTS[name]):
        folder = run / "pictures" / str(i)
        evoken("generate", prompt, "--word", run, "--count", 5, "--output", folder)
        rows.append((prompt, sorted(folder.glob("*-0?.png"))))
    return rows


def sheet(rows: list[tuple[str, list[Path]]], target: Path) -> None:
    """All rows below each other, each under its caption."""
    width = max(len(files) for _, files in rows) * SIDE
    picture = Image.new("RGB", (width, len(rows) * (SIDE + LINE)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for i, (caption, files) in enumerate(rows):
        top = i * (SIDE + LINE)
        pen.text((4, top + 6), caption, "black", font)
        for k, file in enumerate(files):
            small = Image.open(file).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            picture.paste(small, (k * SIDE, top + LINE))
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, default=RUNS / "demo.png")
    options = parser.parse_args()
    wait_briefly()
    started = time.time()
    rows = []
    for name in PROMPTS:
        run = learn(name)
        drawn = draw(name, run)
        sheet(drawn, run / "sheet.png")
        rows += drawn
    sheet(rows, options.sheet)
    print(f"Done in {time.time() - started:.0f} s. Look at {options.sheet}, and in a browser at:")
    for name in PROMPTS:
        print(f"  {(RUNS / f'demo-{name}' / 'report.html').resolve()}")


if __name__ == "__main__":
    main()
