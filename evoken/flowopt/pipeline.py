"""Any flow pipeline of diffusers as the black box f, used through its public call alone.

The pipeline is called as anybody calls it, with latents and ``output_type="latent"``; its scheduler
is replaced by one that has the levels of our choice. So it runs any stretch of its process, and a
call of one step tells the velocity.
"""

import copy
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from evoken.arrays import Latents
from evoken.errors import ModelError, reason_of
from evoken.flowopt.sampler import last_levels, rms
from evoken.options import at_least

NEEDED = ("latents", "output_type", "num_inference_steps")
UNFIT = ("stochastic_sampling", "invert_sigmas")  # a scheduler's settings that make it no such f
# Arguments that are of no single picture, and those whose first axis is the encoder's layers.
SHARED = ("cu_seqlens", "skip_guidance_layers", "complex_human_instruction", "tensor_inputs")
LAYERS_FIRST = ("embeds_llama3",)
APART = 0.05  # of a step: what rounding may do to it in half precision
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
                own noise levels and to try a step.
            steps: T, of the whole schedule, as the pipeline's ``num_inference_steps``.
            last: n, how many of the last steps f takes; 0 means all.

        Raises:
            ModelError: the pipeline is no flow, its call lacks what is needed, or it fails.
        """
        check_flow(pipeline)
        at_least("steps", steps, 1)
        self.pipeline, self.calls = pipeline, 0
        pipeline.set_progress_bar_config(disable=True)
        self._schedule = self._own_schedule(conditioning, latents, steps)
        self.levels = last_levels([float(s) for s in self._schedule.sigmas], last)
        self._try(latents, conditioning)
        self.calls = 0

    def _own_schedule(
        self, conditioning: Mapping[str, Any], latents: Latents, steps: int
    ) -> FlowMatchEulerDiscreteScheduler:
        """The pipeline's scheduler with the levels that a plain call of it sets."""
        own = copy.deepcopy(self.pipeline.scheduler)
        set_levels = own.set_timesteps

        @functools.wraps(set_levels)  # pipelines look at its arguments
        def noting(*args: Any, **kwargs: Any) -> None:
            set_levels(*args, **kwargs)
            raise _Set

        own.set_timesteps = noting
        try:
            with self._refused_if("a call failed"):
                self._call(latents, steps, conditioning, own)
        except _Set:
            del own.set_timesteps
            return own
        raise refusal(self.pipeline, "it sets no noise levels")

    def _try(self, latents: Latents, conditioning: Mapping[str, Any]) -> None:
        """Raise ``ModelError`` unless steps work."""
        with self._refused_if("a step failed"):
            found = self._run(latents, self.levels[-2:-1], conditioning)
        if found.shape != latents.shape:
            given, made = (" x ".join(map(str, x.shape)) for x in (latents, found))
            raise refusal(self.pipeline, f"it makes latents of {made} from latents of {given}")
        if len(self.levels) > 2:
            with self._refused_if("a step failed"):
                self._check_steps(latents, conditioning)

    @contextmanager
    def _refused_if(self, what: str) -> Iterator[None]:
        """Make a refusal with a reason of any error within the block."""
        try:
            yield
        except (_Set, ModelError):
            raise
        except Exception as error:
            raise refusal(self.pipeline, f"{what} ({reason_of(error)})") from error

    def _check_steps(self, latents: Latents, conditioning: Mapping[str, Any]) -> None:
        """Raise ``ModelError`` unless two steps are those of Euler's method: guidance with a memory
        or a model that is told where a step ends makes them something else.
        """
        first, second, _ = levels = self.levels[-3:]
        between = latents + (second - first) * self.slope(latents, first, conditioning)
        expected = between - second * self.slope(between, second, conditioning)
        found = self._run(latents, levels[:2], conditioning)
        if not rms(found - expected).le(APART * rms(latents - expected)).all():
            raise refusal(self.pipeline, "its steps are not those of Euler's method")

    def __call__(self, latents: Latents, conditioning: Mapping[str, Any]) -> Latents:
        """One call of the pipeline."""
        return self._run(latents, self.levels[:-1], conditioning)

    def slope(self, x: Latents, level: float, conditioning: Mapping[str, Any]) -> Latents:
        """The velocity: what a call of one step hands to its scheduler. (z - f(z)) / s is the same,
        but in half precision little is left of that difference at low levels.
        """
        scheduler = ChosenLevels.of(self._schedule, (level or SMALLEST,))
        self._call(x, 1, conditioning, scheduler)
        found: Latents = scheduler.velocity.float().cpu()
        return found

    def rows(self, conditioning: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
        """The conditioning of some pictures: of every tensor and list, these entries, but for what
        all pictures share.
        """
        chosen = rows.tolist()

        def some(name: str, value: Any) -> Any:
            if name.endswith(SHARED):
                return value
            if isinstance(value, Tensor):
                axis = 1 if name.endswith(LAYERS_FIRST) else 0
                return value.index_select(axis, rows.to(value.device))
            return [value[i] for i in chosen] if isinstance(value, list) else value

        return {name: some(name, value) for name, value in conditioning.items()}

    def _run(
        self, latents: Latents, levels: Sequence[float], conditioning: Mapping[str, Any]
    ) -> Latents:
        """From the first of these levels down to 0."""
        scheduler = ChosenLevels.of(self._schedule, levels)
        return self._call(latents, len(levels), conditioning, scheduler)

    def _call(
        self,
        latents: Latents,
        steps: int,
        conditioning: Mapping[str, Any],
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> Latents:
        with _scheduler(self.pipeline, scheduler), self._counting():
            out = self.pipeline(
                latents=latents.to(self.pipeline._execution_device),
                num_inference_steps=steps,
                output_type="latent",
                return_dict=False,
                **conditioning,
            )[0]
        found: Latents = out.float().cpu()
        return found

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count the denoiser's calls, pictures and guidance included."""

        def count(*arguments: Any) -> None:
            sample = arguments[-1]
            first = sample[0] if isinstance(sample, (tuple, list)) else sample.sample
            self.calls += len(first)

        parts = self.pipeline.components.items()
        denoisers = [part for name, part in parts if "transformer" in name and part is not None]
        hooks = [part.register_forward_hook(count) for part in denoisers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class _Set(Exception):  # noqa: N818  # no error: the levels are known
    """The pipeline has set its noise levels."""


class ChosenLevels(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's method on chosen noise levels, whatever a pipeline asks for.

    Attributes:
        velocity: of the last step.
    """

    velocity: Tensor

    @classmethod
    def of(cls, own: FlowMatchEulerDiscreteScheduler, levels: Sequence[float]) -> "ChosenLevels":
        """These levels, and 0 after them.

        Args:
            own: a pipeline's scheduler that has set its own; it knows the time that the denoiser is
                told at a level.
        """
        made: ChosenLevels = cls.from_config(own.config)
        known = [float(s) for s in own.sigmas]
        times = [*(float(t) for t in own.timesteps), 0.0][: len(known)]
        made._levels = [*levels, 0.0]
        # Between the pipeline's own levels times are in proportion, and above them as well.
        made._times = [
            float(np.interp(level, known[::-1], times[::-1])) * max(1.0, level / known[0])
            for level in levels
        ]
        return made

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The same: some pipelines ask every scheduler but the class that this one comes from."""
        return sample

    def step(self, model_output: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As Euler's method does it; the velocity is kept."""
        self.velocity = model_output
        return super().step(model_output, *args, **kwargs)

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
def _scheduler(
    pipeline: DiffusionPipeline, scheduler: FlowMatchEulerDiscreteScheduler
) -> Iterator[None]:
    own = pipeline.scheduler
    pipeline.scheduler = scheduler
    try:
        yield
    finally:
        pipeline.scheduler = own


def check_flow(pipeline: DiffusionPipeline) -> None:
    """Raise ``ModelError`` unless the pipeline can serve as f as far as one can tell without
    calling it; the message gives the reason.
    """
    known = inspect.signature(pipeline.__call__).parameters
    missing = [p for p in NEEDED if p not in known]
    if not isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler):
        own = type(pipeline.scheduler).__name__
        raise refusal(pipeline, f"its scheduler is {own}, not FlowMatchEulerDiscreteScheduler")
    if missing:
        raise refusal(pipeline, f"it cannot be called with {' or '.join(missing)}")
    if getattr(pipeline, "transformer", None) is None:
        raise refusal(pipeline, "it has no transformer")
    for name in UNFIT:
        if pipeline.scheduler.config.get(name):
            raise refusal(pipeline, f"its scheduler has {name}")


def refusal(pipeline: DiffusionPipeline, reason: str) -> ModelError:
    """That a pipeline is none for FlowOpt, and why."""
    name = type(pipeline).__name__
    return ModelError(
        f"{name} cannot be used as a flow pipeline: {reason}.", "Use another pipeline."
    )
