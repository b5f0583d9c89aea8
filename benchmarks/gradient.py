"""The gradient baseline: Adam on the embedding through autograd (Gal et al. 2022).

Only here: the library itself never differentiates. Several words are learned side by side in one
batch, each with its own images, draws and learning rate, which changes nothing for any of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from evoken.arrays import Images, Latents, NoiseLevels, Vectors
from evoken.models.families.latent import LatentModel
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.runtimes.requirements import imitates
from evoken.models.text import Places, substituted_embeddings
from evoken.prompts import OBJECT_TEMPLATES
from evoken.spec import ModelSpec
from evoken.textual_inversion.draws import Draws, draw

SAMPLES, BATCH = 5_000, 4
# Shares of the typical size of an embedding's component, so that they fit any model.
LEARNING_RATES = (0.03, 0.1, 0.3)


def best_by_gradient(
    model: StableDiffusion,
    images: Sequence[Images],
    starts: Sequence[Vectors],
    rates: Sequence[Sequence[float]],
    seed: int,
    loss: Callable[[int, Vectors], float],
    templates: Sequence[str] = OBJECT_TEMPLATES,
) -> list[tuple[Vectors, float]]:
    """A word and its learning rate for each concept: the best of its rates.

    Args:
        images: of each concept.
        starts: vectors to start from, as many for each concept.
        rates: that are tried for each concept.
        loss: of a concept, by its number, and a word; not asked where there is one rate.
    """
    jobs = [(i, rate) for i, tried in enumerate(rates) for rate in tried]
    words = learn_by_gradient(
        model,
        [images[i] for i, _ in jobs],
        [starts[i] for i, _ in jobs],
        [rate for _, rate in jobs],
        [seed * 1000 + i for i, _ in jobs],
        templates,
    )
    best = []
    for concept in range(len(images)):
        tried = [(w, rate) for (i, rate), w in zip(jobs, words, strict=True) if i == concept]
        if len(tried) > 1:
            tried = [min(tried, key=lambda pair: loss(concept, pair[0]))]
        best += tried
    return best


def learn_by_gradient(
    model: StableDiffusion,
    images: Sequence[Images],
    starts: Sequence[Vectors],
    rates: Sequence[float],
    seeds: Sequence[int],
    templates: Sequence[str] = OBJECT_TEMPLATES,
) -> list[Vectors]:
    """One word per entry of ``images``, ``starts``, ``rates`` and ``seeds``; SAMPLES noised images
    each, BATCH at a step.

    The learning rate warms up over 20 steps and falls linearly to a tenth; the result is the mean
    of the last tenth of the steps.
    """
    latents = [model.encode(i) for i in images]
    words = torch.stack(list(starts)).clone().requires_grad_(True)
    m, v = torch.zeros_like(words), torch.zeros_like(words)
    average, counted = torch.zeros_like(words), 0
    rate = torch.tensor(rates)[:, None, None] * float(model.vocabulary().vectors.std())
    steps = SAMPLES // BATCH
    for step in range(steps):
        draws = [
            draw(seed, step, "gradient", BATCH, its, templates, (0.0, 1.0), BATCH)
            for its, seed in zip(latents, seeds, strict=True)
        ]
        with plain_attention(model):
            loss = _loss(model, words, latents, draws).sum()
            (gradient,) = torch.autograd.grad(loss, words)
        with torch.no_grad():
            m.lerp_(gradient, 0.1)
            v.lerp_(gradient.square(), 0.01)
            size = min(1.0, (step + 1) / 20) * (1 - 0.9 * step / steps)
            adam = (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8)
            words -= rate * size * adam
            if step >= 0.9 * steps:
                average += words
                counted += 1
    return list((average / counted).detach().unbind())


def gradient(
    model: LatentModel,
    word: Vectors,
    latents: Latents,
    drawn: Draws,
    weigh: Callable[[NoiseLevels], Tensor] = torch.ones_like,
) -> Vectors:
    """Of the mean error over some draws at one word.

    Args:
        weigh: the weights of draws at their noise levels.
    """
    words = word[None].clone().requires_grad_(True)
    if isinstance(model, StableDiffusion):
        with plain_attention(model):
            loss = _loss(model, words, [latents], [drawn], weigh)
            (found,) = torch.autograd.grad(loss.sum() / len(drawn.t), words)
        return Tensor(found[0])
    with torch.enable_grad(), differentiable(model), _fast():
        loss = _loss_of_any(model, words, latents, drawn, weigh)
        (found,) = torch.autograd.grad(loss.sum() / len(drawn.t), words)
    return Tensor(found[0])


def _loss_of_any(
    model: LatentModel,
    words: Tensor,
    latents: Latents,
    drawn: Draws,
    weigh: Callable[[NoiseLevels], Tensor],
) -> Tensor:
    """``_loss`` of one word, by what every model has."""
    sentences = [sentence.format("<x>") for sentence in drawn.sentences]
    hidden = model.condition(sentences, {"<x>": words})
    clean = latents[drawn.image]
    noisy = model.process.add_noise(clean, drawn.noise, drawn.t)
    predicted = model.denoise(noisy, drawn.t, hidden[drawn.sentence])
    error = predicted - model.process.target(clean, drawn.noise, drawn.t)
    return error.square().mean((1, 2, 3)) * weigh(drawn.t).to(error)


def _fast() -> torch.autocast:
    """Products in bfloat16 within the block, if this CPU has it."""
    able = not imitates(ModelSpec(precision="bfloat16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=able)


@contextmanager
def differentiable(model: LatentModel) -> Iterator[None]:
    """Within the block, ``condition`` and ``denoise`` let gradients through, and count no calls."""
    calls = model.calls
    places = [(text, "encode") for text in model.texts.encoders.values()] + [(model, "_denoise")]
    for place, name in places:
        # What ``torch.no_grad`` decorates is called without it.
        undecorated = getattr(type(place), name).__wrapped__
        setattr(place, name, MethodType(undecorated, place))
    try:
        yield
    finally:
        for place, name in places:
            delattr(place, name)
        model.calls = calls


@contextmanager
def plain_attention(model: StableDiffusion) -> Iterator[None]:
    """For sequences as short as these, the backward pass of fused attention is slower."""
    fused = model.denoiser.attn_processors
    model.denoiser.set_attn_processor(AttnProcessor())
    model.text.encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.denoiser.set_attn_processor(dict(fused))
        model.text.encoder.set_attn_implementation("sdpa")


def _loss(
    model: StableDiffusion,
    words: Tensor,
    latents: Sequence[Tensor],
    draws: Sequence[Draws],
    weigh: Callable[[NoiseLevels], Tensor] = torch.ones_like,
) -> Tensor:
    """The weighted error of every draw of every word, differentiable in the words."""
    lengths = {"<x>": words.shape[1]}
    rows: list[tuple[list[int], Places]] = []
    owners, order, noisy, noise, t = [], [], [], [], []
    for i, drawn in enumerate(draws):
        order.append(drawn.sentence + len(rows))
        rows += [model.text.place(s.format("<x>"), lengths) for s in drawn.sentences]
        owners += [i] * len(drawn.sentences)
        noisy.append(model.process.add_noise(latents[i][drawn.image], drawn.noise, drawn.t))
        noise.append(drawn.noise)
        t.append(drawn.t)
    ids = torch.tensor([r for r, _ in rows])
    table = model.text.table
    embedded = table(ids).clone()
    for row, ((_, [(begin, _)]), owner) in enumerate(zip(rows, owners, strict=True)):
        embedded[row, begin : begin + words.shape[1]] = words[owner].to(embedded)
    with _fast(), substituted_embeddings(table, embedded):
        hidden = model.text.encoder(ids).last_hidden_state
        steps = model.process.timestep(torch.cat(t))
        predicted = model.denoiser(torch.cat(noisy), steps, hidden[torch.cat(order)]).sample
    error = predicted.float() - torch.cat(noise)
    return error.square().mean((1, 2, 3)) * weigh(torch.cat(t)).to(error)
