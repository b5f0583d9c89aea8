"""Any flow pipeline of diffusers as the black box f, used through its public call alone.

Called with latents, sigmas and ``output_type="latent"`` it runs any stretch of the process; called
with a single sigma s it returns z - s v(z, s), which gives the velocity too.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from evoken.arrays import Latents
from evoken.errors import ModelError
from evoken.flowopt.sampler import last_levels
from evoken.options import at_least

NEEDED = ("latents", "sigmas", "output_type", "num_inference_steps")
SMALLEST = 1e-3  # stands for level 0, where a call has no step to take


class PipelineSampler:
    """f on a pipeline of diffusers. See ``evoken.flowopt.sampler.Sampler``.

    Conditionings are keyword arguments of the pipeline's call: prompts or their embeddings, and the
    scale of guidance under the pipeline's own name for it. Latents have the pipeline's own shape,
    packed where it packs them.
    """

    start_scale = 1.0

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        conditioning: Mapping[str, Any],
        latents: Latents,
        steps: int = 10,
        last: int = 0,
    ) -> None:
        """
        Args:
            conditioning, latents: an example of what f will be called with, to find the pipeline's
                own noise levels by one call.
            steps: T, of the whole schedule; even steps before the scheduler's shift.
            last: n, how many of the last steps f takes; 0 means all.

        Raises:
            ModelError: the pipeline is no flow, or its call lacks what is needed.
        """
        check_flow(pipeline)
        at_least("steps", steps, 1)
        self.pipeline, self.calls = pipeline, 0
        pipeline.set_progress_bar_config(disable=True)
        self.levels = last_levels(self._schedule(conditioning, latents, steps), last)

    def _schedule(
        self, conditioning: Mapping[str, Any], latents: Latents, steps: int
    ) -> list[float]:
        """The scheduler's own levels: a single step tells what the pipeline passes to it."""
        exact = ExactEuler()
        self._run(latents, (1.0,), conditioning, exact)
        own = copy.deepcopy(self.pipeline.scheduler)
        sigmas = np.linspace(1.0, 1 / steps, steps)
        own.set_timesteps(sigmas=sigmas.tolist(), **exact.extras)
        return [float(s) for s in own.sigmas]

    def __call__(self, latents: Latents, conditioning: Mapping[str, Any]) -> Latents:
        """One call of the pipeline."""
        return self._run(latents, self.levels[:-1], conditioning, ExactEuler())

    def slope(self, x: Latents, level: float, conditioning: Mapping[str, Any]) -> Latents:
        """The velocity, from a call of one step: (z - f(z)) / s."""
        level = max(level, SMALLEST)
        return (x - self._run(x, (level,), conditioning, ExactEuler())) / level

    def rows(self, conditioning: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
        """The conditioning of some pictures: of every tensor and list, these entries."""
        chosen = rows.tolist()

        def some(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[rows.to(value.device)]
            return [value[i] for i in chosen] if isinstance(value, list) else value

        return {name: some(value) for name, value in conditioning.items()}

    def _run(
        self,
        latents: Latents,
        sigmas: Sequence[float],
        conditioning: Mapping[str, Any],
        scheduler: "ExactEuler",
    ) -> Latents:
        with _scheduler(self.pipeline, scheduler), self._counting():
            out = self.pipeline(
                latents=latents.to(self.pipeline._execution_device),
                sigmas=list(sigmas),
                num_inference_steps=len(sigmas),
                output_type="latent",
                return_dict=False,
                **conditioning,
            )[0]
        return out.float().cpu()

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count the denoiser's calls, pictures and guidance included."""

        def count(*arguments: Any) -> None:
            sample = arguments[-1]
            first = sample[0] if isinstance(sample, (tuple, list)) else sample.sample
            self.calls += len(first)

        hook = self.pipeline.transformer.register_forward_hook(count)
        try:
            yield
        finally:
            hook.remove()


class ExactEuler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's method on the noise levels as they are given, without a shift of its own."""

    extras: dict[str, Any]

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        """``sigmas``, and 0 after them; what else the pipeline passes is remembered."""
        levels = torch.tensor(sigmas, dtype=torch.float32, device=device)
        self.extras = {} if mu is None else {"mu": mu}
        self.num_inference_steps = len(levels)
        self.timesteps = levels * self.config.num_train_timesteps
        self.sigmas = torch.cat([levels, torch.zeros(1, device=device)])
        self._step_index = self._begin_index = None


@contextmanager
def _scheduler(pipeline: DiffusionPipeline, scheduler: ExactEuler) -> Iterator[None]:
    own = pipeline.scheduler
    pipeline.scheduler = scheduler
    try:
        yield
    finally:
        pipeline.scheduler = own


def check_flow(pipeline: DiffusionPipeline) -> None:
    """Raise ``ModelError`` unless the pipeline can serve as f; the message gives the reason."""
    name = type(pipeline).__name__
    known = inspect.signature(pipeline.__call__).parameters
    missing = [p for p in NEEDED if p not in known]
    if not isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler):
        own = type(pipeline.scheduler).__name__
        reason = f"its scheduler is {own}, not FlowMatchEulerDiscreteScheduler"
    elif missing:
        reason = f"it cannot be called with {' or '.join(missing)}"
    elif "timesteps" in known:
        reason = "it gives its denoiser timesteps apart from the noise levels"
    else:
        return
    raise ModelError(
        f"{name} cannot be used as a flow pipeline: {reason}.", "Use another pipeline."
    )
