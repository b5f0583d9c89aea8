"""FLUX.2 [klein] in both sizes, base and distilled, and FLUX.2 [dev]."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from evoken.arrays import Hidden, Latents, NoiseLevels
from evoken.errors import SettingError
from evoken.libraries import diffusers
from evoken.models.bases import FLUX_2_DEV, KLEIN_4B, Base
from evoken.models.families.flow import ReadsGuidance, Transformer
from evoken.models.families.prompted import PromptedFlow
from evoken.models.language import Form, chat
from evoken.spec import ModelSpec

KLEIN_LAYERS, DEV_LAYERS = (9, 18, 27), (10, 20, 30)  # the defaults of the pipelines' calls


class _Transformer(Transformer):
    """The denoiser as a function of tensors; latents go in and come out as pictures."""

    def forward(
        self, latents: Tensor, timestep: Tensor, hidden: Tensor, guidance: Tensor | None = None
    ) -> Tensor:
        _, _, height, width = latents.shape
        out: Tensor = self.transformer(
            hidden_states=latents.flatten(2).transpose(1, 2),
            timestep=timestep / 1000,
            encoder_hidden_states=hidden,
            guidance=guidance,
            txt_ids=_places(1, 1, hidden.shape[1]).to(hidden),
            img_ids=_places(height, width, 1).to(latents),
        ).sample
        return out.transpose(1, 2).unflatten(2, (height, width))


def _places(height: int, width: int, length: int) -> Tensor:
    """Token x 4: a zero, row, column, and place in the prompt."""
    return torch.cartesian_prod(*(torch.arange(n) for n in (1, height, width, length)))


class _Flux2(PromptedFlow):
    """What both pipelines share: every prompt is as long as the longest, filled up with padding,
    whose states the denoiser reads as well.
    """

    def __init__(
        self,
        pipeline: Any,
        spec: ModelSpec,
        base: Base,
        write: Callable[[str], str],
        layers: Sequence[int],
    ) -> None:
        room = min(pipeline.tokenizer_max_length, pipeline.tokenizer.model_max_length)
        super().__init__(
            pipeline,
            _Transformer(pipeline.transformer),
            spec,
            base,
            Form(write, room, padding=room),
            layers=layers,
            width=pipeline.transformer.config.joint_attention_dim,
            side=pipeline.default_sample_size // 2,  # in squares, as the autoencoder makes them
            patch=1,
        )

    def _shift(self, config: Any, tokens: int, steps: int) -> float:
        """The pipelines' own fit, which also depends on the number of steps."""
        return diffusers.pipelines.flux2.pipeline_flux2.compute_empirical_mu(tokens, steps)


class Flux2Klein(_Flux2):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    The distilled models know no guidance, and take no notice of it.
    """

    architecture = KLEIN_4B.architecture

    def __init__(self, pipeline: diffusers.Flux2KleinPipeline, spec: ModelSpec) -> None:
        write = chat(pipeline.tokenizer, add_generation_prompt=True, enable_thinking=False)
        super().__init__(pipeline, spec, KLEIN_4B, write, KLEIN_LAYERS)
        self._distilled = bool(pipeline.config.is_distilled)
        self.guidance_calls = 1 if self._distilled else 2

    def guided(
        self,
        latents: Latents,
        t: NoiseLevels,
        hidden: Hidden,
        guidance: float,
        negative: Hidden | None = None,
    ) -> Latents:
        """The velocity, with true guidance unless the model is distilled.

        Raises:
            SettingError: a negative prompt, which a distilled model has no use for.
        """
        if not self._distilled:
            return super().guided(latents, t, hidden, guidance, negative)
        if negative is not None:
            raise SettingError(
                "this model is distilled and reads no `negative` prompt.", "Leave out `negative`."
            )
        return self.denoise(latents, t, hidden)


class Flux2Dev(ReadsGuidance, _Flux2):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``."""

    architecture = FLUX_2_DEV.architecture

    def __init__(self, pipeline: diffusers.Flux2Pipeline, spec: ModelSpec) -> None:
        said = chat(pipeline.tokenizer, pipeline.system_message)
        super().__init__(
            pipeline,
            spec,
            FLUX_2_DEV,
            lambda prompt: said(prompt.replace("[IMG]", "")),  # which would ask for a picture
            DEV_LAYERS,
        )

    def _told(self, latents: Latents, t: NoiseLevels, hidden: Hidden, guidance: float) -> Latents:
        return self._each_length(latents, self.process.timestep(t), hidden, guidance)
