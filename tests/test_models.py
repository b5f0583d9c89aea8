"""Models as functions of their arguments: one battery for every family."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusionPipeline,
)
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from evoken.errors import ModelError, SettingError, WordError
from evoken.models.bases import ENCODERS
from evoken.models.clip import Clip
from evoken.models.families.flux import pack, unpack
from evoken.models.families.latent import LatentModel
from evoken.models.families.sdxl import StableDiffusionXL
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.families.stable_diffusion_3 import StableDiffusion3
from evoken.models.load import load_model
from evoken.models.pipelines import load_pipeline
from evoken.models.sampling import STEPS
from evoken.pictures.drawing import images_of, images_of_each
from evoken.spec import ModelSpec
from evoken.words.word import Word
from tests import tiny
from tests.own_pipelines import PIPELINES, SPEC, encoded

PROMPTED = (
    *("klein-base", "klein", "flux-2-dev", "z-image", "qwen-image", "sana", "lumina-2", "chroma"),
)
FAMILIES = ("model", "second", "xl", "flow", "flux", "schnell", *PROMPTED)
# Chroma takes a class from where diffusers itself says not to.
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tiny_folder: Path) -> LatentModel:
    return load_pipeline(str(tiny_folder / request.param), SPEC)


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
    found = model.condition(prompts, {"<disc>": word})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_ordinary_prompt_is_read_as_diffusers_reads_it(
    tiny_folder: Path, model: StableDiffusion
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder / "model")
    prompts = ["a photo of a dog", "", "the red house " * 20]
    expected, _ = pipe.encode_prompt(prompts, "cpu", 1, False)
    torch.testing.assert_close(model.condition(prompts), expected, rtol=1e-4, atol=1e-5)


def test_encoding_is_the_mode_of_the_posterior_scaled(
    model: StableDiffusion, images: torch.Tensor
) -> None:
    expected = model.vae.encode(images).latent_dist.mode() * 0.5
    torch.testing.assert_close(model.encode(images), expected)
    assert model.decode(model.encode(images)).shape == images.shape


def test_a_population_is_one_batch(family: LatentModel) -> None:
    words = vectors(3, 2, width=family.width)
    prompts = ["a photo of a <disc>", "the <disc>"]
    together = family.condition(prompts, {"<disc>": words})
    for row, (word, prompt) in zip(together, itertools.product(words, prompts), strict=True):
        (alone,) = family.condition([prompt], {"<disc>": word[None]})
        torch.testing.assert_close(row[: len(alone)], alone, rtol=1e-4, atol=1e-5)
        assert not row[len(alone) :].any()  # a shorter prompt beside a longer one


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("precision", "batch"), [("float32", 1), ("float32", 16), ("bfloat16", 7), ("bfloat16", 40)]
)
def test_the_batch_changes_no_bit(tiny_folder: Path, batch: int, precision: str, name: str) -> None:
    path = str(tiny_folder / name)
    small = load_pipeline(path, replace(SPEC, precision=precision, batch=batch))
    large = load_pipeline(path, replace(SPEC, precision=precision))
    words, latents = vectors(37, width=small.width), small.noise(range(37))
    t = torch.linspace(0, 1, 37)
    hidden = large.condition(["a <disc>"], {"<disc>": words})
    assert torch.equal(small.condition(["a <disc>"], {"<disc>": words}), hidden)
    assert torch.equal(small.denoise(latents, t, hidden), large.denoise(latents, t, hidden))


@pytest.mark.parametrize("name", PROMPTED)
def test_the_batch_changes_no_bit_of_prompts_that_differ_in_length(
    tiny_folder: Path, name: str
) -> None:
    """Nor does what stands beside them, but for rounding."""
    path, prompts = str(tiny_folder / name), ["a <disc>", "the <disc> in the snow", "a <disc>, red"]
    small, large = (load_pipeline(path, replace(SPEC, batch=b)) for b in (1, 64))
    words, t = {"<disc>": vectors(13, width=small.width)}, torch.linspace(0, 1, 39)
    hidden, latents = large.condition(prompts, words), small.noise(range(39))
    assert torch.equal(small.condition(prompts, words), hidden)
    found = large.denoise(latents, t, hidden)
    assert torch.equal(small.denoise(latents, t, hidden), found)
    alone = large.denoise(latents[4:5], t[4:5], hidden[4:5])
    torch.testing.assert_close(alone, found[4:5], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_keeps_half_of_the_weights_and_the_same_bits(
    tiny_folder: Path, tmp_path: Path, name: str
) -> None:
    """Of weights published in float16: those of float32 ones that are rounded at every use, as
    autocast does it.
    """
    published = shutil.copytree(tiny_folder / name, tmp_path / name)
    for file in published.rglob("*.safetensors"):
        values = {k: x.half() if x.is_floating_point() else x for k, x in load_file(file).items()}
        save_file(values, file, {"format": "pt"})
    whole, half = (
        load_pipeline(str(published), replace(SPEC, precision=p)) for p in ("float32", "bfloat16")
    )
    kept = {p.dtype for p in half.denoiser.parameters() if p.ndim > 1}
    assert torch.bfloat16 in kept
    words, latents, t = vectors(2, width=half.width), half.noise(range(2)), torch.tensor([0.2, 0.7])
    hidden = half.condition(["a <disc>"], {"<disc>": words})
    found = half.denoise(latents, t, hidden)
    for part in (whole, *whole.texts.encoders.values()):
        part.spec = half.spec
    assert torch.equal(whole.condition(["a <disc>"], {"<disc>": words}), hidden)
    assert torch.equal(whole.denoise(latents, t, hidden), found)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_in_half_precision_everything_is_near_what_it_is_in_float32(
    tiny_folder: Path, name: str, precision: str
) -> None:
    whole, half = (
        load_pipeline(str(tiny_folder / name), replace(SPEC, precision=p))
        for p in ("float32", precision)
    )
    words, latents, t = vectors(2, width=half.width), half.noise(range(2)), torch.tensor([0.2, 0.7])
    hidden = whole.condition(["a <disc>"], {"<disc>": words})
    near = {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(half.condition(["a <disc>"], {"<disc>": words}), hidden, **near)
    expected = whole.denoise(latents, t, hidden)
    torch.testing.assert_close(half.denoise(latents, t, hidden), expected, **near)


def test_what_is_too_large_for_float16_in_t5_is_read_nevertheless(tiny_folder: Path) -> None:
    """As in the encoder of Stable Diffusion 3 and FLUX."""
    half = load_pipeline(str(tiny_folder / "flux"), replace(SPEC, precision="float16"))
    t5 = half.texts.encoders["t5xxl"]
    for block in t5.encoder.encoder.block:
        block.layer[-1].DenseReluDense.wo.weight.data.mul_(1e6)
    found = half.condition(["a cat"])
    assert torch.isfinite(found).all()


def test_calls_count_batch_items(family: LatentModel) -> None:
    before = family.calls
    hidden = family.condition(["a cat"]).expand(5, -1, -1)
    family.denoise(family.noise(range(5)), torch.full((5,), 0.5), hidden)
    assert family.calls - before == 5
    family.generate(hidden[:2], [0, 1], steps=3)
    assert family.calls - before == 5 + 3 * 2 * family.guidance_calls  # steps, pictures
    family.generate(hidden[:2], [0, 1], steps=3, guidance=1.0)
    assert family.calls - before == 5 + 3 * 2 * (family.guidance_calls + 1)


def test_no_picture_is_drawn_with_noise_that_comes_from_no_seed(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = DPMSolverMultistepScheduler.from_config(
        model.scheduler.config, algorithm_type="sde-dpmsolver++"
    )
    plain = model.generate(model.condition(["a cat"]), [3], steps=4)
    monkeypatch.setattr(model, "scheduler", own)
    assert torch.equal(model.generate(model.condition(["a cat"]), [3], steps=4), plain)


def test_a_picture_does_not_depend_on_those_beside_it(family: LatentModel) -> None:
    assert torch.equal(family.noise([5, 6, 7])[1:], family.noise([6, 7]))


def test_words_drawn_together_are_drawn_as_each_alone(family: LatentModel) -> None:
    words = torch.randn(2, 1, family.width, generator=torch.Generator().manual_seed(3))
    learned = [Word("<x>", vectors) for vectors in words]
    drawn = images_of_each(family, "a <x>", learned, 2, 0)
    for word, pictures in zip(learned, drawn, strict=True):
        alone = images_of(family, "a <x>", word, 2, 0)
        torch.testing.assert_close(pictures, alone, rtol=0, atol=1e-4)  # rounding


def test_no_row_is_computed_that_nobody_asked_for(family: LatentModel) -> None:
    rows: list[int] = []
    passed = family._function

    def counting(*inputs: Tensor) -> Tensor:
        rows.append(len(inputs[0]))
        return passed(*inputs)

    family._running = counting
    try:
        for count, expected in ((1, [1]), (2, [2]), (16, [16]), (21, [16, 5]), (37, [32, 5])):
            hidden = family.condition(["a cat"] * count)
            family.spec = replace(family.spec, batch=32)
            found = family.denoise(family.noise(range(count)), torch.full((count,), 0.5), hidden)
            assert rows == expected and len(found) == count
            rows.clear()
        images_of(family, "a cat", None, 1, 0)  # without a prompt, it may be shorter
        assert sum(rows) == STEPS * family.guidance_calls
        assert len(rows) == STEPS or set(rows) == {1}
    finally:
        family._running = passed


def test_the_encoders_of_a_word_make_up_its_width(family: LatentModel) -> None:
    assert list(family.encoders) == [n for n in ENCODERS if n in family.encoders]
    assert sum(family.encoders.values()) == family.width


def test_no_word_stays_in_the_model(family: LatentModel) -> None:
    before, words = family.condition(["a photo of a cat"]), family.vocabulary()
    family.condition(["a <disc> cat"], {"<disc>": vectors(4, width=family.width)})
    assert torch.equal(family.condition(["a photo of a cat"]), before)
    assert torch.equal(family.vocabulary().vectors, words.vectors)


def test_a_placeholder_that_would_be_cut_off_is_refused(family: LatentModel) -> None:
    words = {"<disc>": vectors(1, width=family.width)}
    with pytest.raises(WordError, match=f"at most {family.prompt_room} tokens"):
        family.condition(["red house " * 60 + "<disc>"], words)


def test_the_vocabulary_holds_whole_words(family: LatentModel) -> None:
    vocabulary = family.vocabulary()
    assert "cat" in vocabulary.words and "c" not in vocabulary.words
    place = vocabulary.words.index("cat")
    assert torch.equal(vocabulary.vectors[place], family.embed("cat")[0])
    assert family.has_token("cat") and family.has_token("Cat") and not family.has_token("<cat>")


# Families, the encoders of a word, and how long the parts of its vectors then are.
CHOICES = [
    ("flow", "", (16, 16)),
    ("flow-t5", "t5xxl, clip_l", (16, 40)),
    ("xl", "", (16, 24)),
    ("xl", "clip_g", (24,)),
    ("flux", "", (16,)),
    ("flux", "clip_l,t5xxl", (16, 20)),
    ("epsilon", "clip_l", (16,)),
    ("klein", "", (16,)),
    ("chroma", "t5xxl", (20,)),
]


@pytest.mark.parametrize(("name", "encoders", "parts"), CHOICES)
def test_a_word_lives_in_its_encoders(name: str, encoders: str, parts: tuple[int, ...]) -> None:
    own = PIPELINES[name]
    model = own.family(own.build(), replace(SPEC, encoders=encoders))
    assert set(model.spec.encoders.split(",")) == {
        e.strip() for e in (encoders or ",".join(model.texts.carriers)).split(",")
    }
    assert model.width == sum(parts) and model.vocabulary().parts == parts
    assert model.embed("cat").shape == (1, sum(parts))
    cat = model.embed("cat")[None]
    found = model.condition(["a photo of a <disc>"], {"<disc>": cat})
    whole = model.condition(["a photo of a cat"])
    if len(parts) == len(model.texts.encoders):
        torch.testing.assert_close(found, whole)
    else:  # the other encoders read the prompt without the word
        assert not torch.allclose(found, whole)
    for start, end in itertools.pairwise(itertools.accumulate(parts, initial=0)):
        changed = cat.clone()
        changed[..., start:end] *= -1
        again = model.condition(["a photo of a <disc>"], {"<disc>": changed})
        assert not torch.allclose(again, found)


@pytest.mark.parametrize(
    ("name", "encoders"), [("xl", "t5xxl"), ("flow", "clip_l,clip_h"), ("klein", "clip_l")]
)
def test_encoders_that_a_model_has_not_are_refused(name: str, encoders: str) -> None:
    own = PIPELINES[name]
    with pytest.raises(SettingError, match="`encoders` must be among"):
        own.family(own.build(), replace(SPEC, encoders=encoders))


@pytest.mark.parametrize("name", ["flux", "xl"])
def test_the_pooled_prompt_is_that_of_the_end_token(name: str) -> None:
    """With the end token 2 of the first configs, transformers takes the highest id for the end: a
    token that was added to the vocabulary, where a prompt has one.
    """
    own = PIPELINES[name]
    pipe = own.build()
    for part in ("", "_2")[: 1 if name == "flux" else 2]:
        encoder, words = (getattr(pipe, n + part) for n in ("text_encoder", "tokenizer"))
        assert encoder.config.eos_token_id == 2
        words.add_tokens("<added>")
        encoder.resize_token_embeddings(len(words))
    prompts = ["a <added> on the beach", "a <added> in the snow"]
    _, wrong = encoded(pipe, prompts)
    model = own.family(pipe, SPEC)
    _, right = encoded(pipe, prompts)  # the pipeline's encoders are put right when they are taken
    assert wrong is not None and right is not None
    # What follows the added token in the prompt did not come through.
    torch.testing.assert_close(wrong[0], wrong[1])
    assert not torch.allclose(right[0], right[1])
    width = right.shape[1]
    torch.testing.assert_close(model.condition(prompts)[:, -1, :width], right)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_denoiser_without_noise_to_take_off(prediction: str) -> None:
    """A schedule that ends in pure noise (Lin et al. 2024) has a finite last level."""
    pipe = tiny.xl_pipeline(prediction)
    pipe.scheduler = EulerDiscreteScheduler.from_config(
        pipe.scheduler.config, rescale_betas_zero_snr=True
    )
    model = StableDiffusionXL(pipe, SPEC)
    levels = torch.tensor(model.schedule(4))
    assert levels.isfinite().all() and levels[0] > 1000


def test_schedulers_of_other_processes_are_refused() -> None:
    pipe = tiny.xl_pipeline()
    pipe.scheduler = EDMEulerScheduler()
    with pytest.raises(ModelError, match="EDMEulerScheduler"):
        StableDiffusionXL(pipe, SPEC)
    pipe = tiny.xl_pipeline()
    pipe.vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    with pytest.raises(ModelError, match="one scale"):
        StableDiffusionXL(pipe, SPEC)


@pytest.mark.parametrize(("name", "size"), [("model", 15), ("flow", 18), ("flow", 64), ("flux", 6)])
def test_sizes_that_a_model_cannot_draw(tiny_folder: Path, name: str, size: int) -> None:
    with pytest.raises(SettingError, match="`size`"):
        load_pipeline(str(tiny_folder / name), replace(SPEC, size=size))


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_packing_is_that_of_diffusers(count: int, channels: int, rows: int, columns: int) -> None:
    height, width = 2 * rows, 2 * columns
    latents = torch.randn(count, channels, height, width)
    packed = pack(latents)
    assert torch.equal(packed, FluxPipeline._pack_latents(latents, count, channels, height, width))
    assert torch.equal(unpack(packed, height, width), latents)


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
    with pytest.raises(ModelError, match=r"no pipeline: it has no model_index\.json"):
        load_model(ModelSpec(str(tmp_path)))


def test_impossible_specs_are_refused() -> None:
    with pytest.raises(SettingError, match="precision"):
        load_model(ModelSpec(precision="float8"))
    with pytest.raises(SettingError, match="batch"):
        load_model(ModelSpec(batch=-1))


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
    with pytest.raises(ModelError, match="`clip` must be stickers, a folder or a hub id"):
        Clip.load("/no/such/clip")
