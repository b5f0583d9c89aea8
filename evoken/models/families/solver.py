"""The solver that pictures are drawn with where a model brings none of a flow."""

from typing import Any

from evoken.libraries import diffusers


def dpm_solver(scheduler: Any) -> Any:
    """DPM-Solver++ 2M (Lu et al. 2022) on the noise levels of a diffusers scheduler.

    Its stochastic form would draw noise that comes from no seed of ours, so it is the ordinary one
    whatever the scheduler's configuration says.
    """
    kind = str(scheduler.config.get("algorithm_type", "dpmsolver++")).removeprefix("sde-")
    return diffusers.DPMSolverMultistepScheduler.from_config(scheduler.config, algorithm_type=kind)
