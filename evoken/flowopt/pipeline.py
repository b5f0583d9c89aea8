"""Any flow pipeline of diffusers as the black box f, used through its public call alone.

The pipeline is called as anybody calls it, with latents and ``output_type="latent"``; its scheduler
is replaced by one that has the levels of our choice and notes its steps. So it runs any stretch of
its process, and a call of one step tells the velocity.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from evoken.arrays import Latents
from evoken.errors import ModelError, reason_of
from evoken.flowopt.sampler import last_levels, rms
from evoken.flowopt.schedulers import (
    ChosenLevels,
    SchedulerStep,
    Steps,
    levels_of,
    noting,
    with_scheduler,
)
from evoken.libraries import diffusers
from evoken.options import at_least

NEEDED = ("latents", "output_type", "num_inference_steps")
# Arguments that are of no single picture, and those whose first axis is the encoder's layers.
SHARED = ("cu_seqlens", "skip_guidance_layers", "complex_human_instruction", "tensor_inputs")
LAYERS_FIRST = ("embeds_llama3",)
APART = 0.01  # of its size: how far what has to be the same may be apart, by rounding
SMALLEST = 1e-3  # stands for level 0, where a call has no step to take


class PipelineSampler:
    """f on a pipeline of diffusers. See ``evoken.flowopt.sampler.Sampler``.

    Conditionings are keyword arguments of the pipeline's call: prompts or their embeddings, and the
    scale of guidance under the pipeline's own name for it. Latents have the layout of the call's
    argument; f's result has it as well, and is what the last step gives: some pipelines undo the
    autoencoder's normalisation before they return it.
    """

    def __init__(
        self,
        pipeline: diffusers.DiffusionPipeline,
        conditioning: Mapping[str, Any],
        latents: Latents,
        steps: int = 10,
        last: int = 0,
    ) -> None:
        """
        Args:
            conditioning, latents: an example of what f will be called with; the pipeline gets all
                latents in its precision. A plain call with its first picture gives the pipeline's
                own noise levels; then f and every single step are compared with it.
            steps: T, of the whole schedule, as the pipeline's ``num_inference_steps``.
            last: n, how many of the last steps f takes; 0 means all.

        Raises:
            ModelError: the pipeline is no flow, its call lacks what is needed, or it fails; or its
                steps depend on more than latents, level and conditioning.
        """
        check_flow(pipeline)
        at_least("steps", steps, 1)
        last_levels(range(steps + 1), last)
        self.pipeline, self.calls = pipeline, 0
        self._size, self._dtype, self._packs = latents.shape[2:], latents.dtype, False
        pipeline.set_progress_bar_config(disable=True)
        with self._refused_if("a call failed"):
            example = self.rows(conditioning, torch.tensor([0]))
            self._schedule = copy.deepcopy(pipeline.scheduler)
            plain = self._call(latents[:1], steps, example, self._schedule)
        self.levels = last_levels(levels_of(self._schedule), last)
        self.start_scale = 1.0 / self._scale(latents[:1], plain[0].sample)
        with self._refused_if("a step failed"):
            self._compare(list(plain)[-len(self.levels) + 1 :], example)
        self.calls = 0

    @contextmanager
    def _refused_if(self, what: str) -> Iterator[None]:
        """Make a refusal with a reason of any error within the block."""
        try:
            yield
        except ModelError:
            raise
        except Exception as error:
            raise refusal(self.pipeline, f"{what} ({reason_of(error)})") from error

    def _scale(self, given: Latents, found: Tensor) -> float:
        """What the pipeline multiplies its latents by before the first step: 1 for most.

        Raises:
            ModelError: it does something else with them.
        """
        given = given.float().cpu()
        self._packs = found.shape != given.shape and found.shape == given.flatten(2).mT.shape
        x = self._unpacked(found)
        if x.shape != given.shape:
            was, made = (" x ".join(map(str, each.shape)) for each in (given, x))
            raise refusal(self.pipeline, f"it makes latents of {made} from latents of {was}")
        scale = round(float((x * given).sum() / given.square().sum()), 2)
        if _differ(x, scale * given):
            raise refusal(self.pipeline, "it begins with other latents than it is given")
        return scale

    def _compare(self, plain: Sequence[SchedulerStep], example: Mapping[str, Any]) -> None:
        """Raise ``ModelError`` unless f and calls of one step repeat these steps of a plain call.

        Guidance that changes on the way or has a memory, and a model that is told where a step
        ends, make a step depend on where in the process it is.
        """
        for level, step in zip(self.levels, plain, strict=False):
            x = self._unpacked(step.sample)
            if _differ(self.slope(x, level, example), self._slope_of(step)):
                raise refusal(
                    self.pipeline, "a step on its own is not the same as within the process"
                )
        before, after = (self._unpacked(x) for x in (plain[0].sample, plain[-1].result))
        end = self(before * self.start_scale, example)
        if _differ(end - before, after - before) or any(
            _differ(following.sample - step.sample, step.result - step.sample)
            for step, following in pairwise(plain)
        ):
            raise refusal(self.pipeline, "its steps are not those of Euler's method")

    def __call__(self, latents: Latents, conditioning: Mapping[str, Any]) -> Latents:
        """One call of the pipeline."""
        scheduler = ChosenLevels.of(self._schedule, self.levels)
        steps = self._call(latents, len(self.levels) - 1, conditioning, scheduler, 1)
        return self._unpacked(steps[-1].result)

    def slope(self, x: Latents, level: float, conditioning: Mapping[str, Any]) -> Latents:
        """The velocity: what a call of one step hands to its scheduler. (z - f(z)) / s is the same,
        but in half precision little is left of that difference at low levels.
        """
        scheduler = ChosenLevels.of(self._schedule, (level or SMALLEST, 0.0))
        steps = self._call(x * self.start_scale, 1, conditioning, scheduler, 1)
        return self._slope_of(steps[-1])

    def _slope_of(self, step: SchedulerStep) -> Latents:
        """dx/ds, where a scheduler may count levels the other way round."""
        velocity = self._unpacked(step.velocity)
        return -velocity if self._schedule.config.get("invert_sigmas") else velocity

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

    def _unpacked(self, x: Tensor) -> Latents:
        """In the layout of the pipeline's argument: FLUX.2 makes N x HW x C of N x C x H x W."""
        x = x.float().cpu()
        return x.mT.unflatten(2, self._size) if self._packs else x

    def _call(
        self,
        latents: Latents,
        steps: int,
        conditioning: Mapping[str, Any],
        scheduler: diffusers.FlowMatchEulerDiscreteScheduler,
        most: int | None = None,
    ) -> Steps:
        """The (last) steps of a call."""
        with (
            with_scheduler(self.pipeline, scheduler),
            self._counting(),
            noting(scheduler, most) as noted,
        ):
            self.pipeline(
                latents=latents.to(self.pipeline._execution_device, self._dtype),
                num_inference_steps=steps,
                output_type="latent",
                return_dict=False,
                **conditioning,
            )
        if not noted:
            raise refusal(self.pipeline, "it takes no steps of its scheduler")
        return noted

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


