"""Methods without gradients that see losses alone."""

from collections import deque
from typing import Any

import numpy as np
import torch

from benchmarks.evidence.contest import DEFAULT, Contest, Method
from evoken.arrays import Coords
from evoken.search.base import without_failures
from evoken.seeds import numpy_generator

DRAWS, POPSIZE = DEFAULT.draws, 30
# The size of a component of Stable Diffusion 1.5's token embeddings, which the settings of scripts
# for it are made for.
SIZE_SD15 = 0.0139


def zoodip(rate: float = 1e-2, tau: int = 128, nu: float = 1e-3, directions: int = 2) -> Method:
    """ZOODiP (Seo et al. 2025) as its script runs it: one-sided differences along two random
    directions on one draw, Adam at a constant rate with an epsilon of 1e-3, noise levels from .5 to
    .9, and no steps along what the last ``tau`` words hardly varied in.

    Differs: lengths are in units of the vocabulary; weights are not quantised.
    """

    def method(contest: Contest) -> None:
        scale = contest.size / SIZE_SD15
        rng = numpy_generator(contest.seed, 0, "zoodip")
        word = contest.start.double().numpy().copy()
        difference, flat = 1e-3 * scale, np.zeros((0, word.size))
        m, v, dimension = np.zeros_like(word), np.zeros_like(word), word.size
        buffer: deque[Any] = deque(maxlen=tau)
        step = 0
        while True:
            z = rng.standard_normal((directions, *word.shape))
            tried = torch.from_numpy(np.stack([word, *(word + difference * z)])).float()
            losses = contest.losses(
                tried, step, 1, t_range=(0.5, 0.9), weighting="uniform", sentences=1
            )
            # In units in which the vocabulary is that of Stable Diffusion.
            slopes = (losses[1:] - losses[0]) / 1e-3
            g = np.tensordot(slopes, z, 1) / (
                np.sqrt((dimension + directions - 1) / directions) * directions
            )
            g -= (g.reshape(-1) @ flat.T @ flat).reshape(g.shape)
            step += 1
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            change = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-3)
            word = word - rate * scale * change
            buffer.append(word.reshape(-1).copy())
            if step % tau == 0:
                flat = _hardly_varied(np.stack(buffer), nu)
                dimension = word.size - len(flat)
            contest.offer(torch.from_numpy(word).float())

    return method


def _hardly_varied(words: Coords, nu: float) -> Coords:
    """The principal axes of some words that all but ``nu`` of their variance does not need."""
    _, singular, axes = np.linalg.svd(words - words.mean(0), full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    kept = int(np.searchsorted(share, 1 - nu, side="right")) + 1
    return np.asarray(axes[kept:])


def fzoo(rate: float, directions: int = 30, difference: float = 0.3) -> Method:
    """FZOO (arXiv 2506.09034): one-sided differences along Rademacher directions in one batch; the
    step is divided by the standard deviation of their losses.
    """

    def method(contest: Contest) -> None:
        rng = numpy_generator(contest.seed, 0, "fzoo")
        x, step = np.zeros(contest.start.numel()), 0
        while True:
            z = rng.choice([-1.0, 1.0], (directions, x.size))
            losses = contest.losses(
                contest.vectors(np.vstack([x, x + difference * z])), step, DRAWS
            )
            spread = losses[1:].std() or 1.0
            g = (losses[1:] - losses[0]) @ z / directions
            share = 1 - 0.9 * contest.calls / contest.most
            x = x - rate * share * difference * g / spread
            step += 1
            contest.offer(contest.vectors(x[None])[0])

    return method


def lra_cma(sigma: float = 0.3) -> Method:
    """CMA-ES with a learning rate that adapts to noise (Nomura et al. 2023), by ``cmaes``."""

    def method(contest: Contest) -> None:
        from cmaes import CMA

        size = contest.start.numel()
        seed = int(numpy_generator(contest.seed, 0, "lra").integers(2**31))
        search = CMA(np.zeros(size), sigma, population_size=POPSIZE, seed=seed, lr_adapt=True)
        step = 0
        while True:
            asked = np.stack([search.ask() for _ in range(POPSIZE)])
            losses = without_failures(contest.losses(contest.vectors(asked), step, DRAWS))
            search.tell(list(zip(asked, losses.tolist(), strict=True)))
            step += 1
            contest.offer(contest.vectors(search.mean[None])[0])

    return method


def cr_fm_nes(sigma: float = 0.3) -> Method:
    """CR-FM-NES (Nomura & Ono 2022), by ``crfmnes``."""

    def method(contest: Contest) -> None:
        from crfmnes import CRFMNES

        size, step = contest.start.numel(), 0

        def loss(x: Coords) -> float:
            found = float(contest.losses(contest.vectors(x.T.copy()), step, DRAWS)[0])
            return found if np.isfinite(found) else np.inf

        with contest.global_numbers(0):
            search = CRFMNES(size, loss, np.zeros((size, 1)), sigma, POPSIZE)
            while True:
                search.one_iteration()
                step += 1
                contest.offer(contest.vectors(search.m.reshape(1, size))[0])

    return method


def of_nevergrad(name: str, sigma: float = 0.3) -> Method:
    """A search of ``nevergrad``, such as NGOpt or TBPSA."""

    def method(contest: Contest) -> None:
        most, step = contest.most // DRAWS, 0
        with contest.global_numbers(0):
            import nevergrad  # which draws some, too

            space = nevergrad.p.Array(init=np.zeros(contest.start.numel()))
            space.set_mutation(sigma=sigma).random_state.seed(contest.seed)
            search = nevergrad.optimizers.registry[name](space, budget=most, num_workers=POPSIZE)
            while True:
                asked = [search.ask() for _ in range(POPSIZE)]
                coords = np.stack([one.value for one in asked])
                losses = contest.losses(contest.vectors(coords), step, DRAWS)
                for one, loss in zip(asked, without_failures(losses).tolist(), strict=True):
                    search.tell(one, loss)
                step += 1
                contest.offer(contest.vectors(search.recommend().value[None])[0])

    return method


def lq_cma(draws: int = 8, sigma: float = 0.3) -> Method:
    """lq-CMA-ES (Hansen 2019), by pycma; its model needs draws that stay the same."""

    def method(contest: Contest) -> None:
        import cma

        lowest = np.inf

        def loss(x: Coords) -> float:
            nonlocal lowest
            word = contest.vectors(np.asarray(x)[None])
            found = float(contest.losses(word, 0, draws)[0])
            lowest = min(lowest, found)
            contest.offer(word[0] if found == lowest else contest.word)
            return found

        options = {"seed": contest.seed + 1, "verbose": -9, "maxfevals": contest.most}
        cma.fmin_lq_surr2(loss, np.zeros(contest.start.numel()), sigma, options)

    return method
