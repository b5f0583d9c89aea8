"""What a card holds of a model at once: the ``offload.*`` figures.

    python -m benchmarks.offload

Counted, not measured on a card: an otter is learned for some generations and drawn, on the device
that the tests simulate, and after every transfer the bytes of the weights that are on it are added
up. What is computed with them comes on top of that.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import nn

import evoken
from benchmarks import figures
from benchmarks.documents import ROOT
from evoken.models import card
from evoken.models.card import weights_of
from evoken.models.clip import Clip
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_clip
from evoken.pictures.drawing import draw
from evoken.spec import ModelSpec
from tests.elsewhere import elsewhere

MODELS = ("stickers", "stickers-flow")
WORD = "<otter>"
SETTINGS = evoken.preset("default", placeholder=WORD, popsize=16, calls=2000, start="cat")
GENERATIONS = 3


@contextmanager
def watched(parts: dict[str, nn.Module]) -> Iterator[list[tuple[str, int]]]:
    """The parts that came onto the card within the block, each with the bytes that were there
    then.
    """
    found: list[tuple[str, int]] = []
    bring, names = card._Card.bring, {id(part): name for name, part in parts.items()}

    def noted(self: card._Card, part: nn.Module) -> None:
        arrives = self._part() is not part
        bring(self, part)
        if arrives:
            held = [weights_of(p) for p in parts.values() if not next(p.parameters()).is_cpu]
            found.append((names[id(part)], sum(held)))

    with patch.object(card._Card, "bring", noted):
        yield found


def parts_of(model: LatentModel, clip: Clip) -> dict[str, nn.Module]:
    """All that comes onto the card."""
    return model.parts | {"CLIP": clip.model}


def measure(name: str, device: str) -> tuple[float, float, int]:
    """The most that was on the card and all weights, both by the largest part; and the transfers of
    a generation.
    """
    model = evoken.load_model(ModelSpec(name, batch=16, device=device, offload=True))
    clip = load_clip("stickers", device, offload=True)
    images = evoken.load_images(ROOT / "examples" / "otter", model.size).images
    parts = parts_of(model, clip)
    sizes = [weights_of(part) for part in parts.values()]
    with watched(parts) as arrivals:
        steps = evoken.learn(SETTINGS, model, images, clip)
        for _ in range(GENERATIONS):
            before = len(arrivals)
            learner, _ = next(steps)
        transfers = len(arrivals) - before
        draw(model, f"a {WORD}", learner.word, 2, steps=2)
    print(f"{name}: {', '.join(part for part, _ in arrivals)}")
    most = max(held for _, held in arrivals)
    return most / max(sizes), sum(sizes) / max(sizes), transfers


def main() -> None:
    with elsewhere(float64=True) as device:
        found = [measure(name, device) for name in MODELS]
    peaks, sums, transfers = zip(*found, strict=True)
    figures.update(
        {
            "offload.peak_vs_largest_part": round(max(peaks), 4),
            "offload.sum_vs_largest_part": round(max(sums), 4),
            "offload.transfers_per_generation": max(transfers),
        }
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main()
