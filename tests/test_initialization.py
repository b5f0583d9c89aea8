from pathlib import Path

import pytest
import torch

from evoken.errors import SettingError, WordError
from evoken.models.base import Vocabulary
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.seeds import torch_generator
from evoken.textual_inversion.initialization import (
    INITIALIZATIONS,
    candidates,
    cross_attention,
    initial_vectors,
    nearest_word,
    similarities,
)
from evoken.words.word import Word, save_word


def start(
    how: str,
    model: StableDiffusion,
    clip: Clip | None,
    images: torch.Tensor,
    count: int = 1,
    kind: str = "object",
    word: str = "",
) -> torch.Tensor:
    generator = torch_generator(0, 0, "initialization")
    return initial_vectors(how, model, clip, images, kind, count, generator, word)


def test_cross_attention_is_equation_4(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    """Against a plain loop over images and words, rescaled to the typical norm."""
    vocabulary = model.vocabulary()
    features = clip.image_features(images)
    total = torch.zeros(model.width)
    for feature in features:
        texts = clip.text_features([f"a photo of a {w}" for w in vocabulary.words])
        weights = [float(torch.exp(feature @ text / 0.1)) for text in texts]
        for weight, vector in zip(weights, vocabulary.vectors, strict=True):
            total += weight / sum(weights) * vector / len(features)
    found = cross_attention(clip, images, vocabulary, "object", 0.1)[0]
    cosine = torch.nn.functional.cosine_similarity(found, total, dim=0)
    assert cosine > 0.9999
    assert float(found.norm()) == pytest.approx(
        float(vocabulary.vectors.norm(dim=1).median()), rel=1e-4
    )


def test_without_a_temperature_every_image_gives_the_mean_of_the_vocabulary(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    vocabulary = model.vocabulary()
    mean = vocabulary.vectors.mean(0)
    flat = cross_attention(clip, images, vocabulary, "object", 1.0)[0]
    sharp = cross_attention(clip, images, vocabulary, "object", 0.001)[0]
    near = torch.nn.functional.cosine_similarity
    assert near(flat, mean, dim=0) > 0.95
    assert near(sharp, mean, dim=0) < near(flat, mean, dim=0)


def test_the_temperature_is_the_one_that_clip_was_trained_with(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    """CLIP classifies with its cosines times the exponential of its ``logit_scale``."""
    vocabulary, own = model.vocabulary(), float(clip.model.logit_scale.detach().exp())
    found = start("attention", model, clip, images)
    same = cross_attention(clip, images, vocabulary, "object", 1 / own)
    torch.testing.assert_close(found, same)
    for other in (1 / own**2, 2 / own, 1.0):
        assert not torch.allclose(
            found, cross_attention(clip, images, vocabulary, "object", other), rtol=1e-3
        )


def test_each_encoders_part_is_as_long_as_its_own_words(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    """A second encoder with embeddings a hundred times as long: neither follows the other."""
    one = model.vocabulary()
    both = torch.cat([one.vectors, 100 * one.vectors[:, :5]], 1)
    vocabulary = Vocabulary(one.words, both, (model.width, 5))
    found = cross_attention(clip, images, vocabulary, "object", None)
    assert found.shape == (1, model.width + 5)
    for part in (slice(0, model.width), slice(model.width, None)):
        words = both[:, part]
        assert float(found[:, part].norm()) == pytest.approx(
            float(words.norm(dim=1).median()), rel=1e-5
        )


def test_a_low_temperature_is_the_nearest_word(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    vocabulary = model.vocabulary()
    sharp = cross_attention(clip, images[:1], vocabulary, "object", 1e-6)[0]
    nearest = nearest_word(clip, images[:1], vocabulary, "object")[0]
    assert torch.nn.functional.cosine_similarity(sharp, nearest, dim=0) > 0.9999


def test_candidates_are_no_word_then_equation_4_then_the_nearest_words(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    """The nearest by their mean similarity with all images, each for every vector of the word."""
    vocabulary = model.vocabulary()
    features = clip.image_features(images)
    texts = clip.text_features([f"a photo of a {w}" for w in vocabulary.words])
    means = (features @ texts.T).sum(0) / len(features)
    nearest = sorted(range(len(means)), key=lambda i: -float(means[i]))[:5]
    found = candidates(clip, images, model, "object", count=2, words=5)
    assert found.shape == (7, 2, model.width)
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[0, 0], model.nothing()[0])
    assert torch.equal(found[1, 0], cross_attention(clip, images, vocabulary, "object", None)[0])
    assert torch.equal(found[2:, 0], vocabulary.vectors[nearest])


def test_objects_and_styles_are_asked_in_sentences_of_their_own(
    clip: Clip, images: torch.Tensor
) -> None:
    words = ("cat", "red")
    assert not torch.equal(
        similarities(clip, images, words, "object"), similarities(clip, images, words, "style")
    )


@pytest.mark.parametrize("how", INITIALIZATIONS)
@pytest.mark.parametrize("count", [1, 3])
def test_every_initialization_gives_vectors_of_a_likely_length(
    model: StableDiffusion,
    clip: Clip,
    images: torch.Tensor,
    how: str,
    count: int,
    tmp_path: Path,
) -> None:
    save_word(tmp_path / "cat.safetensors", Word("<cat>", model.embed("cat")))
    word = str(tmp_path / "cat.safetensors") if how == "file" else "cat"
    found = start(how, model, clip, images, count, word=word)
    assert found.shape == (count, model.width)
    norms = model.vocabulary().vectors.norm(dim=1)
    assert (found.norm(dim=1) < 3 * norms.max()).all()
    assert torch.equal(found, start(how, model, clip, images, count, word=word))


def test_a_phrase_fills_as_many_vectors_as_it_has_tokens(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    found = start("word", model, clip, images, 3, word="red house")
    red, house = model.embed("red house")
    assert torch.equal(found, torch.stack([red, house, house]))


def test_what_cannot_be_started_from(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    with pytest.raises(WordError, match=r"as the word has vectors, 1 \(got 2"):
        start("word", model, clip, images, 1, word="red house")
    with pytest.raises(WordError, match="word or phrase"):
        start("word", model, clip, images, 1, word=" ")
    with pytest.raises(SettingError, match="CLIP"):
        start("attention", model, None, images)
    for unknown in ("luck", "zeal"):
        with pytest.raises(SettingError, match="initialization"):
            start(unknown, model, clip, images, word="cat")


def test_the_nearest_word_is_the_start_nearest(
    model: StableDiffusion, clip: Clip, images: torch.Tensor
) -> None:
    nearest = nearest_word(clip, images, model.vocabulary(), "object")
    assert torch.equal(start("nearest", model, clip, images, 2), nearest.repeat(2, 1))
