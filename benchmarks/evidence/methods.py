"""All methods, with the settings that are tried for each on the concepts to tune on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch

from benchmarks.evidence import gradients, scalar, squares
from benchmarks.evidence.contest import Contest, Method
from benchmarks.learn import WORD
from evoken.annotations import Annotations
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.settings import MISTAKES, preset
from evoken.words.word import Word

RATES = (3.0, 10.0, 30.0, 100.0)
SIGMAS = (0.1, 0.3, 3.0, 30.0)  # from short steps to those that evoken's default takes
LONG = SIGMAS[2:]  # for the others: no search that was tried with all of these has a shorter best
EQUAL_SECONDS = ", equal seconds"  # the end of the names of such methods
TOGETHER = 16  # samples of a step there: twice as fast on two cores as four


class Row(NamedTuple):
    """A method.

    Attributes:
        group: what it is told: "gradients", "losses", or "residuals".
        about: for the table.
        variants: what is tried; that which is best on the concepts to tune on is reported.
        like: the method whose best variant is taken; "" for its own.
        images: that it learns from.
        vectors: that it starts with, where it begins at the contest's start; 0 for as many as
            evoken gives a word.
        thorough: whether it may spend four times as many calls.
        captions: whether the pictures of a style have captions that say what they show.
    """

    group: str
    about: str
    variants: Mapping[str, Method]
    like: str = ""
    images: int = 5
    vectors: int = 0
    thorough: bool = False
    captions: bool = True


def of_evoken(
    name: str = "default", zero: bool = False, sketch: bool = False, **changes: Any
) -> Method:
    """A search of evoken's own, from a start of its own.

    Args:
        zero: which is a vector of zeros.
        sketch: tell the search of the projected residuals that other solvers get.
        changes: of the preset's settings.
    """

    def method(contest: Contest) -> None:
        about = {"placeholder": WORD, "seed": contest.seed, "calls": contest.most}
        about |= {"kind": contest.kind}
        start = None
        if zero:
            about |= {"initialization": "file", "start": "zeros", "vectors": 1}
            start = Word(WORD, torch.zeros(1, contest.model.width), contest.model.encoders)
        settings = preset(name, **about | changes)
        if settings.axes:
            words, width = contest.model.vocabulary().vectors.shape
            settings = replace(settings, axes=min(settings.axes, width, words - 1))
        its = Annotations(captions=contest.captions)
        images, clip = contest.images, contest.clip
        learner = Learner(settings, contest.model, images, clip, annotations=its, learned=start)
        if sketch:
            learner.evaluator = squares.Sketched(cast(DenoisingLoss, learner.objective))
        while not learner.finished:
            learner.step()
            contest.offer(learner.vectors)

    return method


# Of the authors' script: 20 candidates on five draws each, sigma 1, and no validation.
OFFICIAL: dict[str, Any] = {
    "popsize": 20,
    "draws": 5,
    "sentences": 5,
    "sigma": 1.0,
    "validation_draws": 1,
    "mistakes": tuple(MISTAKES),
}
CORRECTED: dict[str, Any] = {"draws": 8, "sentences": 8}


def _steps(sigmas: Sequence[float], **settings: Any) -> dict[str, Method]:
    """One of evoken's searches with other first steps, too."""
    longer = {f"sigma {s}": of_evoken(**settings | {"sigma": s}) for s in sigmas}
    return {"": of_evoken(**settings)} | longer


def nothing(contest: Contest) -> None:
    """No word at all."""
    contest.offer(contest.model.nothing())


