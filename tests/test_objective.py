from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evoken.evaluation.chunks import Objective, ranges
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.prompts import OBJECT_TEMPLATES
from evoken.seeds import derive
from evoken.textual_inversion.draws import Draws, draw
from evoken.textual_inversion.objective import DenoisingLoss, ImageSimilarity
from tests import tiny


def words(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, tiny.WIDTH, generator=generator)


def denoising(model: StableDiffusion, images: torch.Tensor, **options: object) -> DenoisingLoss:
    values: dict[str, object] = {"draws": 6, "sentences": 2, "validation_draws": 4} | options
    return DenoisingLoss(model, images, "<disc>", OBJECT_TEMPLATES, 7, **values)  # type: ignore[arg-type]


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 1000))
def test_draws_cover_levels_images_and_sentences_evenly(
    count: int, pictures: int, seed: int
) -> None:
    latents = torch.zeros(pictures, 2, 3, 3)
    drawn = draw(seed, 1, "draws", count, latents, OBJECT_TEMPLATES, (0.2, 0.8), 4)
    strata = ((drawn.t - 0.2) / 0.6 * count).floor().clamp(0, count - 1)
    assert len(strata.unique()) >= count - 1  # rounding may move one across an edge
    for chosen, among in ((drawn.image, pictures), (drawn.sentence, len(drawn.sentences))):
        shares = torch.bincount(chosen, minlength=among)
        assert shares.max() - shares.min() <= 1
    again = draw(seed, 1, "draws", count, latents, OBJECT_TEMPLATES, (0.2, 0.8), 4)
    assert torch.equal(drawn.noise, again.noise) and torch.equal(drawn.t, again.t)
    other = draw(seed, 2, "draws", count, latents, OBJECT_TEMPLATES, (0.2, 0.8), 4)
    assert not torch.equal(drawn.noise, other.noise)


def test_the_loss_is_equation_1(model: StableDiffusion, images: torch.Tensor) -> None:
    """Against one candidate, one draw at a time, written with diffusers' own parts."""
    objective, population = denoising(model, images), words(3)
    drawn = objective._draw(5, "draws", 6)
    found = objective.evaluate(population, 5).losses
    for word, loss in zip(population, found, strict=True):
        total = 0.0
        for i in range(6):
            sentence = drawn.sentences[drawn.sentence[i]].format("<disc>")
            hidden = model.condition([sentence], {"<disc>": word[None]})
            latents = model.encode(images)[drawn.image[i]][None]
            noisy = model.process.add_noise(latents, drawn.noise[i : i + 1], drawn.t[i : i + 1])
            step = (drawn.t[i] * 1000).long()
            predicted = model.denoiser(noisy, step, encoder_hidden_states=hidden).sample
            total += float((predicted - drawn.noise[i]).square().mean()) / 6
        assert loss == pytest.approx(total, rel=1e-4)


def test_relative_weights_are_those_of_the_error_without_a_prompt(
    model: StableDiffusion, images: torch.Tensor
) -> None:
    """The tiny model's errors, made to differ by noise level, come out alike."""
    plain = denoising(model, images, validation_draws=40)
    relative = denoising(model, images, validation_draws=40, weighting="relative")
    weights = relative.weights(torch.linspace(0, 1, 5))
    draws, population = relative._draw(4, "draws", 6), words(2)
    expected = (relative.residuals(population, draws).double() ** 2).mean((2, 3, 4))
    expected = (expected * relative.weights(draws.t)).mean(1)
    np.testing.assert_allclose(relative.evaluate(population, 4).losses, expected, rtol=1e-6)
    assert len(set(weights.tolist())) == 5
    assert plain.weights(torch.linspace(0, 1, 5)).tolist() == [1.0] * 5
    empty = relative._predict(model.condition([""]), relative._validation, 1)[0].double()
    errors = empty.square().mean((1, 2, 3)) * relative.weights(relative._validation.t)
    assert float(errors.log().mean()) == pytest.approx(0, abs=1e-6)  # a regression's property


