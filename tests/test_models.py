"""Models as functions of their arguments: one battery for every family, and each against diffusers'
own pipeline.
"""

import time
from pathlib import Path
from threading import get_ident

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

from evoken.errors import ModelError, SettingError, WordError
from evoken.models.base import ModelSpec
from evoken.models.batches import in_batches, one_thread_each
from evoken.models.clip import Clip
from evoken.models.embedded import LatentModels, load_model, load_pipeline
from evoken.models.stable_diffusion import StableDiffusion
from evoken.models.stable_diffusion_3 import StableDiffusion3
from tests import tiny

FAMILIES = ("model", "flow")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tiny_folder: Path) -> LatentModels:
    return load_pipeline(str(tiny_folder / request.param), ModelSpec("tiny"))


def vectors(
    candidates: int, count: int = 1, seed: int = 0, width: int = tiny.WIDTH
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(candidates, count, width, generator=generator)


@pytest.mark.parametrize("count", [1, 3])
def test_a_word_is_read_as_diffusers_reads_a_loaded_one(
    tiny_folder: Path, model: StableDiffusion, tmp_path: Path, count: int
) -> None:
    word = vectors(1, count)
    save_file({"<disc>": word[0]}, tmp_path / "learned_embeds.safetensors")
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder / "model")
    pipe.load_textual_inversion(str(tmp_path))
    prompts = ["a photo of a <disc> on the beach", "<disc>", "a <disc>, a <disc> and a cat"]
    expected, _ = pipe.encode_prompt(prompts, "cpu", 1, False)
    found = model.condition(prompts, "<disc>", word)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_ordinary_prompt_is_read_as_diffusers_reads_it(
    tiny_folder: Path, model: StableDiffusion
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder / "model")
    prompts = ["a photo of a dog", "", "the red house " * 20]
    expected, _ = pipe.encode_prompt(prompts, "cpu", 1, False)
    torch.testing.assert_close(model.condition(prompts), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_pictures_are_those_of_diffusers(prediction: str) -> None:
    pipe = tiny.pipeline(prediction)
    model = StableDiffusion(pipe, ModelSpec("tiny"))
    seeds, prompts = [3, 4], ["a photo of a cat", "the blue bird"]
    found = model.generate(model.condition(prompts), seeds, steps=5, guidance=4.0)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompts, latents=model.noise(seeds), num_inference_steps=5, guidance_scale=4.0,
        output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close((found + 1) / 2, expected, rtol=1e-3, atol=1e-3)


def test_encoding_is_the_mode_of_the_posterior_scaled(
    model: StableDiffusion, images: torch.Tensor
) -> None:
    expected = model.vae.encode(images).latent_dist.mode() * 0.5
    torch.testing.assert_close(model.encode(images), expected)
    assert model.decode(model.encode(images)).shape == images.shape


def test_a_population_is_one_batch(family: LatentModels) -> None:
    words = vectors(3, 2, width=family.width)
    prompts = ["a photo of a <disc>", "the <disc>"]
    together = family.condition(prompts, "<disc>", words)
    apart = [family.condition([p], "<disc>", w[None]) for w in words for p in prompts]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("batch", [1, 7, 16, 40])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_batch_changes_no_bit(tiny_folder: Path, batch: int, precision: str, name: str) -> None:
    path = str(tiny_folder / name)
    small = load_pipeline(path, ModelSpec("tiny", precision, batch))
    large = load_pipeline(path, ModelSpec("tiny", precision, 64))
    words, latents = vectors(37, width=small.width), small.noise(range(37))
    t = torch.linspace(0, 1, 37)
    hidden = large.condition(["a <disc>"], "<disc>", words)
    assert torch.equal(small.condition(["a <disc>"], "<disc>", words), hidden)
    assert torch.equal(small.denoise(latents, t, hidden), large.denoise(latents, t, hidden))


def test_calls_count_batch_items(family: LatentModels) -> None:
    before = family.calls
    hidden = family.condition(["a cat"]).expand(5, -1, -1)
    family.denoise(family.noise(range(5)), torch.full((5,), 0.5), hidden)
    assert family.calls - before == 5
    family.generate(hidden[:2], [0, 1], steps=3)
    assert family.calls - before == 5 + 3 * 2 * 2  # steps, pictures, with and without the prompt


def test_a_picture_does_not_depend_on_those_beside_it(family: LatentModels) -> None:
    assert torch.equal(family.noise([5, 6, 7])[1:], family.noise([6, 7]))


def test_no_word_stays_in_the_model(family: LatentModels) -> None:
    before, words = family.condition(["a photo of a cat"]), family.vocabulary()
    family.condition(["a <disc> cat"], "<disc>", vectors(4, width=family.width))
    assert torch.equal(family.condition(["a photo of a cat"]), before)
    assert torch.equal(family.vocabulary().vectors, words.vectors)


def test_a_placeholder_that_would_be_cut_off_is_refused(family: LatentModels) -> None:
    with pytest.raises(WordError, match="at most 30 tokens"):
        family.condition(["red house " * 20 + "<disc>"], "<disc>", vectors(1, width=family.width))


def test_the_vocabulary_holds_whole_words(family: LatentModels) -> None:
    vocabulary = family.vocabulary()
    assert "cat" in vocabulary.words and "c" not in vocabulary.words
    place = vocabulary.words.index("cat")
    assert torch.equal(vocabulary.vectors[place], family.embed("cat")[0])
    assert family.has_token("cat") and family.has_token("Cat") and not family.has_token("<cat>")


@pytest.mark.parametrize("t5", [False, True])
def test_stable_diffusion_3_reads_prompts_as_diffusers_does(t5: bool) -> None:
    pipe = tiny.flow_pipeline(t5)
    model = StableDiffusion3(pipe, ModelSpec("tiny"), t5_tokens=7)
    prompts = ["a photo of a dog", "", "the red house " * 20]
    tokens, _, pooled, _ = pipe.encode_prompt(
        prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=7
    )
    found = model.condition(prompts)
    torch.testing.assert_close(found[:, :-1], tokens, rtol=1e-4, atol=1e-5)
    width = pooled.shape[1]
    torch.testing.assert_close(found[:, -1, :width], pooled, rtol=1e-4, atol=1e-5)


def test_a_word_of_stable_diffusion_3_is_in_both_encoders() -> None:
    pipe = tiny.flow_pipeline()
    model = StableDiffusion3(pipe, ModelSpec("tiny"), t5_tokens=0)
    found = model.condition(["a photo of a <disc>"], "<disc>", model.embed("cat")[None])
    torch.testing.assert_close(found, model.condition(["a photo of a cat"]))
    changed = model.embed("cat")[None].clone()
    for part in (slice(0, 16), slice(16, 32)):
        changed[..., part] += 1
        again = model.condition(["a photo of a <disc>"], "<disc>", changed)
        assert not torch.allclose(again[..., part], found[..., part])
        found = again


@pytest.mark.parametrize("t5", [False, True])
def test_pictures_of_stable_diffusion_3_are_those_of_diffusers(t5: bool) -> None:
    pipe = tiny.flow_pipeline(t5)
    model = StableDiffusion3(pipe, ModelSpec("tiny"), t5_tokens=256)
    seeds, prompts = [3, 4], ["a photo of a cat", "the blue bird"]
    found = model.generate(model.condition(prompts), seeds, steps=5, guidance=4.0)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompts, latents=model.noise(seeds), num_inference_steps=5, guidance_scale=4.0,
        output_type="pt", height=16, width=16,
    ).images  # fmt: skip
    torch.testing.assert_close((found + 1) / 2, expected, rtol=1e-3, atol=1e-3)


