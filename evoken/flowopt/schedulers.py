"""Schedulers of diffusers' flow pipelines: on levels of our choice, and with their steps noted."""

import functools
import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evoken.libraries import diffusers


@dataclass(frozen=True)
class SchedulerStep:
    """One step of a scheduler, in the layout and the precision that the pipeline has there."""

    sample: Tensor
    velocity: Tensor
    result: Tensor


Steps = deque[SchedulerStep]


def levels_of(scheduler: diffusers.FlowMatchEulerDiscreteScheduler) -> list[float]:
    """The noise levels that a scheduler has set, from the first down to the last."""
    sigmas = [float(s) for s in scheduler.sigmas]
    return [1 - s for s in sigmas] if scheduler.config.get("invert_sigmas") else sigmas


class ChosenLevels(diffusers.FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's method on chosen noise levels, whatever a pipeline asks for."""

    @classmethod
    def of(
        cls, own: diffusers.FlowMatchEulerDiscreteScheduler, levels: Sequence[float]
    ) -> "ChosenLevels":
        """These levels; the last is where the last step ends.

        Args:
            own: a pipeline's scheduler that has set its own; it knows the time that the denoiser is
                told at a level.
        """
        known = inspect.signature(diffusers.FlowMatchEulerDiscreteScheduler.__init__).parameters
        made = cls(**{name: value for name, value in own.config.items() if name in known})
        made.register_to_config(**own.config)  # with what pipelines add to it
        inverted = bool(own.config.get("invert_sigmas"))
        end = float(own.config.num_train_timesteps) if inverted else 0.0
        its_own, times = levels_of(own), [*(float(t) for t in own.timesteps), end]
        made._levels = [1 - level for level in levels] if inverted else list(levels)
        # Between the pipeline's own levels times are in proportion.
        made._times = [float(np.interp(level, its_own[::-1], times[::-1])) for level in levels[:-1]]
        return made

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The same: some pipelines ask every scheduler but the class that this one comes from."""
        return sample

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        """The chosen levels; the arguments say something else, and are not heard."""
        self.sigmas = torch.tensor(self._levels, dtype=torch.float32, device=device)
        self.timesteps = torch.tensor(self._times, dtype=torch.float32, device=device)
        self.num_inference_steps = len(self.timesteps)
        self._step_index = self._begin_index = None


@contextmanager
def with_scheduler(
    pipeline: diffusers.DiffusionPipeline, scheduler: diffusers.FlowMatchEulerDiscreteScheduler
) -> Iterator[None]:
    """A pipeline has this scheduler within the block."""
    own = pipeline.scheduler
    pipeline.scheduler = scheduler
    try:
        yield
    finally:
        pipeline.scheduler = own


@contextmanager
def noting(
    scheduler: diffusers.FlowMatchEulerDiscreteScheduler, most: int | None
) -> Iterator[Steps]:
    """Note the last steps that a scheduler takes within the block; all by default."""
    noted, step = Steps(maxlen=most), scheduler.step

    @functools.wraps(step)  # pipelines look at its arguments
    def noted_step(
        model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        out = step(model_output, timestep, sample, *args, **kwargs)
        result = out[0] if isinstance(out, tuple) else out.prev_sample
        noted.append(SchedulerStep(sample, model_output, result))
        return out

    scheduler.step = noted_step
    try:
        yield noted
    finally:
        del scheduler.step