def _differ(found: Tensor, expected: Tensor) -> bool:
    """Whether they differ by more than rounding; what is not finite does."""
    found, expected = found.cpu(), expected.cpu()  # where there are doubles
    return not bool(rms(found - expected).le(APART * rms(expected)).all())


def check_flow(pipeline: diffusers.DiffusionPipeline) -> None:
    """Raise ``ModelError`` unless the pipeline can serve as f as far as one can tell without
    calling it; the message gives the reason.
    """
    known = inspect.signature(pipeline.__call__).parameters
    missing = [p for p in NEEDED if p not in known]
    if not isinstance(pipeline.scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        own = type(pipeline.scheduler).__name__
        raise refusal(pipeline, f"its scheduler is {own}, not FlowMatchEulerDiscreteScheduler")
    if missing:
        raise refusal(pipeline, f"it cannot be called with {' or '.join(missing)}")
    if getattr(pipeline, "transformer", None) is None:
        raise refusal(pipeline, "it has no transformer")
    if pipeline.scheduler.config.get("stochastic_sampling"):
        raise refusal(pipeline, "its scheduler draws noise in every step (stochastic_sampling)")


def refusal(pipeline: diffusers.DiffusionPipeline, reason: str) -> ModelError:
    """That a pipeline is none for FlowOpt, and why."""
    name = type(pipeline).__name__
    return ModelError(
        f"{name} cannot be used as a flow pipeline: {reason}.", "Use another pipeline."
    )
