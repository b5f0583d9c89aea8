"""Least squares without derivatives: methods that see residuals."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from itertools import count
from unittest.mock import patch

import numpy as np

from benchmarks.evidence.contest import Contest, Method, sketched
from evoken.arrays import Coords, Losses, Vectors
from evoken.evaluation.chunks import Chunk, Evaluation
from evoken.evaluation.evaluator import Serial
from evoken.seeds import numpy_generator
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.subspace import pca_basis

ENTRIES = 2_000  # of a residual, where it is projected
SMALLEST = 1e-3  # of trust radii and changes, where a solver has ended


class Turned:
    """Long residuals in few numbers: the first is turned to the first axis, the second into the
    plane of two, and so on (Gram-Schmidt). All inner products are kept, and solvers of least
    squares know nothing else.

    Args:
        entries: of a turned residual. Where more residuals come, the part of a late one that has no
            axis of its own is told by its length, the last entry, so that the loss is right.
    """

    def __init__(self, entries: int) -> None:
        self._axes, self._known = np.empty((entries - 1, 0)), 0

    def __call__(self, residuals: Coords) -> Coords:
        """Row x ``entries``, of row x entry."""
        if not self._known:
            self._axes = np.empty((len(self._axes), residuals.shape[1]))
        return np.stack([self._one(row) for row in residuals])

    def _one(self, rest: Coords) -> Coords:
        found, length = np.zeros(len(self._axes) + 1), float(np.linalg.norm(rest))
        axes = self._axes[: self._known]
        for _ in range(2):  # once leaves errors where little is left
            along = axes @ rest
            found[: self._known] += along
            rest = rest - along @ axes
        left = float(np.linalg.norm(rest))
        if self._known == len(self._axes):
            found[-1] = left
        elif left > 1e-12 * length:
            found[self._known] = left
            self._axes[self._known] = rest / left
            self._known += 1
        return found


class _Bank:
    """Residuals on draws that stay the same, as solvers of the usual kind need, turned so that they
    are short. What did best on them is the word.

    Args:
        start: coords to begin with.
        entries: of a residual; enough for all that come, if not given.

    Attributes:
        best: coords of the lowest loss so far.
    """

    def __init__(
        self, contest: Contest, draws: int, step: int, start: Coords, entries: int | None = None
    ) -> None:
        self._contest, self._draws, self._step = contest, draws, step
        self._lowest, self.best = np.inf, start
        # The last of all may be a whole Jacobian.
        self._turned = Turned(entries or contest.most // draws + 2 + contest.start.numel())

    def __call__(self, x: Coords) -> Losses:
        found = self.many(np.asarray(x)[None])[0]
        if (loss := float(found @ found)) < self._lowest:
            self._lowest, self.best = loss, np.array(x)
        self._contest.offer(self._contest.vectors(self.best[None])[0])
        return found

    def many(self, coords: Coords) -> Coords:
        """Row x entry."""
        vectors = self._contest.vectors(coords)
        return self._turned(self._contest.residuals(vectors, self._step, self._draws))


def _again(solve: Callable[[_Bank, Coords], object], draws: int) -> Method:
    """A solver, and when it has ended, the solver from there on other draws."""

    def method(contest: Contest) -> None:
        x = np.zeros(contest.start.numel())
        for step in count():
            bank = _Bank(contest, draws, step, x)
            with contest.global_numbers(step):
                solve(bank, x)
            x = bank.best

    return method


def dfo_ls(draws: int = 16, radius: float = 1.0, growing: int = 30) -> Method:
    """DFO-LS (Cartis et al. 2019).

    Args:
        radius: first trust radius, in spreads of the vocabulary per coordinate.
        growing: directions it begins with; the others come one by one.
    """

    def solve(bank: _Bank, x: Coords) -> None:
        import dfols

        parameters = {"growing.ndirs_initial": min(growing, len(x))}
        how = {"rhobeg": radius, "rhoend": SMALLEST, "maxfun": 10**6, "do_logging": False}
        dfols.solve(bank, x, user_params=parameters, **how)

    return _again(solve, draws)


def dfbgn(draws: int = 16, block: int = 60, radius: float = 1.0) -> Method:
    """DFBGN (Cartis & Roberts 2021): Gauss-Newton in random subspaces of ``block`` dimensions."""

    def solve(bank: _Bank, x: Coords) -> None:
        import dfbgn as package

        how = {"rhobeg": radius, "rhoend": SMALLEST, "maxfun": 10**6}
        with patch.dict(vars(np), int=int, float=float):  # names that numpy 2 has no more
            package.solve(bank, x, fixed_block=min(block, len(x)), **how)

    return _again(solve, draws)


def pounders(draws: int = 16, radius: float = 1.0, axes: int = 64, entries: int = 250) -> Method:
    """POUNDERS (Wild 2017), by ``ibcdfo``: a quadratic model of every residual.

    Differs: on the leading principal axes of the vocabulary, as a model of every residual in all
    dimensions takes gigabytes; residuals have fewer entries (``Turned``), as every one costs a
    system of equations a step; and steps are found by the package's own solver of the subproblem,
    for its usual one (MINQ) is in no package.

    Args:
        radius: first trust radius, in spreads of the vocabulary.
    """

    def method(contest: Contest) -> None:
        from ibcdfo.pounders.pounders import pounders as package

        words = contest.model.vocabulary().vectors
        basis = pca_basis(words, min(axes, words.shape[1], len(words) - 1)).double().numpy()
        basis = np.kron(np.eye(len(contest.start)), basis / contest.spread)
        size, x = len(basis), np.zeros(basis.shape[1])
        unbounded, most = np.full(size, np.inf), contest.most // draws + 1
        for step in count():
            bank = _Bank(contest, draws, step, x, entries)

            def residuals(z: Coords, bank: _Bank = bank, start: Coords = x) -> Coords:
                return bank(start + z @ basis)

            with redirect_stdout(None):  # it tells why it ends
                package(
                    *(residuals, np.zeros(size), size, most, SMALLEST, radius, entries),
                    *(-unbounded, unbounded),
                    Options={"spsolver": 1, "delta_min": SMALLEST},
                )
            x = bank.best

    return method


def two_point(draws: int = 8, step: float = 0.3) -> Method:
    """``scipy.optimize.least_squares`` with forward differences, and a first trust radius, of a
    length that suits.
    """

    def solve(bank: _Bank, x: Coords) -> None:
        from scipy.optimize import least_squares

        def jacobian(x: Coords) -> Coords:
            found = bank.many(np.vstack([x, x + step * np.eye(len(x))]))
            return np.asarray((found[1:] - found[0]).T / step)

        ends = {"xtol": SMALLEST, "ftol": SMALLEST, "gtol": None, "max_nfev": 10**6}
        least_squares(bank, x, jacobian, x_scale=step, **ends)

    return _again(solve, draws)


def es_mda(members: int = 60, steps: int = 16, draws: int = 8, sigma: float = 1.0) -> Method:
    """ES-MDA (Emerick & Reynolds 2013), by ``iterative-ensemble-smoother``: an ensemble around the
    start is fitted to residuals of zero, whose errors are as large as they are at the start. New
    draws every step; then it begins anew from its mean.
    """

    def method(contest: Contest) -> None:
        from iterative_ensemble_smoother import ESMDA

        size, step, mean = contest.start.numel(), 0, np.zeros(contest.start.numel())
        while True:
            rng = numpy_generator(contest.seed, step, "ensemble")
            ensemble = mean[:, None] + sigma * rng.standard_normal((size, members))
            at_start = contest.residuals(contest.start[None], step, draws)[0]
            entries = len(at_start)
            errors = np.full(entries, max(float(at_start @ at_start) / entries, 1e-12))
            smoother = ESMDA(errors, np.zeros(entries), steps, rng)
            for _ in range(steps):
                found = contest.residuals(contest.vectors(ensemble.T.copy()), step, draws)
                smoother.prepare_assimilation(Y=found.T)
                ensemble = smoother.assimilate_batch(X=ensemble)
                step += 1
                mean = ensemble.mean(1)
                contest.offer(contest.vectors(mean[None])[0])

    return method


class Sketched(Serial):
    """Residuals are projected to ENTRIES before a search sees their Gram matrix, as they would
    be for solvers that cannot hold more.
    """

    def __init__(self, objective: DenoisingLoss) -> None:
        super().__init__(objective)
        self._whole = objective

    def __call__(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Evaluation:
        if not chunks[0].gram:
            return super().__call__(vectors, chunks)
        before = self._whole.model.calls
        whole = self._whole.weighted(vectors, chunks[0].generation)
        found = sketched(whole / whole.shape[1] ** 0.5, ENTRIES, self._whole.seed)
        relative = np.vstack([found[:1], found[1:] - found[:1]])
        calls = self._whole.model.calls - before
        return Evaluation((found**2).sum(1), relative @ relative.T, calls)