@pytest.mark.parametrize("count", [1, 2, 4, 8, 20])
def test_few_validation_draws_do_not_make_weights_swing(
    model: StableDiffusion, images: torch.Tensor, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that are the same at all noise levels but for a fifth by chance."""
    rng = torch.Generator().manual_seed(0)

    def predict(self: DenoisingLoss, hidden: object, draws: Draws, candidates: int) -> torch.Tensor:
        size = (0.1 * torch.randn(len(draws.t), generator=rng)).exp()
        return (size[:, None, None, None] * torch.ones_like(draws.noise))[None]

    monkeypatch.setattr(DenoisingLoss, "_predict", predict)
    about: dict[str, Any] = {"t_range": (0.2, 0.9), "weighting": "relative"}
    for seed in range(40):
        objective = DenoisingLoss(
            model, images, "<disc>", OBJECT_TEMPLATES, seed, 6, validation_draws=count, **about
        )
        found = objective.weights(torch.linspace(0.2, 0.9, 50))
        assert found.isfinite().all() and found.max() < 6 * found.min()


def test_candidates_share_their_random_numbers(
    model: StableDiffusion, images: torch.Tensor
) -> None:
    same = words(1).repeat(4, 1, 1)
    shared = denoising(model, images).evaluate(same, 3).losses
    assert (shared == shared[0]).all()
    own = denoising(model, images, shared_draws=False).evaluate(same, 3).losses
    assert len(set(own.tolist())) == 4


def test_the_gram_matrix_is_that_of_the_residuals(
    model: StableDiffusion, images: torch.Tensor
) -> None:
    objective, population = denoising(model, images), words(4)
    evaluation = objective.evaluate(population, 2, gram=True)
    residuals = objective.residuals(population, objective._draw(2, "draws", 6)).double().flatten(1)
    relative = torch.cat([residuals[:1], residuals[1:] - residuals[:1]])
    expected = (relative @ relative.T / residuals.shape[1]).numpy()
    assert evaluation.gram is not None
    np.testing.assert_allclose(evaluation.gram, expected, rtol=1e-5, atol=1e-8)
    assert evaluation.gram[0, 0] == pytest.approx(evaluation.losses[0], rel=1e-6)
    # Losses of the others follow from it: |r_0 + d|^2 = |r_0|^2 + 2 r_0 d + |d|^2.
    rebuilt = expected[0, 0] + 2 * expected[0, 1:] + np.diag(expected)[1:]
    np.testing.assert_allclose(rebuilt, evaluation.losses[1:], rtol=1e-5)


def test_noise_levels_stay_in_their_range(model: StableDiffusion, images: torch.Tensor) -> None:
    drawn = denoising(model, images, t_range=(0.5, 0.6))._draw(0, "draws", 50)
    assert drawn.t.min() >= 0.5 and drawn.t.max() <= 0.6


@pytest.fixture(params=["denoising", "similarity"])
def objective(
    request: pytest.FixtureRequest, model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> Objective:
    if request.param == "denoising":
        return denoising(model, images)
    return ImageSimilarity(
        model, images, "<disc>", OBJECT_TEMPLATES, 7, clip, steps=2, validation_pictures=3
    )


def test_every_objective_is_a_function_of_word_and_generation(objective: Objective) -> None:
    population = words(3)
    first = objective.evaluate(population, 1).losses
    assert first.shape == (3,) and np.isfinite(first).all() and len(set(first)) == 3
    assert (objective.evaluate(population, 1).losses == first).all()
    assert (objective.evaluate(population, 2).losses != first).any()
    assert objective.validate(population[0]) == objective.validate(population[0])
    assert objective.validate(population[0]) != objective.validate(population[1])


def test_every_objective_gives_a_candidate_the_same_loss_in_any_company(
    objective: Objective,
) -> None:
    population = words(5)
    together = objective.evaluate(population, 1).losses
    alone = [objective.evaluate(w[None], 1).losses[0] for w in population]
    np.testing.assert_allclose(together, alone, rtol=1e-6)  # rounding


def test_every_objective_says_what_it_costs(objective: Objective) -> None:
    model = objective.model  # type: ignore[attr-defined]
    assert objective.evaluate(words(3), 4).calls == objective.calls(3)
    before = model.calls
    objective.validate(words(1)[0])
    assert model.calls - before == objective.validation_calls


def test_the_losses_of_all_validation_draws_are_those_of_their_mean(objective: Objective) -> None:
    word = words(1)[0]
    losses = objective.validation_losses(word)
    assert len(losses) > 1 and losses.std() > 0
    assert losses.mean() == pytest.approx(objective.validate(word), rel=1e-6)


def test_similarity_is_one_minus_the_mean_cosine(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    templates = ("a {} here",)
    objective = ImageSimilarity(
        model, images, "<disc>", templates, 7, clip, pictures=1, steps=2, guidance=2.0
    )
    word = words(1)
    hidden = model.condition(["a <disc> here"], {"<disc>": word})
    drawn = model.generate(hidden, [derive(7, 1, "draws picture 0")], 2, 2.0)
    cosines = clip.image_features(drawn).double() @ clip.image_features(images).double().T
    assert objective.evaluate(word, 1).losses[0] == pytest.approx(1 - float(cosines.mean()))


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 2 * 3), (2.0, 2 * 3 * 2)])
def test_pictures_without_guidance_cost_half(
    model: StableDiffusion, clip: Clip, images: torch.Tensor, guidance: float, calls: int
) -> None:
    objective = ImageSimilarity(
        model, images, "<disc>", OBJECT_TEMPLATES, 7, clip, 3, steps=2, guidance=guidance
    )
    before = model.calls
    objective.evaluate(words(1), 1)
    assert model.calls - before == objective.calls(1) == calls


@pytest.mark.parametrize("cores", [2, 3, 5])
def test_no_objective_rounds_differently_on_more_cores(objective: Objective, cores: int) -> None:
    population = words(40)
    alone, validated = objective.evaluate(population, 1, True), objective.validate(population[0])
    torch.set_num_threads(cores)
    try:
        shared = objective.evaluate(population, 1, True)
        assert objective.validate(population[0]) == validated
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(shared.losses, alone.losses)
    if alone.gram is not None:
        np.testing.assert_array_equal(shared.gram, alone.gram)


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 9))
def test_chunks_hold_every_draw_once_with_its_own_sentence(
    count: int, sentences: int, size: int
) -> None:
    drawn = draw(3, 1, "draws", count, torch.zeros(3, 1, 2, 2), OBJECT_TEMPLATES, (0, 1), sentences)
    parts = [drawn.some(*share) for share in ranges(count, size)]
    assert torch.equal(torch.cat([p.noise for p in parts]), drawn.noise)
    assert torch.equal(torch.cat([p.t for p in parts]), drawn.t)
    assert torch.equal(torch.cat([p.image for p in parts]), drawn.image)
    texts = [p.sentences[i] for p in parts for i in p.sentence.tolist()]
    assert texts == [drawn.sentences[i] for i in drawn.sentence.tolist()]
    assert all(set(p.sentence.tolist()) == set(range(len(p.sentences))) for p in parts)


@pytest.mark.parametrize("chunk", [1, 2, 4, 6])
def test_the_chunk_changes_the_last_digits_alone(
    model: StableDiffusion, images: torch.Tensor, chunk: int
) -> None:
    whole = denoising(model, images, chunk=100).evaluate(words(4), 2, gram=True)
    split = denoising(model, images, chunk=chunk).evaluate(words(4), 2, gram=True)
    assert split.calls == whole.calls == 4 * 6
    np.testing.assert_allclose(split.losses, whole.losses, rtol=1e-6)
    np.testing.assert_allclose(split.gram, whole.gram, rtol=1e-4, atol=1e-9)  # type: ignore[arg-type]
