"""FLUX.1 [dev] and [schnell], and every model of the same classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evoken.arrays import NO_WORDS, Hidden, Latents, NoiseLevels, Words
from evoken.libraries import diffusers
from evoken.models.bases import FLUX
from evoken.models.encoders import TextEncoders
from evoken.models.families.flow import ReadsGuidance, Transformer
from evoken.models.text import T5Encoder, TextEncoder, joined
from evoken.spec import ModelSpec

PATCH = 2  # side of the squares of latents that are packed into one token
T5_TOKENS = 512


class _Transformer(Transformer):
    """The denoiser as a function of tensors; latents go in and come out unpacked."""

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        hidden: Tensor,
        pooled: Tensor,
        guidance: Tensor | None = None,
    ) -> Tensor:
        _, _, height, width = latents.shape
        out: Tensor = self.transformer(
            hidden_states=pack(latents),
            timestep=timestep / 1000,
            encoder_hidden_states=hidden,
            pooled_projections=pooled,
            guidance=guidance,
            txt_ids=hidden.new_zeros(hidden.shape[1], 3),
            img_ids=positions(height // PATCH, width // PATCH).to(latents),
        ).sample
        return unpack(out, height, width)


class Flux(ReadsGuidance):
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``.

    ``Hidden`` here holds T5's tokens and, as its last row, CLIP's pooled prompt. A word lives in
    CLIP alone unless the spec says otherwise: other programs know no words in T5.

    [schnell] knows no guidance, and takes no notice of it.
    """

    architecture = FLUX.architecture

    def __init__(
        self, pipeline: diffusers.FluxPipeline, spec: ModelSpec, t5_tokens: int = T5_TOKENS
    ) -> None:
        """
        Args:
            t5_tokens: length of T5's part of the prompt, as the pipeline's ``max_sequence_length``;
                no more than its tokenizer says that it can read.
        """
        room = min(t5_tokens, pipeline.tokenizer_2.model_max_length)
        encoders = {
            "clip_l": TextEncoder(pipeline.text_encoder, pipeline.tokenizer, spec, summary=True),
            "t5xxl": T5Encoder(pipeline.text_encoder_2, pipeline.tokenizer_2, spec, room),
        }
        texts = TextEncoders(encoders, spec.encoders, ("clip_l",))
        function, side = _Transformer(pipeline.transformer), pipeline.default_sample_size
        super().__init__(pipeline, function, texts, spec, side, PATCH, from_one=True)

    def condition(self, prompts: Sequence[str], words: Words = NO_WORDS) -> Hidden:
        """Tokens and pooled prompt, as ``FluxPipeline.encode_prompt`` puts them."""
        reads = {"clip_l": lambda out: out.pooler_output[:, None], "t5xxl": lambda out: out[0]}
        found = self.texts.encode(prompts, words, reads)
        return joined(found["t5xxl"], found["clip_l"])

    @torch.no_grad()
    def _told(self, latents: Latents, t: NoiseLevels, hidden: Hidden, guidance: float) -> Latents:
        config = self.denoiser.config
        inputs = [
            latents,
            self.process.timestep(t),
            hidden[:, :-1, : config.joint_attention_dim],
            hidden[:, -1, : config.pooled_projection_dim],
        ]
        if config.guidance_embeds:
            inputs.append(torch.full((len(latents),), guidance))
        return self._denoise(*inputs)


def pack(latents: Latents) -> Tensor:
    """N x C x h x w to N x (h / 2 * w / 2) x 4 C: every square of 2 x 2 is one token."""
    count, channels, height, width = latents.shape
    squares = latents.reshape(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(packed: Tensor, height: int, width: int) -> Latents:
    """The inverse of ``pack``, for latents of this height and width."""
    count, _, channels = packed.shape
    shape = (count, height // PATCH, width // PATCH, channels // PATCH**2, PATCH, PATCH)
    return packed.reshape(shape).permute(0, 3, 1, 4, 2, 5).reshape(count, -1, height, width)


def positions(rows: int, columns: int) -> Tensor:
    """(rows * columns) x 3: a zero, the row and the column of every token."""
    zeros = torch.zeros(rows, columns)
    row = zeros + torch.arange(rows)[:, None]
    column = zeros + torch.arange(columns)
    return torch.stack([zeros, row, column], 2).flatten(0, 1)
