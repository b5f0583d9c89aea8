"""Methods with gradients: the best of what backward passes give."""

import torch
from torch.nn.functional import normalize

from benchmarks.evidence.contest import Contest, Method
from benchmarks.gradient import BATCH
from evoken.arrays import Vectors

# Of diffusers' textual_inversion.py: AdamW with these, at a constant rate.
BETAS, WEIGHT_DECAY = (0.9, 0.999), 1e-2
DTI_RATE, DTI_KAPPA = 0.01, 1e-4  # of the authors' scripts


def textual_inversion(rate: float, weighted: bool = False, batch: int = BATCH) -> Method:
    """Gal et al. 2022, with the optimizer of diffusers' own script.

    Args:
        rate: in typical sizes of an embedding's component; the script's 5e-4 is 0.036 of them on
            Stable Diffusion 1.5, and 0.14 where it is multiplied by the batch (``--scale_lr``).
        weighted: on evoken's objective in place of Eq. 1.
        batch: samples of a step.
    """

    def method(contest: Contest) -> None:
        word = contest.start.clone().requires_grad_(True)
        adam = torch.optim.AdamW([word], rate * contest.size, BETAS, weight_decay=WEIGHT_DECAY)
        step = 0
        while True:
            word.grad = contest.gradient(word.detach(), step, batch, weighted)
            adam.step()
            step += 1
            contest.offer(word.detach().clone())

    return method


def averaged(rate: float, weighted: bool = False, batch: int = BATCH) -> Method:
    """The same with what usually helps: a warm-up, a rate that falls to a tenth, faster second
    moments, and the mean of late words (as Shamir & Zhang 2013 weigh them).
    """

    def method(contest: Contest) -> None:
        word = contest.start.clone().requires_grad_(True)
        adam = torch.optim.Adam([word], rate * contest.size, (0.9, 0.99))
        mean, step = contest.start.clone(), 0
        while True:
            share = min(1.0, contest.calls / contest.most)
            for group in adam.param_groups:
                group["lr"] = rate * contest.size * min(1, (step + 1) / 20) * (1 - 0.9 * share)
            word.grad = contest.gradient(word.detach(), step, batch, weighted)
            adam.step()
            step += 1
            mean.lerp_(word.detach(), min(1.0, 10 / (9 + step)))
            contest.offer(mean.clone())

    return method


def dti(rate: float = DTI_RATE, kappa: float = DTI_KAPPA, steps: int = 400) -> Method:
    """Directional Textual Inversion (arXiv 2512.13672): the norm is the vocabulary's mean, and
    steps of one length go along the sphere, with a pull towards the start's direction.

    Args:
        rate: length of a step on the unit sphere.
        kappa: of the prior.
        steps: of four samples; 400 are the authors'.
    """

    def method(contest: Contest) -> None:
        vocabulary = contest.model.vocabulary()
        parts = list(vocabulary.parts)  # of each text encoder, on a sphere of its own

        def unit_of(vectors: Vectors) -> Vectors:
            return torch.cat([normalize(part, dim=1) for part in vectors.split(parts, 1)], 1)

        def tangent(slope: Vectors, unit: Vectors) -> Vectors:
            pairs = zip(slope.split(parts, 1), unit.split(parts, 1), strict=True)
            along = [s - (s * u).sum(1, keepdim=True) * u for s, u in pairs]
            return torch.cat([s / (s.norm(dim=1, keepdim=True) + 1e-8) for s in along], 1)

        means = [part.norm(dim=1).mean() for part in vocabulary.vectors.split(parts, 1)]
        norm = torch.cat([mean.expand(width) for mean, width in zip(means, parts, strict=True)])
        prior = unit_of(contest.start)
        unit, step = prior.clone(), 0
        while step < steps:
            # By the chain rule, the gradient at the unit vector is the word's times the norm.
            slope = norm * contest.gradient(norm * unit, step, BATCH) - kappa * prior
            unit = unit_of(unit - rate * tangent(slope, unit))
            step += 1
            contest.offer(norm * unit)

    return method
