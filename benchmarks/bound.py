"""The step size's bound: what is estimated, and where fixed steps really stop converging.

    python -m benchmarks.bound [--pictures 16]

Every picture has its own estimate. Fixed steps of SHARES of it, without any safeguard, are taken
from the UniInv start; a step converges if the residual ends below its start, and is lost if it has
grown. Also the peak memory of an inversion over that of plain generation with as many calls.
"""

import argparse
import resource
import statistics
from multiprocessing import get_context

import torch

from benchmarks import figures
from benchmarks.inversion import Bench
from evoken.flowopt.inversion import uniinv
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.rules import RULES
from evoken.flowopt.sampler import ModelSampler, per_row, rms
from evoken.flowopt.settings import flowopt_preset
from evoken.flowopt.step_size import estimate_step_size
from evoken.models.load import load_model
from evoken.spec import ModelSpec

SHARES = (0.25, 0.5, 1.0, 2.0, 4.0)
ITERATIONS = 20
STEPS = 10


def sweep(bench: Bench) -> dict[str, object]:
    """Residual after over before by share of each picture's bound, and the share that is lost."""
    f = ModelSampler(bench.model, STEPS)
    prompts, y = f.condition(bench.captions), bench.latents
    start = uniinv(f, y, prompts)
    bounds = torch.tensor(estimate_step_size(f, y, start, prompts).bounds)
    known = bounds > 0
    print(f"estimated bounds: {[round(b, 3) for b in bounds.tolist()]}")
    found: dict[str, object] = {
        "flowopt.bound": figures.spread(bounds[known].tolist()),
        "flowopt.bound_unknown": int((~known).sum()),
    }
    for share in SHARES:
        z, eta = start, per_row(share * bounds, y).to(y)
        for _ in range(ITERATIONS):
            z = z - eta * (f(z, prompts) - y)
        ratio = (rms(f(z, prompts) - y) / rms(f(start, prompts) - y))[known].nan_to_num(torch.inf)
        lost = float((ratio > 1).double().mean())
        found[f"flowopt.bound_sweep.{share}.ratio"] = round(statistics.median(ratio.tolist()), 4)
        found[f"flowopt.bound_sweep.{share}.lost"] = round(lost, 4)
    return found


def peak_memory(what: str) -> float:
    """Megabytes at most held by a process that generates, or inverts, 16 pictures."""
    torch.set_num_threads(1)
    bench, settings = (
        Bench(load_model(ModelSpec("stickers-flow")), 16, 97),
        flowopt_preset("invert"),
    )
    f = ModelSampler(bench.model, settings.steps)
    prompts = f.condition(bench.captions)
    if what == "generation":
        for i in range(8):
            f(bench.model.noise(range(i, i + 16)), prompts)
    else:
        start = uniinv(f, bench.latents, prompts)
        list(flow_opt(f, bench.latents, start, prompts, RULES[settings.rule](settings.eta), 6))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16)
    options = parser.parse_args()
    figures.update(sweep(Bench(load_model(ModelSpec("stickers-flow")), options.pictures, 96)))
    ratios = []
    for _ in range(3):
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            plain, ours = pool.map(peak_memory, ("generation", "inversion"), chunksize=1)
        ratios.append(ours / plain)
    figures.update({"flowopt.memory_overhead": figures.spread(ratios)})


if __name__ == "__main__":
    main()
