"""SANA, and every model of the same classes."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evoken.arrays import Hidden, Images
from evoken.errors import ModelError
from evoken.libraries import diffusers
from evoken.models.bases import SANA
from evoken.models.families.flow import Transformer
from evoken.models.families.prompted import PromptedFlow
from evoken.models.families.solver import dpm_solver
from evoken.models.language import Form
from evoken.models.sampling import GUIDANCE, STEPS
from evoken.spec import ModelSpec

TOKENS = 300  # of a prompt, as the pipeline's ``max_sequence_length``


class _Transformer(Transformer):
    """The denoiser as a function of tensors."""

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        out: Tensor = self.transformer(
            latents,
            encoder_hidden_states=hidden,
            timestep=timestep * self.transformer.config.timestep_scale,
        ).sample
        return out[:, : latents.shape[1]]  # some predict a variance, too


class Sana(PromptedFlow):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    A prompt comes after an instruction to enhance it, which is the default of the pipeline's call;
    of that, the denoiser reads the first token and what follows from the last one on. A negative
    prompt comes without. Both are read in small letters.
    """

    architecture = SANA.architecture

    def __init__(self, pipeline: diffusers.SanaPipeline, spec: ModelSpec) -> None:
        call = inspect.signature(diffusers.SanaPipeline.__call__).parameters
        before = "\n".join(call["complex_human_instruction"].default)
        around = len(pipeline.tokenizer(before, verbose=False).input_ids)
        room = min(TOKENS, pipeline.tokenizer.model_max_length)
        # As ``SanaPipeline.encode_prompt`` counts: section 3.1 of Xie et al. 2024.
        form = Form(
            lambda prompt: before + prompt.lower().strip(),
            around + room - 2,
            first=1,
            skipped=around - 1,
        )
        config = pipeline.transformer.config
        super().__init__(
            pipeline,
            _Transformer(pipeline.transformer),
            spec,
            SANA,
            form,
            negative=Form(lambda prompt: prompt.lower().strip(), room),
            width=config.caption_channels,
            side=config.sample_size,
            patch=config.patch_size,
            from_one=False,
        )
        self._solves = isinstance(self.scheduler, diffusers.DPMSolverMultistepScheduler)
        own = self.scheduler.config
        if self._solves and not (own.use_flow_sigmas and own.prediction_type == "flow_prediction"):
            raise ModelError(
                "the model's scheduler must be one of a flow (got DPMSolverMultistepScheduler "
                "without use_flow_sigmas).",
                "Use another copy of the model.",
            )

    def schedule(self, steps: int) -> list[float]:
        """The scheduler's own noise levels."""
        if not self._solves:
            return super().schedule(steps)
        return [float(s) for s in self._solver(steps).sigmas]

    def _solver(self, steps: int) -> Any:
        scheduler = dpm_solver(self.scheduler)
        scheduler.set_timesteps(steps)
        return scheduler

    @torch.no_grad()
    def generate(
        self,
        hidden: Hidden,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        negative: Hidden | None = None,
    ) -> Images:
        """With the model's own scheduler: mostly DPM-Solver++ (Lu et al. 2022) on a flow."""
        if not self._solves:
            return super().generate(hidden, seeds, steps, guidance, negative)
        latents, scheduler = self.noise(seeds), self._solver(steps)
        for timestep in scheduler.timesteps:
            t = torch.full((len(hidden),), float(timestep) / scheduler.config.num_train_timesteps)
            predicted = self.guided(latents, t, hidden, guidance, negative)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        return self.decode(latents)