METHODS: dict[str, Row] = {
    "no word": Row("nothing", "the end token in its place", {"": nothing}),
    "evoken": Row("residuals", "evoken's default", {"": of_evoken()}),
    "evoken, thorough": Row(
        "residuals", "with four times as many calls", {"": of_evoken()}, thorough=True
    ),
    "evoken, 4,800 calls": Row(
        "residuals", "with the calls that DTI's authors spend", {"": of_evoken(calls=4_800)}
    ),
    "evoken, short": Row(
        "residuals", "words at most twice as long as others", {"": of_evoken(fidelity=2)}
    ),
    "evoken, sketched": Row(
        "residuals", "evoken's search, on projected residuals", {"": of_evoken(sketch=True)}
    ),
    "gradients": Row(
        "gradients",
        "textual inversion with diffusers' optimizer",
        {f"rate {r}": gradients.textual_inversion(r) for r in RATES},
    ),
    "gradients, averaged": Row(
        "gradients",
        "the same with a falling rate and the mean of late words",
        {f"rate {r}": gradients.averaged(r) for r in RATES},
    ),
    "gradients, our objective": Row(
        "gradients",
        "that on evoken's objective",
        {f"rate {r}": gradients.averaged(r, weighted=True) for r in RATES},
    ),
    "DTI": Row(
        "gradients",
        "Directional Textual Inversion, 1,600 samples as its authors take",
        {f"rate {r}": gradients.dti(r) for r in (0.01, 0.03, 0.1)},
    ),
    "DTI, long": Row(
        "gradients",
        "the same with all calls",
        {f"rate {r}": gradients.dti(r, steps=10**9) for r in (0.01, 0.03, 0.1)},
    ),
    "GFTI, official": Row(
        "losses", "as the authors' code behaves", {"": of_evoken("paper", **OFFICIAL)}
    ),
    "GFTI, paper": Row(
        "losses", "as the paper says, corrected", {"": of_evoken("paper", **CORRECTED)}
    ),
    "ZOODiP": Row(
        "losses",
        "as its code behaves",
        {f"rate {r}": scalar.zoodip(r) for r in (5e-3, 1e-2)},
    ),
    "FZOO": Row(
        "losses",
        "one-sided differences along 30 random directions",
        {f"rate {r}": scalar.fzoo(r) for r in (0.1, 0.3, 1.0, 3.0, 10.0)}
        | {"rate 3.0, difference 3.0": scalar.fzoo(3.0, difference=3.0)},
    ),
    "CMA-ES": Row(
        "losses",
        "full covariance, 64 principal axes",
        _steps((3.0, 30.0), search="cma", subspace="pca", axes=64, sigma=0.3),
    ),
    "sep-CMA-ES": Row(
        "losses",
        "CMA-ES with a diagonal covariance",
        _steps((3.0, 30.0), search="sep-cma", sigma=0.3),
    ),
    "LRA-CMA-ES": Row(
        "losses",
        "CMA-ES whose learning rate adapts to noise",
        {f"sigma {s}": scalar.lra_cma(s) for s in SIGMAS},
    ),
    "lq-CMA-ES": Row(
        "losses",
        "CMA-ES with a quadratic surrogate",
        {f"16 draws, sigma {s}": scalar.lq_cma(16, s) for s in LONG},
    ),
    "CR-FM-NES": Row(
        "losses",
        "a natural evolution strategy for many dimensions",
        {f"sigma {s}": scalar.cr_fm_nes(s) for s in LONG},
    ),
    "NGOpt": Row(
        "losses",
        "what nevergrad chooses for such a problem",
        {f"sigma {s}": scalar.of_nevergrad("NGOpt", s) for s in LONG},
    ),
    "TBPSA": Row(
        "losses",
        "nevergrad's own for noisy losses",
        {f"sigma {s}": scalar.of_nevergrad("TBPSA", s) for s in SIGMAS},
    ),
    "zero-order": Row(
        "losses",
        "Adam on differences",
        _steps((0.5, 5.0), search="zero-order", sigma=0.05),
    ),
    "random": Row(
        "losses", "random steps, the best is kept", _steps((1.0,), search="random", sigma=0.1)
    ),
    "DFO-LS": Row(
        "residuals",
        "Gauss-Newton by interpolation",
        {f"radius {r}": squares.dfo_ls(radius=r) for r in LONG},
    ),
    "DFBGN": Row(
        "residuals",
        "the same in random subspaces",
        {f"radius {r}": squares.dfbgn(radius=r) for r in LONG},
    ),
    "ES-MDA": Row(
        "residuals",
        "an ensemble smoother",
        {
            f"{m} members, sigma {s}": squares.es_mda(m, sigma=s)
            for m, s in ((60, 1.0), (60, 0.3), (120, 1.0), (60, 10.0))
        },
    ),
    "POUNDERS": Row(
        "residuals",
        "64 principal axes, residuals of 250 entries",
        {f"radius {r}": squares.pounders(radius=r) for r in LONG},
    ),
    "scipy": Row(
        "residuals",
        "least_squares with two points",
        {f"step {s}": squares.two_point(step=s) for s in LONG},
    ),
}
# Not of the constant rate: on the concepts to tune on it ends where the falling one does.
_LARGE_STEPS = {
    "gradients, averaged": partial(gradients.averaged, batch=TOGETHER),
    "gradients, our objective": partial(gradients.averaged, weighted=True, batch=TOGETHER),
}
METHODS |= {
    name + EQUAL_SECONDS: METHODS[name]._replace(
        about="the same with as many seconds as evoken's thorough search takes on two cores",
        variants={f"rate {r}": method(r) for r in RATES},
        like=name,
    )
    for name, method in _LARGE_STEPS.items()
}
