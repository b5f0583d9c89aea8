"""Stage 3: the judge, which knows every object, background and style, held-out ones included."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evoken.models.judge import Judge, JudgeNetwork
from stickers import backgrounds, styles, training
from stickers.autoencoder import to_images
from stickers.data import Dataset
from stickers.drawings import load_objects

SETTINGS = training.Settings(samples=240_000, batch=64, learning_rate=2e-3, weight_decay=0.02)

NAMES: dict[str, tuple[str, ...]] = {
    "object": tuple(o.noun for o in load_objects()),
    "background": (*backgrounds.PLAIN, *backgrounds.SCENES),
    "style": ("", *styles.STYLES),
}


def train(dataset: Dataset, folder: Path, device: torch.device, minutes: float) -> Judge:
    """Cross-entropy of each question; with several things in a picture, any of them is right."""
    place = {q: {name: i for i, name in enumerate(names)} for q, names in NAMES.items()}
    objects = torch.zeros(len(dataset), len(NAMES["object"]))
    for row, target in zip(dataset.rows, objects, strict=True):
        nouns = [n for t in row["things"] for n in (t["noun"], t["partner"]) if n]
        for noun in nouns:
            target[place["object"][noun]] = 1 / len(nouns)
    classes = {
        q: torch.tensor([place[q][row[q]] for row in dataset.rows]) for q in ("background", "style")
    }

    def loss(model: nn.Module, generator: torch.Generator, batch: int) -> training.Loss:
        index = torch.randint(len(dataset), (batch,), generator=generator).sort().values
        images = to_images(dataset.pixels[index.numpy()], device)
        out = {k: v.float() for k, v in model(_augment(images, generator)).items()}
        target = objects[index].to(device)
        value = F.cross_entropy(out["object"], target, label_smoothing=0.05)
        for question, labels in classes.items():
            value = value + 0.3 * F.cross_entropy(out[question], labels[index].to(device))
        hit = target.gather(1, out["object"].argmax(1, keepdim=True)) > 0
        return value, {"top1": float(hit.float().mean())}

    network = JudgeNetwork({k: len(v) for k, v in NAMES.items()})
    training.train("judge", network, loss, SETTINGS, folder, device, minutes)
    return Judge(network, NAMES)


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to 3 px and blur a third of the batch, as a decoder blurs: the judge must know
    things, not the sharpness of renders.
    """
    dx, dy = (int(v) for v in torch.randint(-3, 4, (2,), generator=generator))
    padded = F.pad(images, (3, 3, 3, 3), mode="replicate")
    images = padded[:, :, 3 + dy : 3 + dy + images.shape[2], 3 + dx : 3 + dx + images.shape[3]]
    third = len(images) // 3
    soft = F.avg_pool2d(F.pad(images[:third], (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.cat([soft, images[third:]])
