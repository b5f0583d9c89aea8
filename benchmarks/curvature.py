"""How many directions of a word the denoiser hears, and what rounding does to finite differences.

    python -m benchmarks.curvature [--concept unicorn]

Prints the share of the loss's Gauss-Newton curvature that lies along the k most curved directions
of the embedding space, and the error of a bfloat16 Jacobian in units of the Jacobian itself, for
short and for long differences: the two measurements behind the default search.
"""

import argparse
from typing import cast

import numpy as np
import torch

from benchmarks import figures
from benchmarks.learn import WORD, concept_images, learner_of
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.load import load_clip, load_model
from evoken.prompts import OBJECT_TEMPLATES
from evoken.spec import ModelSpec
from evoken.textual_inversion.draws import draw
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.subspace import Subspace

DRAWS, BLOCK = 32, 32
SHORT, LONG = 0.05, 0.3  # of the vocabulary's spread


def jacobian(
    objective: DenoisingLoss, subspace: Subspace, length: float, directions: int
) -> torch.Tensor:
    """Direction x (draw, component): finite differences along the first axes, float64."""
    latents = objective.latents
    draws = draw(0, 0, "curvature", DRAWS, latents, OBJECT_TEMPLATES, (0.0, 1.0), sentences=4)
    step = length * subspace.dimension**0.5
    points = np.vstack([np.zeros(subspace.dimension), step * np.eye(subspace.dimension)])
    residuals = torch.cat(
        [
            objective.residuals(subspace.vectors(points[i : i + BLOCK]), draws).flatten(1)
            for i in range(0, directions + 1, BLOCK)
        ]
    ).double()[: directions + 1]
    return (residuals[1:] - residuals[0]) / step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concept", default="unicorn")
    options = parser.parse_args()
    images = concept_images(options.concept)
    models = {
        p: cast(StableDiffusion, load_model(ModelSpec(precision=p)))
        for p in ("float32", "bfloat16")
    }
    objectives = {
        p: DenoisingLoss(model, images, WORD, OBJECT_TEMPLATES, seed=0)
        for p, model in models.items()
    }
    learner = learner_of("default", options.concept, 0, models["float32"], load_clip())
    subspace = learner.subspace
    exact = jacobian(objectives["float32"], subspace, SHORT, subspace.dimension)
    curvature = torch.linalg.eigvalsh(exact @ exact.T).flip(0)
    found: dict[str, object] = {
        f"curvature.share_{k}": round(float(curvature[:k].sum() / curvature.sum()), 4)
        for k in (8, 16, 32, 64)
    }
    for name, length in {"short": SHORT, "long": LONG}.items():
        pair = [jacobian(objectives[p], subspace, length, BLOCK - 1) for p in objectives]
        error = (pair[1] - pair[0]).norm() / pair[0].norm()
        found[f"curvature.bfloat16_error_{name}"] = round(float(error), 3)
    figures.update(found)


if __name__ == "__main__":
    main()
