"""Chroma, and every model of the same classes."""

from torch import Tensor

from evoken.libraries import diffusers
from evoken.models.bases import CHROMA
from evoken.models.families.flow import Transformer
from evoken.models.families.flux import PATCH, T5_TOKENS, pack, positions, unpack
from evoken.models.families.prompted import PromptedFlow
from evoken.models.language import Form
from evoken.spec import ModelSpec


class _Transformer(Transformer):
    """The denoiser as a function of tensors; latents go in and come out unpacked."""

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        _, _, height, width = latents.shape
        out: Tensor = self.transformer(
            hidden_states=pack(latents),
            timestep=timestep / 1000,
            encoder_hidden_states=hidden,
            txt_ids=hidden.new_zeros(hidden.shape[1], 3),
            img_ids=positions(height // PATCH, width // PATCH).to(latents),
        ).sample
        return unpack(out, height, width)


class Chroma(PromptedFlow):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    Made from FLUX.1 [schnell], but it reads T5 alone, with true guidance; of the padding behind a
    prompt it reads the first token.

    Differs: the masks that the pipeline's call makes are numbers, which attention adds, so that all
    padding is read a little (https://github.com/huggingface/diffusers/issues/13619).
    """

    architecture = CHROMA.architecture

    def __init__(self, pipeline: diffusers.ChromaPipeline, spec: ModelSpec) -> None:
        room = min(T5_TOKENS, pipeline.tokenizer.model_max_length)
        super().__init__(
            pipeline,
            _Transformer(pipeline.transformer),
            spec,
            CHROMA,
            Form(str, room, padding=1),
            width=pipeline.transformer.config.joint_attention_dim,
            side=pipeline.default_sample_size,
            patch=PATCH,
        )
