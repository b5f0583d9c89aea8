"""Z-Image and Z-Image-Turbo, and every model of the same classes."""

from torch import Tensor, stack

from evoken.libraries import diffusers
from evoken.models.bases import Z_IMAGE
from evoken.models.families.flow import Transformer
from evoken.models.families.prompted import PromptedFlow
from evoken.models.language import Form, chat
from evoken.spec import ModelSpec

TOKENS = 512  # of a prompt, as the pipeline's ``max_sequence_length``
SIZE, PATCH = 1024, 2  # px of a picture that the pipeline draws unasked; latents of a token, a side


class _Transformer(Transformer):
    """The denoiser as a function of tensors. Its own time runs from noise to data, and it predicts
    the velocity of that.
    """

    def forward(self, latents: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        frames = list(latents[:, :, None].unbind())
        out = self.transformer(frames, (1000 - timestep) / 1000, list(hidden.unbind())).sample
        return -stack(out)[:, :, 0]


class ZImage(PromptedFlow):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    Guidance is counted from 1, which means none, as everywhere here: the pipeline's own
    ``guidance_scale`` is one less.
    """

    architecture = Z_IMAGE.architecture

    def __init__(self, pipeline: diffusers.ZImagePipeline, spec: ModelSpec) -> None:
        room = min(TOKENS, pipeline.tokenizer.model_max_length)
        write = chat(pipeline.tokenizer, add_generation_prompt=True, enable_thinking=True)
        transformer = pipeline.transformer
        super().__init__(
            pipeline,
            _Transformer(transformer),
            spec,
            Z_IMAGE,
            Form(write, room),
            layers=(-2,),
            width=transformer.config.cap_feat_dim,
            side=SIZE // pipeline.vae_scale_factor,
            patch=PATCH,
        )