def test_encoding_takes_the_shift_off(images: torch.Tensor) -> None:
    model = StableDiffusion3(tiny.flow_pipeline(), ModelSpec("tiny"))
    mode = model.vae.encode(images).latent_dist.mode()
    torch.testing.assert_close(model.encode(images), (mode - 0.1) * 0.5)
    decoded = model.vae.decode(mode).sample.clamp(-1, 1)
    torch.testing.assert_close(model.decode(model.encode(images)), decoded, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["no/such/folder/here", "./nowhere", "nothing"])
def test_a_model_that_does_not_exist(name: str) -> None:
    with pytest.raises(ModelError, match="folder"):
        load_model(ModelSpec(name))


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Stable Diffusion"):
        load_model(ModelSpec(str(tmp_path)))


def test_impossible_specs_are_refused() -> None:
    with pytest.raises(SettingError, match="precision"):
        load_model(ModelSpec(precision="float8"))
    with pytest.raises(SettingError, match="batch"):
        load_model(ModelSpec(batch=0))


def test_clip_features_are_those_of_transformers(clip: Clip, images: torch.Tensor) -> None:
    texts = ["a photo of a cat", "a red house on the beach"]
    inputs = clip.tokenizer(texts, padding=True, return_tensors="pt")
    pixels = torch.nn.functional.interpolate(images, (32, 32), mode="bicubic", antialias=True)
    pixels = (pixels.clamp(-1, 1) + 1) / 2
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    out = clip.model(input_ids=inputs.input_ids, pixel_values=(pixels - mean) / std)
    torch.testing.assert_close(clip.text_features(texts), out.text_embeds)
    torch.testing.assert_close(clip.image_features(images), out.image_embeds)


def test_a_clip_that_does_not_exist() -> None:
    with pytest.raises(ModelError, match="--clip"):
        Clip.load("/no/such/clip")


def test_views_with_gaps_take_the_same_path_as_copies() -> None:
    rows = torch.randn(32, 5, 3)[:, :-1]
    seen: list[bool] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.is_contiguous())
        return x

    assert torch.equal(in_batches(function, 16, rows), rows)
    assert seen == [True, True]


def test_cores_share_the_batches_one_thread_each() -> None:
    rows, threads = torch.arange(64.0), set()

    def function(x: torch.Tensor) -> torch.Tensor:
        assert len(x) == 16 and torch.get_num_threads() == 1 and not torch.is_grad_enabled()
        threads.add(get_ident())
        time.sleep(0.01)
        return 2 * x

    torch.set_num_threads(3)
    try:
        with torch.no_grad(), one_thread_each():
            assert torch.equal(in_batches(function, 64, rows), 2 * rows)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    assert len(threads) == 3 and get_ident() not in threads
