"""How good a candidate word is, by forward passes alone.

All candidates of a generation see the same draws (common random numbers): the same images,
sentences, noise levels and noise. Without that, differences of losses are mostly luck.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evoken.arrays import Hidden, Images, Latents, Losses, Masks, NoiseLevels, Vectors
from evoken.evaluation.chunks import Chunk, Evaluation, Objective, ranges
from evoken.models.base import Model
from evoken.models.batches import SHARE, UNIT, one_thread_each
from evoken.models.clip import Clip
from evoken.models.memory import available
from evoken.models.sampling import GUIDANCE
from evoken.seeds import derive, numpy_generator
from evoken.textual_inversion.draws import Draws, captioned, draw


class DenoisingLoss(Objective):
    """Mean squared error of the prediction at noised latents of the images.

    Source: Fei et al. 2023, Eq. 1. Differs: t from a range instead of (0, 1), where the words
    matter most; random numbers shared by candidates (the paper shares t alone); each draw's error
    taken in shares of what is common at its t ("relative"). Where the noise is low the error is ten
    times as large as where a picture's shape is decided, and no word can help it: weights of one
    over the variance are those of generalised least squares (Aitken 1936). With masks, only what
    they show counts.
    """

    @one_thread_each()
    def __init__(
        self,
        model: Model,
        images: Images,
        placeholder: str,
        templates: Sequence[str],
        seed: int,
        draws: int = 16,
        sentences: int = 4,
        t_range: tuple[float, float] = (0.0, 1.0),
        validation_draws: int = 64,
        shared_draws: bool = True,
        weighting: str = "uniform",
        chunk: int = 2,
        masks: Masks | None = None,
        captions: Sequence[str] = (),
    ) -> None:
        """
        Args:
            images: N x 3 x S x S.
            placeholder, templates: the sentences that the images are explained by.
            draws, sentences: per generation, and different sentences among them.
            t_range: of the noise levels.
            validation_draws: fixed draws of ``validate``.
            shared_draws: the same random numbers for all candidates.
            weighting: "uniform" (Eq. 1), or "relative": each draw's error is divided by what the
                model errs at its noise level without a prompt.
            chunk: draws of a generation per chunk.
            masks: weights of the images' parts, N x 1 x S x S; by default all count alike.
            captions: a template for each image that it is explained by instead, or "".
        """
        self.model, self.placeholder, self.templates = model, placeholder, templates
        self.models = (model,)
        before = model.calls
        self.latents = model.encode(images)
        self._masks = None if masks is None else _mean_one(masks, self.latents)
        self._captions = tuple(captions)
        self.seed, self.draws, self.sentences, self.t_range = seed, draws, sentences, t_range
        self.shared_draws, self.weighting, self.chunk = shared_draws, weighting, chunk
        self._validation = self._draw(0, "validation", validation_draws)
        self._drawn = (-1, self._validation)  # generation and draws of the last chunk
        self._log_error = self._fit_log_error() if weighting == "relative" else np.zeros(1)
        self.setup_calls = model.calls - before

    def _fit_log_error(self) -> NDArray[np.float64]:
        """A polynomial in t, cubic unless there are few draws: the logarithm of the error without a
        prompt, on the validation draws.
        """
        draws = self._validation
        residuals = self._predict(self.model.condition([""]), draws, 1)[0]
        weighted = residuals.double() * self._mask_scales(draws)
        log = weighted.square().mean((1, 2, 3)).log().numpy()
        known = np.isfinite(log)  # a draw may overflow in half precision
        if not known.any():
            return np.full(1, np.nan)  # every loss will be, and the learner says so
        degree = min(3, int(known.sum()) // 8)  # between few points it would swing
        return np.polyfit(draws.t.double().numpy()[known], log[known], degree)

    def weights(self, t: NoiseLevels) -> Tensor:
        """Of draws at these noise levels, float64."""
        return torch.from_numpy(np.exp(-np.polyval(self._log_error, t.double().numpy())))

    def _draw(self, generation: int, purpose: str, count: int) -> Draws:
        drawn = draw(
            self.seed,
            generation,
            purpose,
            count,
            self.latents,
            self.templates,
            self.t_range,
            self.sentences,
        )
        return captioned(drawn, self._captions) if any(self._captions) else drawn

    def split(self, candidates: int, generation: int, gram: bool = False) -> list[Chunk]:
        shared = self.shared_draws
        shares = ranges(self.draws, self.chunk) if shared else ranges(candidates, 1)
        return [Chunk(generation, "draws", start, stop, gram) for start, stop in shares]

    def split_validation(self) -> list[Chunk]:
        # One word is one row per draw: a chunk fills a batch of the smallest size.
        return [Chunk(0, "validation", *share) for share in ranges(len(self._validation.t), UNIT)]

    def calls(self, candidates: int) -> int:
        return candidates * self.draws

    @property
    def validation_calls(self) -> int:
        return len(self._validation.t)

    @one_thread_each()
    def validation_losses(self, vectors: Vectors) -> Losses:
        found = []
        for chunk in self.split_validation():
            draws = self._validation.some(chunk.start, chunk.stop)
            flat = self._weighted(vectors[None], draws)[0]
            found.append(flat.unflatten(0, (len(draws.t), -1)).square().mean(1))
        losses: Losses = torch.cat(found).numpy()
        return losses

    def parts(self, vectors: Vectors, chunks: Sequence[Chunk]) -> Iterator[Evaluation]:
        """The shares of several chunks. Of a model whose parts take turns on a card, the text
        encoders read the sentences of as many chunks as memory holds, and then the denoiser
        computes these; every chunk's batches are what they are elsewhere.
        """
        waiting = deque(chunks)
        while waiting:
            if not self.model.spec.offload or not self._shares_draws(waiting[0]):
                yield self.part(vectors, waiting.popleft())
                continue
            room, read = SHARE * available(torch.device("cpu")), list[tuple[Chunk, Hidden]]()
            while waiting and (room > 0 or not read):
                chunk = waiting.popleft()
                with one_thread_each():
                    hidden = self._read(vectors, self._draws_of(chunk)).cpu()
                read.append((chunk, hidden))
                room -= hidden.nbytes
            for chunk, hidden in read:
                yield self._part(vectors, chunk, hidden)

    def part(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        return self._part(vectors, chunk)

    @one_thread_each()
    def _part(self, vectors: Vectors, chunk: Chunk, hidden: Hidden | None = None) -> Evaluation:
        """A chunk's share.

        Args:
            hidden: what the text encoders read of its sentences, if they have.
        """
        before = self.model.calls
        if self._shares_draws(chunk):
            found = self._compare(vectors, self._draws_of(chunk), chunk.gram, hidden)
            validates = chunk.purpose == "validation"
            count = len(self._validation.t) if validates else self.draws
            found = _share(found, chunk.stop - chunk.start, count)
        else:
            found = self._alone(vectors, chunk)
        return replace(found, calls=self.model.calls - before)

    def _shares_draws(self, chunk: Chunk) -> bool:
        return self.shared_draws or chunk.purpose == "validation"

    def _draws_of(self, chunk: Chunk) -> Draws:
        if chunk.purpose == "validation":
            return self._validation.some(chunk.start, chunk.stop)
        if self._drawn[0] != chunk.generation:
            drawn = self._draw(chunk.generation, "draws", self.draws)
            self._drawn = (chunk.generation, drawn)
        return self._drawn[1].some(chunk.start, chunk.stop)

    def _alone(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        """Candidates on draws of their own, at noise levels that they share: what the paper's code
        does. The others' shares are zero.
        """
        losses = np.zeros(len(vectors))
        t = self._draw(chunk.generation, "draws", self.draws).t
        for i in range(chunk.start, chunk.stop):
            own = replace(self._draw(chunk.generation, f"draws {i}", self.draws), t=t)
            losses[i] = self._compare(vectors[i : i + 1], own).losses[0]
        return Evaluation(losses)

    def _compare(
        self, vectors: Vectors, draws: Draws, gram: bool = False, hidden: Hidden | None = None
    ) -> Evaluation:
        """Mean losses and inner products over these draws."""
        flat = self._weighted(vectors, draws, hidden)
        losses = flat.square().mean(1)  # (Eq. 1)
        if not gram:
            return Evaluation(losses.numpy())
        relative = torch.cat([flat[:1], flat[1:] - flat[:1]])
        return Evaluation(losses.numpy(), (relative @ relative.T / flat.shape[1]).numpy())

    def weighted(self, vectors: Vectors, generation: int) -> NDArray[np.float64]:
        """Candidate x entry: the residuals whose mean square is the loss of a generation."""
        found: NDArray[np.float64] = self._weighted(
            vectors, self._draw(generation, "draws", self.draws)
        ).numpy()
        return found

    def _weighted(self, vectors: Vectors, draws: Draws, hidden: Hidden | None = None) -> Tensor:
        found = self.residuals(vectors, draws, hidden).double()
        return (found * self._scales(draws)).flatten(1)

    def _scales(self, draws: Draws) -> Tensor:
        """Draw x 1 x h x w, or x 1 x 1 without masks: the roots of the residuals' weights."""
        scales = self.weights(draws.t).sqrt()[:, None, None, None]
        return scales if self._masks is None else scales * self._mask_scales(draws)

    def _mask_scales(self, draws: Draws) -> Tensor:
        """Those of the masks alone."""
        if self._masks is None:
            return torch.ones(1, 1, 1, 1, dtype=torch.float64)
        return self._masks[draws.image].sqrt()

    def residuals(self, vectors: Vectors, draws: Draws, hidden: Hidden | None = None) -> Tensor:
        """Candidate x draw x C x h x w: prediction - target, the vector behind the loss."""
        hidden = self._read(vectors, draws) if hidden is None else hidden
        rows = torch.arange(len(vectors))[:, None] * len(draws.sentences) + draws.sentence
        return self._predict(hidden[rows.flatten()], draws, len(vectors))

    def _read(self, vectors: Vectors, draws: Draws) -> Hidden:
        """Candidate * sentence x token x width: what the text encoders make of the sentences."""
        sentences = [s.format(self.placeholder) for s in draws.sentences]
        return self.model.condition(sentences, {self.placeholder: vectors})

    def _predict(self, hidden: Hidden, draws: Draws, candidates: int) -> Tensor:
        """Residuals of candidate * draw conditions, or of one condition for everything."""
        count = len(draws.t)
        clean = self.latents[draws.image]
        noisy = self.model.process.add_noise(clean, draws.noise, draws.t)
        target = self.model.process.target(clean, draws.noise, draws.t)
        predicted = self.model.denoise(
            noisy.repeat(candidates, 1, 1, 1),
            draws.t.repeat(candidates),
            hidden.expand(candidates * count, -1, -1),
        )
        return predicted.unflatten(0, (candidates, count)) - target


