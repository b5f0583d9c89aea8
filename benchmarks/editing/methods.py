"""All editors, with the settings and strengths that are tried for each on the edits to tune on."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmarks.editing import ours
from benchmarks.editing.direct import Prior, decflowedit, flowalign, flowedit
from benchmarks.editing.inverting import (
    flowopt_official,
    regeneration,
    rf_inversion,
    uni_edit,
)
from benchmarks.editing.problem import Method, Problem, Result, Settings
from stickers.autoencoder import to_images


def _unedited(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
    for strength in strengths:
        yield p.result(strength, 0, p.latents)


def _drawn(p: Problem, strengths: Sequence[float]) -> Iterator[Result]:
    images = to_images(np.stack([e.ideal for e in p.edits]), torch.device("cpu"))
    for strength in strengths:
        yield Result(strength, 0.0, images)


REFERENCES: dict[str, Method] = {
    # Encoded and decoded, which is where every editor begins.
    "unedited": {"": Settings(_unedited, (0.0,))},
    # What the judge and the measures say of a perfect edit.
    "drawn by the world": {"": Settings(_drawn, (0.0,))},
}

# From the papers; each function says what its strength is.
RIVALS: dict[str, Method] = {
    "regeneration": {
        f"last {n} of 15": Settings(regeneration(15, n), (1.5, 2.5, 4.0, 6.0))
        for n in (8, 10, 12, 14)
    },
    "FlowOpt, official": {
        f"eta {eta}, guidance {g}": Settings(flowopt_official(eta, g), (0, 1, 2, 4, 8))
        for eta, g in ((0.01, 3.5), (0.05, 3.5), (0.1, 3.5), (0.05, 6.0))
    },
    "RF-Inversion": {
        f"eta {eta}, guidance 3.5, gamma {gamma}": Settings(
            rf_inversion(28, 3.5, eta, gamma), (0.25, 0.4, 0.55, 0.7)
        )
        for eta, gamma in ((0.9, 0.5), (0.9, 0.25), (0.6, 0.5), (0.4, 0.5))
    },
    "Uni-Edit": {
        f"{share} of {n} steps": Settings(uni_edit(n, share), (0.5, 1.0, 2.0, 5.0))
        for n, share in ((15, 0.6), (15, 0.8), (30, 0.6), (30, 0.8))
    },
    "FlowEdit": {
        f"last {last} of {n}, source guidance {g}": Settings(flowedit(n, last, g), strengths)
        for n, last, g, strengths in (
            (28, 24, 1.5, (1.5, 2.5, 4.0, 5.5)),
            (28, 20, 1.5, (1.5, 2.5, 4.0, 5.5)),
            (28, 24, 1.0, (1.5, 2.5, 4.0, 5.5)),
            (8, 7, 1.0, (1.5, 2.5, 4.0, 5.5)),
            (50, 33, 3.5, (4.0, 7.0, 13.5)),
        )
    },
    "DecFlowEdit": {
        f"source guidance {g}, prior of {prior.last} steps, window {prior.window}, "
        f"threshold {prior.threshold}{few}": Settings(
            decflowedit(steps, last, g, prior), (2.5, 4.0, 5.5)
        )
        for steps, last, few in ((28, 24, ""), (8, 7, ", last 7 of 8"))
        for g, prior in (
            (1.5, Prior(28, 24, 5, 0.55)),
            (1.5, Prior(28, 24, 3, 0.55)),
            (1.5, Prior(28, 24, 3, 0.3)),
            (1.5, Prior(28, 24, 1, 0.3)),
            (1.0, Prior(7, 6, 3, 0.55)),
            (1.0, Prior(7, 6, 3, 0.3)),
            (1.0, Prior(7, 6, 1, 0.3)),
        )
        if steps == 28 or (g == 1.0 and prior.window == 3)
    },
    "FlowAlign": {
        f"{steps} steps, zeta {zeta}": Settings(flowalign(steps, zeta), strengths)
        for steps, zeta, strengths in (
            (33, 0.01, (1.5, 2.0, 3.5, 7.5)),
            (33, 0.02, (2.0, 3.5, 5.0)),
            (33, 0.03, (2.0, 3.5, 5.0, 7.5)),
            (25, 0.05, (3.5, 5.0, 7.5)),
        )
    },
}

METHODS = ours.METHODS | RIVALS | REFERENCES
