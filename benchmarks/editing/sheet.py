"""A sheet of edits, none of them picked: source, mask, ours, and the best rival's."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from benchmarks import figures
from benchmarks.editing.edits import Edit, edits
from benchmarks.editing.methods import METHODS
from benchmarks.editing.ours import SUGGESTED
from benchmarks.editing.problem import Problem, Result
from benchmarks.editing.report import OURS
from benchmarks.editing.scores import to_pixels
from benchmarks.editing.work import Variant
from evoken.models.load import load_model
from evoken.spec import ModelSpec

SHEET = figures.FILE.parent / "sheets" / "edits.webp"
NUMBERS = range(0, 24 * 9, 9)  # every ninth of the edits to report on; all kinds are alike in it
COLUMNS = 3
SIDE, GAP, LINE = 112, 4, 18  # px


def draw(rival: Variant | None, path: Path = SHEET) -> None:
    """Edit them, and write the sheet."""
    chosen = edits("report", NUMBERS)
    problem = Problem(load_model(ModelSpec("stickers-flow")), chosen)
    settings = METHODS[OURS]
    (ours,) = next(iter(settings.values())).run(problem, (SUGGESTED,))
    images = [problem.images, _mask(ours, chosen), _finished(ours)]
    if rival is not None:
        its = METHODS[rival.method][rival.settings]
        (other,) = its.run(problem, (rival.strength,))
        images.append(_finished(other))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(chosen, [to_pixels(i) for i in images]).save(path, quality=90, method=6)


def _finished(result: Result) -> torch.Tensor:
    """As the editor's user gets it."""
    return result.images if result.pasted is None else result.pasted


def _mask(result: Result, chosen: list[Edit]) -> torch.Tensor:
    """N x 3 x S x S in [-1, 1]: the mask that was found; without one, the true one."""
    if result.mask is not None:
        size = result.images.shape[-2:]
        mask = F.interpolate(result.mask, size, mode="bilinear", align_corners=False)
    else:
        mask = torch.from_numpy(np.stack([e.inside for e in chosen]))[:, None].float()
    return mask.expand(-1, 3, -1, -1) * 2 - 1


def sheet(chosen: list[Edit], columns: list[np.ndarray]) -> Image.Image:
    """The edits in rows of COLUMNS, each with its pictures side by side over what was asked."""
    width = len(columns) * (SIDE + GAP) + 3 * GAP
    height = SIDE + LINE + GAP
    rows = -(-len(chosen) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * width - 3 * GAP, rows * height), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(12)
    for i, edit in enumerate(chosen):
        left, top = i % COLUMNS * width, i // COLUMNS * height
        for k, pixels in enumerate(columns):
            picture = Image.fromarray(pixels[i].round().astype(np.uint8))
            enlarged = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            x = left + k * (SIDE + GAP)
            whole.paste(enlarged, (x, top))
            pen.rectangle((x, top, x + SIDE - 1, top + SIDE - 1), outline="#ced4da")
        pen.text((left, top + SIDE + 2), said(edit), fill="#333", font=font)
    return whole


def said(edit: Edit) -> str:
    """What was asked, in short."""
    source, target = edit.source.things[0], edit.target.things[0]
    if edit.kind == "object":
        return f"{source.noun}: to {target.noun}"
    if edit.kind == "colour":
        return f"{source.noun}: {target.dye}"
    place = edit.target.background if edit.kind == "scene" else edit.target.style
    return f"{source.noun}: {place}"
