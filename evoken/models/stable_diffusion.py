"""Stable Diffusion 1.x and 2.x, and every model of the same classes (the sticker models too)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import is_accelerate_available
from torch import Tensor, nn

from evoken.arrays import Hidden, Images, Latents, NoiseLevels, Vectors
from evoken.errors import ModelError, WordError
from evoken.models.base import ModelSpec, Vocabulary
from evoken.models.batches import in_batches
from evoken.process import from_betas


class StableDiffusion:
    """A ``Model`` made of a diffusers pipeline's parts. See ``evoken.models.base.Model``."""

    def __init__(self, pipeline: StableDiffusionPipeline, spec: ModelSpec) -> None:
        self.spec, self.calls = spec, 0
        self.device = torch.device(spec.device)
        self.tokenizer, self.scheduler = pipeline.tokenizer, pipeline.scheduler
        for part in (pipeline.text_encoder, pipeline.vae, pipeline.unet):
            part.to(self.device).eval().requires_grad_(False)
        self.text_encoder, self.vae, self.unet = (
            pipeline.text_encoder,
            pipeline.vae,
            pipeline.unet,
        )
        betas = DPMSolverMultistepScheduler.from_config(self.scheduler.config).betas
        self.process = from_betas(betas, self.scheduler.config.prediction_type)

    @property
    def size(self) -> int:
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return int(self.unet.config.sample_size * factor)

    @cached_property
    def _table(self) -> nn.Embedding:
        return self.text_encoder.get_input_embeddings()

    @property
    def width(self) -> int:
        return int(self._table.weight.shape[1])

    def vocabulary(self) -> Vocabulary:
        """Tokens that end a word and are written in letters: bytes, word pieces and signs hardly
        occur alone in captions, and their embeddings mean little.

        Differs: the paper's Eq. 4 takes every token.
        """
        found = {
            token.removesuffix("</w>"): i
            for token, i in self.tokenizer.get_vocab().items()
            if token.endswith("</w>") and len(token) > 6 and token.removesuffix("</w>").isalpha()
        }
        words = tuple(sorted(found))
        ids = torch.tensor([found[w] for w in words], device=self.device)
        return Vocabulary(words, self._table.weight[ids].detach().clone())

    def embed(self, phrase: str) -> Vectors:
        ids = self._ids(phrase)
        if not ids:
            raise WordError("a word or phrase to start from", repr(phrase), "Give a word.")
        return self._table.weight[torch.tensor(ids, device=self.device)].detach()

    def has_token(self, placeholder: str) -> bool:
        vocabulary = self.tokenizer.get_vocab()
        return any(p in vocabulary for p in (placeholder, placeholder.lower() + "</w>"))

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        found = in_batches(
            lambda x: self.vae.encode(x).latent_dist.mode(),
            self.spec.batch,
            images.to(self.device),
        )
        return found.clone() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        found = in_batches(
            lambda x: self.vae.decode(x).sample,
            self.spec.batch,
            latents / self.vae.config.scaling_factor,
        )
        return found.clamp(-1, 1)

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False, truncation=False).input_ids
        return [int(i) for i in ids]

    def place(self, prompt: str, placeholder: str, count: int) -> tuple[list[int], list[int]]:
        """Token ids of a prompt, and where in them the word's vectors go.

        The stand-in at those places is the first ordinary token: an id above the end-of-text token
        would move the pooled output of some CLIP text encoders.
        """
        room = self.tokenizer.model_max_length
        ids: list[int] = [self.tokenizer.bos_token_id]
        places: list[int] = []
        for i, piece in enumerate(prompt.split(placeholder) if count else [prompt]):
            if i:
                places += range(len(ids), len(ids) + count)
                ids += [0] * count
            ids += self._ids(piece)
        if places and places[-1] > room - 2:
            raise WordError(f"a prompt of at most {room - 2} tokens",
                            f"{len(ids) - 1} in {prompt!r}",
                            "Shorten it, or put the placeholder earlier.")  # fmt: skip
        ids = [*ids[: room - 1], self.tokenizer.eos_token_id]
        pad = self.tokenizer.pad_token_id
        return ids + [pad] * (room - len(ids)), places

    @torch.no_grad()
    def condition(
        self, prompts: Sequence[str], placeholder: str = "", vectors: Vectors | None = None
    ) -> Hidden:
        count = 0 if vectors is None else vectors.shape[1]
        rows = [self.place(p, placeholder, count) for p in prompts]
        ids = torch.tensor([r for r, _ in rows], device=self.device)
        if vectors is None:
            return self._encode_text(ids, None)
        embedded = self._table(ids).repeat(len(vectors), 1, 1, 1)
        for j, (_, places) in enumerate(rows):
            for k in range(0, len(places), count):
                embedded[:, j, places[k] : places[k] + count] = vectors.to(embedded)
        return self._encode_text(ids.repeat(len(vectors), 1), embedded.flatten(0, 1))

    def _encode_text(self, ids: Tensor, embedded: Tensor | None) -> Hidden:
        def encode(ids: Tensor, *embedded: Tensor) -> Tensor:
            with substituted_embeddings(self._table, *embedded):
                hidden: Tensor = self.text_encoder(ids).last_hidden_state
            return hidden

        inputs = (ids,) if embedded is None else (ids, embedded)
        with self._arithmetic():
            return in_batches(encode, self.spec.batch, *inputs).float()

    def _arithmetic(self) -> torch.autocast:
        low = self.spec.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=low)

    @torch.no_grad()
    def denoise(self, latents: Latents, t: NoiseLevels, hidden: Hidden) -> Latents:
        self.calls += len(latents)
        timestep = self.process.timestep(t).to(self.device)
        with self._arithmetic():
            found = in_batches(
                lambda *x: self.unet(*x).sample, self.spec.batch, latents, timestep, hidden
            )
        return found.float()

    def noise(self, seeds: Sequence[int]) -> Latents:
        side = self.unet.config.sample_size
        shape = (1, self.unet.config.in_channels, side, side)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.cat(rows).to(self.device)

    @torch.no_grad()
    def generate(
        self, hidden: Hidden, seeds: Sequence[int], steps: int = 25, guidance: float = 5.0
    ) -> Images:
        """DPM-Solver++ 2M (Lu et al. 2022) on the model's own schedule."""
        scheduler: Any = DPMSolverMultistepScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        unconditional = self.condition([""]).expand(len(hidden), -1, -1)
        both = torch.cat([unconditional, hidden])
        latents = self.noise(seeds) * scheduler.init_noise_sigma
        levels = len(self.process.alphas_cumprod)
        for timestep in scheduler.timesteps:
            inputs = scheduler.scale_model_input(latents, timestep).repeat(2, 1, 1, 1)
            t = torch.full((len(inputs),), (float(timestep) + 0.5) / levels)
            without, with_prompt = self.denoise(inputs, t, both).chunk(2)
            predicted = without + guidance * (with_prompt - without)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        return self.decode(latents)


@contextmanager
def substituted_embeddings(table: nn.Embedding, embedded: Tensor | None = None) -> Iterator[None]:
    """Within the block, the embedding layer returns ``embedded`` instead of looking ids up. This is
    how vectors become arguments of encoders that take ids only.
    """
    if embedded is None:
        yield
        return
    hook = table.register_forward_hook(lambda *_: embedded)
    try:
        yield
    finally:
        hook.remove()


def load_stable_diffusion(path: str, spec: ModelSpec) -> StableDiffusion:
    """Load from a folder or the hub; safetensors only.

    Raises:
        ModelError: not found, not of this family, or only there as pickles.
    """
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            path,
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
            dtype=torch.float32,
            low_cpu_mem_usage=is_accelerate_available(),  # else diffusers complains of its absence
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            "'stickers', a folder, or a hub id of a Stable Diffusion 1.x or 2.x model",
            f"{spec.name!r} ({str(error).strip().splitlines()[0][:200]})",
            "Check the name, and that its weights are safetensors.",
        ) from error
    return StableDiffusion(pipeline, spec)
