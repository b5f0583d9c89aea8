"""How an edited picture is measured: inside the true mask, and outside it."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torch import Tensor

from benchmarks.editing.edits import Edit
from benchmarks.editing.problem import Result
from evoken.arrays import Images
from evoken.models.clip import Clip
from evoken.models.judge import HEADS, Judge
from stickers.autoencoder import to_images

Scores = dict[str, list[float | None]]  # one number per edit; None where it has no meaning


class Scorer:
    """Measures pictures that some edits have led to.

    - judge: 1 if the judge finds what was asked, else 0. It looks at what is inside the true mask,
      with the original's pixels outside it.
    - outside, ssim: RMSE (pixel range 0 to 255) and SSIM (Wang et al. 2004) to the original outside
      the true mask; of an edit of style, which has no outside, None.
    - clip, clip_inside: similarity with the target's prompt, of the whole picture and of what is
      inside the true mask on black (Ju et al. 2023, PIE-Bench).
    - pasted, pasted_ssim, pasted_judge: the same after the editor's own mask has put its picture
      into the original; only of editors that find a mask.
    """

    def __init__(self, clip: Clip, judge: Judge, edits: Sequence[Edit]) -> None:
        self.clip, self.judge, self.edits = clip, judge, edits
        cpu = torch.device("cpu")
        self.sources = to_images(np.stack([e.pixels for e in edits]), cpu)
        self._inside = torch.from_numpy(np.stack([e.inside for e in edits]))[:, None]
        self._texts = clip.text_features([e.prompts[1] for e in edits])

    def __call__(self, result: Result) -> Scores:
        """Of one picture per edit."""
        outside, ssim = self._outside(result.images)
        black = torch.where(self._inside, result.images, -1.0)
        found: Scores = {
            "judge": self._found(result.images),
            "outside": outside,
            "ssim": ssim,
            "clip": self._agreement(result.images),
            "clip_inside": self._agreement(black),
        }
        pasted = result.pasted
        if pasted is None and result.mask is not None:
            pasted = paste(self.sources, result.images, result.mask)
        if pasted is not None:
            outside, ssim = self._outside(pasted)
            found |= {"pasted": outside, "pasted_ssim": ssim, "pasted_judge": self._found(pasted)}
        return found

    def _outside(self, images: Images) -> tuple[list[float | None], list[float | None]]:
        """RMSE and SSIM of every picture."""
        errors: list[float | None] = []
        similar: list[float | None] = []
        for image, source, inside in zip(images, self.sources, self._inside[:, 0], strict=True):
            if inside.all():
                errors.append(None)
                similar.append(None)
                continue
            kept = torch.where(inside, source, image)  # so that no window sees the edit
            square = (kept - source).double().square().mean(0)[~inside] * 127.5**2
            errors.append(round(float(square.mean().sqrt()), 2))
            similar.append(round(float(ssim_map(kept, source)[~inside.numpy()].mean()), 3))
        return errors, similar

    def _agreement(self, images: Images) -> list[float | None]:
        found = (self.clip.image_features(images) * self._texts).sum(1)
        return [round(float(x), 3) for x in found]

    def _found(self, images: Images) -> list[float | None]:
        seen = torch.where(self._inside, images, self.sources)
        answers = {question: self.judge.answers(seen, question) for question in HEADS}
        pixels = to_pixels(seen)
        return [
            int(
                all(
                    (e.colour_of(pixels[i]) if question == "colour" else answers[question][i])
                    == wanted
                    for question, wanted in e.asked.items()
                )
            )
            for i, e in enumerate(self.edits)
        ]


def to_pixels(images: Images) -> np.ndarray:
    """N x S x S x 3, 0 to 255."""
    found: np.ndarray = ((images.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    return found


def paste(sources: Images, images: Images, mask: Tensor) -> Images:
    """The pictures put into the originals where a soft mask says."""
    soft = F.interpolate(mask, sources.shape[-2:], mode="bilinear", align_corners=False)
    return torch.lerp(sources, images, soft)


def ssim_map(a: Tensor, b: Tensor) -> np.ndarray:
    """S x S, the mean of the channels, with the Gaussian window of Wang et al. 2004."""
    _, found = structural_similarity(
        a.numpy(),
        b.numpy(),
        channel_axis=0,
        data_range=2.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    mean: np.ndarray = found.mean(0)
    return mean
