"""Lumina Image 2.0, and every model of the same classes."""

from typing import Any

from torch import Tensor

from evoken.arrays import Latents
from evoken.libraries import diffusers
from evoken.models.bases import LUMINA_2
from evoken.models.families.flow import Transformer
from evoken.models.families.prompted import PromptedFlow
from evoken.models.language import Form
from evoken.spec import ModelSpec

TOKENS = 256  # of a prompt, as the pipeline's ``max_sequence_length``


class _Transformer(Transformer):
    """The denoiser as a function of tensors. Its own time runs from noise to data, and it predicts
    the velocity of that.
    """

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        out: Tensor = self.transformer(
            hidden_states=latents,
            timestep=1 - timestep / 1000,
            encoder_hidden_states=hidden,
            encoder_attention_mask=hidden.new_ones(hidden.shape[:2]).bool(),
        ).sample
        return -out


class Lumina2(PromptedFlow):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    A prompt comes after the pipeline's own instruction, a negative prompt without.
    """

    architecture = LUMINA_2.architecture

    def __init__(self, pipeline: diffusers.Lumina2Pipeline, spec: ModelSpec) -> None:
        room = min(TOKENS, pipeline.tokenizer.model_max_length)
        before = f"{pipeline.system_prompt} <Prompt Start> "
        config = pipeline.transformer.config
        super().__init__(
            pipeline,
            _Transformer(pipeline.transformer),
            spec,
            LUMINA_2,
            Form(lambda prompt: before + prompt, room),
            layers=(-2,),
            negative=Form(str, room),
            width=config.cap_feat_dim,
            side=config.sample_size,
            patch=config.patch_size,
        )

    def _shift(self, config: Any, tokens: int, steps: int) -> float:
        """Differs: the pipeline counts the channels of latents where others count tokens."""
        return super()._shift(config, self.autoencoder.channels, steps)

    def _pushed(self, without: Latents, with_prompt: Latents, guidance: float) -> Latents:
        """Every row of the guided prediction is as long as that for the prompt: what the pipeline
        calls ``cfg_normalization``.
        """
        found = super()._pushed(without, with_prompt, guidance)
        return found * (with_prompt.norm(dim=-1, keepdim=True) / found.norm(dim=-1, keepdim=True))
