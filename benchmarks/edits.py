"""Edits of sticker pictures to measure editors on: what is to change, and what is to be kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from evoken.arrays import Images
from evoken.models.clip import Clip
from evoken.models.judge import Judge
from stickers import backgrounds, styles, world
from stickers.autoencoder import to_images
from stickers.captions import with_article
from stickers.world import DYES, SIZE, Spec, Thing

KINDS = ("object", "colour", "scene", "style")
FRESH = 9200  # world seeds that no training used


@dataclass(frozen=True)
class Edit:
    """One edit of a fresh picture of one thing.

    Attributes:
        pixels: the picture, uint8.
        kept: SIZE x SIZE, bool: what is not to change; all False where everything is to (a style).
    """

    kind: str
    pixels: np.ndarray
    kept: np.ndarray
    source: Spec
    target: Spec

    @property
    def prompts(self) -> tuple[str, str]:
        """What it shows and what it should show."""
        return describe(self.source), describe(self.target)


def describe(spec: Spec) -> str:
    """A plain caption of one thing in a place."""
    ground = spec.background
    where = f"on {with_article(ground)}" if ground in backgrounds.PLAIN else ground
    what = f"{spec.things[0].dye} {spec.things[0].noun}".strip()
    form = f"{with_article(spec.style)} picture of" if spec.style else "a photo of"
    return f"{form} {with_article(what)} {where}"


def draw(kind: str, count: int, seed: int) -> Iterator[Edit]:
    """Every other thing is one that no model has seen; what it is turned into is always known."""
    for i in range(count):
        rng = world.generator(FRESH + seed, i * len(KINDS) + KINDS.index(kind))
        nouns = [o.noun for o in world.objects(held_out=i % 2 == 1)]
        known = [o.noun for o in world.objects(held_out=False)]
        thing = Thing(str(rng.choice(nouns)))
        source = Spec((thing,), str(rng.choice((*backgrounds.PLAIN, *backgrounds.SCENES))))
        if kind == "object":
            others = [noun for noun in known if noun != thing.noun]
            target = replace(source, things=(Thing(str(rng.choice(others))),))
        elif kind == "colour":
            target = replace(source, things=(Thing(thing.noun, str(rng.choice(list(DYES)))),))
        elif kind == "scene":
            others = [scene for scene in backgrounds.SCENES if scene != source.background]
            target = replace(source, background=str(rng.choice(others)))
        else:
            target = replace(source, style=str(rng.choice(styles.TRAINED)))
        again = int(rng.integers(2**32))
        pixels = world.render(source, np.random.default_rng(again))
        ground = backgrounds.paint(source.background, SIZE, np.random.default_rng(again))
        inside = (pixels != ground).any(-1)
        kept = {"scene": inside, "style": np.zeros_like(inside)}.get(kind, ~inside)
        yield Edit(kind, pixels, kept, source, target)


@dataclass(frozen=True)
class Scores:
    """N numbers each, one per edit.

    Attributes:
        clip: similarity of the picture with the target prompt.
        shown: 1 where the picture shows the target's thing, place and style, as the judge sees
            them, and its colour, as CLIP does; else 0.
        rmse: to the source, pixel range 0 to 255.
        kept: RMSE over what was not to change; NaN where everything was to.
    """

    clip: Tensor
    shown: Tensor
    rmse: Tensor
    kept: Tensor


class Scorer:
    """Scores pictures that edits have led to."""

    def __init__(self, clip: Clip, judge: Judge, edits: Sequence[Edit]) -> None:
        self.clip, self.judge, self.edits = clip, judge, edits
        self.sources = to_images(np.stack([e.pixels for e in edits]), torch.device("cpu"))
        self._kept = torch.from_numpy(np.stack([e.kept for e in edits]))
        self._texts = clip.text_features([e.prompts[1] for e in edits])

    def __call__(self, images: Images) -> Scores:
        """Of one picture per edit."""
        square = (images - self.sources).double().square().mean(1) * 127.5**2
        return Scores(
            (self.clip.image_features(images) * self._texts).sum(1).double(),
            self.shown(images).double(),
            square.flatten(1).mean(1).sqrt(),
            ((square * self._kept).sum((1, 2)) / self._kept.sum((1, 2))).sqrt(),
        )

    def shown(self, images: Images) -> Tensor:
        """Whether each picture shows all that its target says."""
        wanted = [
            (e.target.things[0].noun, e.target.background, e.target.style) for e in self.edits
        ]
        seen = zip(
            *(self.judge.answers(images, q) for q in ("object", "background", "style")), strict=True
        )
        right = torch.tensor([a == b for a, b in zip(seen, wanted, strict=True)])
        return right & torch.tensor(self._coloured(images))

    def _coloured(self, images: Images) -> list[bool]:
        """Whether CLIP finds the asked colour nearest among all; True where none was asked."""
        features = self.clip.image_features(images)
        found = []
        for edit, feature in zip(self.edits, features, strict=True):
            thing = edit.target.things[0]
            if not thing.dye:
                found.append(True)
                continue
            texts = [
                describe(replace(edit.target, things=(Thing(thing.noun, dye),))) for dye in DYES
            ]
            nearest = int((self.clip.text_features(texts) @ feature).argmax())
            found.append(list(DYES)[nearest] == thing.dye)
        return found
