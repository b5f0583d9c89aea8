"""Drawings by hands that the sticker world does not contain, and a judge of them that is not ours.

Hands are emoji sets as npm packages in the iconify format. The judge is a linear classifier on
``imagenet.ImageNet``; neither it nor the network ever saw a picture of a model. Needs npm and the
dependency group ``bench``.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import resvg_py
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.imagenet import ImageNet
from evoken.arrays import Images
from stickers import backgrounds, world
from stickers.autoencoder import to_images
from stickers.glyphs import GLYPH, Object, in_square

HANDS = {
    "fluent-emoji-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "twemoji": "@iconify-json/twemoji@1.2.5",
}
CACHE = Path(__file__).parent.parent / "build" / "foreign"
RENDERS = 8  # of each drawing, to train the judge
PLACES = (*backgrounds.PLAIN, *backgrounds.SCENES)


def pictures(hand: str, thing: Object, count: int, seed: int) -> Images:
    """Pictures of one drawing alone, as ``world.concept`` makes them of a glyph: N x 3 x 64 x 64 in
    [-1, 1]. Raises ``KeyError`` for what the hand did not draw.
    """
    image, rendered = drawing(hand, thing.glyph), []
    for i in range(count):
        words = f"{hand} {thing.noun}".encode()
        rng = np.random.default_rng(np.random.SeedSequence([seed, i, *words]))
        spec = world.Spec((world.Thing(thing.noun),), str(rng.choice(PLACES)))
        rendered.append(world.compose(spec, [image], rng))
    return to_images(np.stack(rendered), torch.device("cpu"))


@cache
def drawing(hand: str, glyph: str) -> Image.Image:
    """A hand's drawing of an emoji as RGBA, like ``glyph_image``; ``KeyError`` if there is none."""
    svg = svgs(hand)[code_points(glyph)]
    png = resvg_py.svg_to_bytes(svg_string=svg, width=2 * GLYPH, height=2 * GLYPH)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return in_square(image.crop(image.getchannel("A").getbbox()))


def code_points(glyph: str) -> str:
    """As iconify writes them: hexadecimal, without the selector of the coloured form."""
    return "-".join(f"{ord(c):x}" for c in glyph if c != "\ufe0f")


@cache
def svgs(hand: str) -> dict[str, str]:
    """Every drawing of a hand by its code points; its package is downloaded once."""
    package = HANDS[hand]
    archive = CACHE / f"{package.strip('@').replace('/', '-').replace('@', '-')}.tgz"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", package], cwd=CACHE, check=True)
    with tarfile.open(archive) as packed:
        icons, chars = (
            json.loads((packed.extractfile(f"package/{name}.json") or io.BytesIO()).read())
            for name in ("icons", "chars")
        )
    found = {}
    for points, name in chars.items():
        if icon := icons["icons"].get(name):
            sides = [icon.get(side, icons.get(side, 16)) for side in ("width", "height")]
            found[points] = (
                '<svg xmlns="http://www.w3.org/2000/svg" '
                'xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="0 0 {sides[0]} {sides[1]}">{icon["body"]}</svg>'
            )
    return found


class ForeignJudge:
    """Says which of the world's objects a picture shows; trained on renders of foreign drawings."""

    def __init__(self, things: Sequence[Object], seed: int) -> None:
        self.names = [thing.noun for thing in things]
        self.network = ImageNet()
        features, labels = [], []
        for i, thing in enumerate(things):
            for hand in (h for h in HANDS if code_points(thing.glyph) in svgs(h)):
                features.append(self.features(pictures(hand, thing, RENDERS, seed)))
                labels += [i] * RENDERS
        seen = torch.cat(features)
        self.mean, self.std = seen.mean(0), seen.std(0) + 1e-6
        self.linear = _classifier((seen - self.mean) / self.std, torch.tensor(labels))

    @torch.no_grad()
    def features(self, images: Images) -> Tensor:
        """N x 1280: the network's last features, averaged over the picture."""
        return self.network.maps(images).mean((2, 3))

    def share(self, images: Images, noun: str) -> float:
        """Share of the images for which ``noun`` comes first."""
        with torch.no_grad():
            answers = self.linear((self.features(images) - self.mean) / self.std).argmax(1)
        return float((answers == self.names.index(noun)).float().mean())


def _classifier(features: Tensor, labels: Tensor) -> nn.Linear:
    """Logistic regression with weight decay, from zero, on all rows at once."""
    linear = nn.Linear(features.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(linear(features), labels).backward()
        optimizer.step()
    return linear
