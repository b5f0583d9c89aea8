"""The judge of the sticker world: says which object, background and style a picture shows.

It replaces the human raters of the paper (4.4). It is trained separately from the models that it
judges, on renders of every object and every style, the held-out ones included.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evoken.documents import read_json

HEADS = ("object", "background", "style")
PART = 0.625  # of the side; a part that one of two things fits into


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut; halves the picture when ``stride`` is 2."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.GroupNorm(8, width),
        )
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.body(x) + self.shortcut(x))


class JudgeNetwork(nn.Module):
    """A small residual network with one linear head per question."""

    def __init__(
        self, answers: dict[str, int], widths: tuple[int, ...] = (32, 64, 128, 256)
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1)
        blocks: list[nn.Module] = []
        for width_in, width in zip((widths[0], *widths), widths, strict=False):
            blocks.append(_Block(width_in, width, 1 if width == widths[0] else 2))
        self.blocks = nn.Sequential(*blocks, _Block(widths[-1], widths[-1], 1))
        self.heads = nn.ModuleDict({k: nn.Linear(widths[-1], n) for k, n in answers.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.blocks(self.stem(images)).mean((2, 3))
        return {name: head(features) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Judge:
    """The network with the names of its answers, per question in ``HEADS``."""

    network: JudgeNetwork
    names: dict[str, tuple[str, ...]]

    @torch.no_grad()
    def answers(self, images: Tensor, question: str = "object") -> list[str]:
        """The most likely answer for each of the images, N x 3 x 64 x 64 in [-1, 1]."""
        found = [self.network(part)[question].argmax(1) for part in images.split(256)]
        return [self.names[question][int(i)] for i in torch.cat(found)]

    def things(self, images: Tensor) -> list[set[str]]:
        """The objects that it sees in each of the images, and in parts of them: left, right, above
        and below. A picture of several things is answered with one of them; a part shows one.
        """
        side = images.shape[-1]
        part, end = round(PART * side), side - round(PART * side)
        corners = ((end // 2, 0), (end // 2, end), (0, end // 2), (end, end // 2))
        looks = [images[:, :, y : y + part, x : x + part] for y, x in corners]
        sized = [F.interpolate(x, (side, side), mode="bicubic", antialias=True) for x in looks]
        answers = [self.answers(look) for look in (images, *sized)]
        return [set(seen) for seen in zip(*answers, strict=True)]

    def share(self, images: Tensor, answer: str, question: str = "object") -> float:
        """Share of the images for which ``answer`` comes first; raises ``KeyError`` if unknown."""
        if answer not in self.names[question]:
            raise KeyError(f"the judge knows no {question} called {answer!r}")
        found = self.answers(images, question)
        return found.count(answer) / len(found)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.names, indent=1), encoding="utf-8")
        weights = {k: v.half().contiguous() for k, v in self.network.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "Judge":
        """Read what ``save`` wrote."""
        config = read_json(folder / "config.json")
        names = {question: tuple(answers) for question, answers in config.items()}
        network = JudgeNetwork({k: len(v) for k, v in names.items()})
        weights = load_file(folder / "model.safetensors")
        network.load_state_dict({k: v.float() for k, v in weights.items()})
        return cls(network.eval().requires_grad_(False), names)