def _mean_one(masks: Masks, latents: Latents) -> Tensor:
    """N x 1 x h x w, float64: the masks at the size of the latents, each with a mean of 1, so that
    the scale of a loss does not depend on the size of the thing.
    """
    height, width = latents.shape[-2:]
    small = F.adaptive_avg_pool2d(masks.double(), (height, width))
    return small / small.mean((1, 2, 3), keepdim=True)


def _share(found: Evaluation, count: int, all_draws: int) -> Evaluation:
    """What a mean over ``count`` draws contributes to the mean over all."""
    share = count / all_draws
    return Evaluation(found.losses * share, None if found.gram is None else found.gram * share)


class ImageSimilarity(Objective):
    """One minus the mean CLIP similarity between fully generated pictures and the images.

    Differs: Fei et al. 2023 compare single predictions (Eq. 1); here every evaluation is a whole
    generation.
    """

    @one_thread_each()
    def __init__(
        self,
        model: Model,
        images: Images,
        placeholder: str,
        templates: Sequence[str],
        seed: int,
        clip: Clip,
        pictures: int = 2,
        steps: int = 10,
        guidance: float = GUIDANCE,
        validation_pictures: int = 8,
    ) -> None:
        self.model, self.placeholder, self.templates = model, placeholder, templates
        self.models = (model,)
        self.seed, self.clip, self.pictures = seed, clip, pictures
        self.steps, self.guidance = steps, guidance
        self.validation_pictures = validation_pictures
        self._features = clip.image_features(images)

    def split(self, candidates: int, generation: int, gram: bool = False) -> list[Chunk]:
        size = max(1, UNIT // self.pictures)
        return [Chunk(generation, "draws", *share) for share in ranges(candidates, size)]

    def split_validation(self) -> list[Chunk]:
        return [Chunk(0, "validation", 0, 1)]

    def calls(self, candidates: int) -> int:
        return candidates * self.pictures * self._calls_per_picture

    @property
    def validation_calls(self) -> int:
        return self.validation_pictures * self._calls_per_picture

    @property
    def _calls_per_picture(self) -> int:
        return self.steps * (1 if self.guidance == 1 else self.model.guidance_calls)

    @one_thread_each()
    def validation_losses(self, vectors: Vectors) -> Losses:
        found = self._losses(vectors[None], 0, "validation", self.validation_pictures)
        losses: Losses = found[0].numpy()
        return losses

    @one_thread_each()
    def part(self, vectors: Vectors, chunk: Chunk) -> Evaluation:
        """The candidates' own losses; the others' shares are zero."""
        before, losses = self.model.calls, np.zeros(len(vectors))
        pictures = self.pictures if chunk.purpose == "draws" else self.validation_pictures
        part = slice(chunk.start, chunk.stop)
        found = self._losses(vectors[part], chunk.generation, chunk.purpose, pictures)
        losses[part] = found.mean(1).numpy()
        return Evaluation(losses, calls=self.model.calls - before)

    def _losses(self, vectors: Vectors, generation: int, purpose: str, pictures: int) -> Tensor:
        """Candidate x picture."""
        rng = numpy_generator(self.seed, generation, purpose)
        sentence = str(rng.choice(list(self.templates))).format(self.placeholder)
        seeds = [derive(self.seed, generation, f"{purpose} picture {i}") for i in range(pictures)]
        hidden = self.model.condition([sentence], {self.placeholder: vectors})
        images = self.model.generate(
            hidden.repeat_interleave(pictures, 0), seeds * len(vectors), self.steps, self.guidance
        )
        features = self.clip.image_features(images).double().split(pictures)
        return 1 - torch.stack([(f @ self._features.double().T).mean(1) for f in features])
