"""Qwen-Image, and every model of the same classes."""

from functools import cached_property

from torch import Tensor

from evoken.arrays import Hidden, Latents
from evoken.libraries import diffusers
from evoken.models.bases import QWEN_IMAGE
from evoken.models.families.flow import Transformer
from evoken.models.families.flux import PATCH, pack, unpack
from evoken.models.families.prompted import PromptedFlow
from evoken.models.language import Form
from evoken.spec import ModelSpec

TOKENS = 512  # of a prompt, as the pipeline's ``max_sequence_length``


class _Transformer(Transformer):
    """The denoiser as a function of tensors; latents go in and come out unpacked."""

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        count, _, height, width = latents.shape
        out: Tensor = self.transformer(
            hidden_states=pack(latents),
            timestep=timestep / 1000,
            encoder_hidden_states=hidden,
            img_shapes=[[(1, height // PATCH, width // PATCH)]] * count,
        ).sample
        return unpack(out, height, width)


class QwenImage(PromptedFlow):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    A prompt is part of an instruction to describe a picture, of which the denoiser reads what comes
    after the system's message.
    """

    architecture = QWEN_IMAGE.architecture

    def __init__(self, pipeline: diffusers.QwenImagePipeline, spec: ModelSpec) -> None:
        skipped = pipeline.prompt_template_encode_start_idx
        room = skipped + min(TOKENS, pipeline.tokenizer.model_max_length)
        form = Form(pipeline.prompt_template_encode.format, room, skipped=skipped)
        transformer = pipeline.transformer
        super().__init__(
            pipeline,
            _Transformer(transformer),
            spec,
            QWEN_IMAGE,
            form,
            width=transformer.config.joint_attention_dim,
            side=pipeline.default_sample_size,
            patch=PATCH,
        )

    @cached_property
    def _unconditional(self) -> Hidden:
        """What the pipeline is given where there is nothing to avoid: a space."""
        return self.condition_negative([" "])

    def _pushed(self, without: Latents, with_prompt: Latents, guidance: float) -> Latents:
        """Every token of the guided prediction is as long as that for the prompt."""
        found, plain = pack(super()._pushed(without, with_prompt, guidance)), pack(with_prompt)
        lengths = plain.norm(dim=-1, keepdim=True) / found.norm(dim=-1, keepdim=True)
        return unpack(found * lengths, *without.shape[-2:])
