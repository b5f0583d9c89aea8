"""The sticker models are stored in parts; put together, they are what any tool can load."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusion3Pipeline, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

import evoken
from evoken.errors import ModelError, SettingError
from evoken.models.embedded import EMBEDDED, STICKERS
from evoken.models.provenance import weights_hash
from stickers import world
from stickers.autoencoder import to_images
from stickers.export import export, unpack
from stickers.vocabulary import MAX_TOKENS
from tests.commands import QUICK
from tests.commands import evoken as command

OTTER = Path(__file__).parent.parent / "examples" / "otter"
KINDS = {"stickers": StableDiffusionPipeline, "stickers-flow": StableDiffusion3Pipeline}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for name in EMBEDDED:
        assert evoken.export_embedded(name, folder / name) == folder / name
    return folder


@pytest.mark.parametrize("name", EMBEDDED)
def test_diffusers_loads_the_exported_folder_and_draws(exported: Path, name: str) -> None:
    pipeline = KINDS[name].from_pretrained(exported / name)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a photo of a cat", num_inference_steps=2).images[0]
    assert picture.size == (64, 64)


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_exported_model_is_the_embedded_one_bit_for_bit(exported: Path, name: str) -> None:
    theirs = evoken.load_model(evoken.ModelSpec(str(exported / name)))
    ours = evoken.load_model(evoken.ModelSpec(name))
    prompts = ["a photo of a cat on the beach"]
    hidden, other = ours.condition(prompts), theirs.condition(prompts)
    tokens = ours.prompt_room + 2  # the folder's empty T5 adds zeros after them
    assert torch.equal(other[:, :tokens], hidden[:, :tokens])
    assert torch.equal(other[:, -1], hidden[:, -1])
    latents, t = ours.noise([0]), torch.tensor([0.5])
    assert torch.equal(theirs.denoise(latents, t, hidden), ours.denoise(latents, t, hidden))
    assert torch.equal(theirs.decode(latents), ours.decode(latents))
    assert weights_hash(str(exported / name)) == weights_hash(name)


@torch.no_grad()
def test_a_training_script_that_samples_the_posterior_sees_the_loss_of_its_mode(
    exported: Path,
) -> None:
    """The loss of diffusers' textual_inversion.py, with the same noise for both latents."""
    pipeline = StableDiffusionPipeline.from_pretrained(exported / "stickers")
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    images = to_images(np.stack(world.concept("otter")), torch.device("cpu")).repeat(4, 1, 1, 1)
    posterior = pipeline.vae.encode(images).latent_dist
    assert posterior.std.unique().numel() == 1
    assert posterior.std.max() < 0.01 * posterior.mode().std()
    prompt = ["a photo of an animal"] * len(images)
    hidden, _ = pipeline.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(posterior.mean.shape, generator=generator)
    steps = torch.arange(len(images)) * 1000 // len(images)
    losses = []
    for latents in (posterior.sample(generator), posterior.mode()):
        noisy = scheduler.add_noise(latents * pipeline.vae.config.scaling_factor, noise, steps)
        predicted = pipeline.unet(noisy, steps, hidden).sample
        losses.append(float((predicted - noise).square().mean()))
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_both_models_read_with_the_text_tower_of_clip(exported: Path) -> None:
    clip = CLIPModel.from_pretrained(STICKERS / "clip", dtype=torch.float16)
    tower, projection = clip.text_model.state_dict(), clip.text_projection.weight
    flow = StableDiffusion3Pipeline.from_pretrained(exported / "stickers-flow", dtype=torch.float16)
    one = StableDiffusionPipeline.from_pretrained(exported / "stickers", dtype=torch.float16)
    for encoder in (one.text_encoder, flow.text_encoder, flow.text_encoder_2):
        found = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
        assert all(torch.equal(found[name], value) for name, value in tower.items())
        assert len(found) == len(tower) + ("text_projection.weight" in found)
    for encoder in (flow.text_encoder, flow.text_encoder_2):
        assert torch.equal(encoder.text_projection.weight, projection)
    assert len(CLIPTokenizer.from_pretrained(STICKERS / "clip")) <= MAX_TOKENS


def test_a_folder_that_holds_the_model_stays_and_others_are_refused(exported: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (exported / "stickers").rglob("*")}
    evoken.export_embedded("stickers", exported / "stickers")
    assert {p: p.stat().st_mtime_ns for p in (exported / "stickers").rglob("*")} == before
    with pytest.raises(SettingError, match="holds something else"):
        evoken.export_embedded("stickers-flow", exported / "stickers")
    with pytest.raises(ModelError, match="stickers or stickers-flow"):
        evoken.export_embedded("sticker", exported / "other")


def test_the_code_of_a_sticker_words_card_works_as_it_stands(own_folder: None) -> None:
    result = command("learn", OTTER, *QUICK, "--output", "run")
    assert result.exit_code == 0, result.output
    code, _, _ = Path("run/README.md").read_text().split("```python\n")[1].partition("```")
    exec(code, {})
    with Image.open("picture.png") as picture:
        assert picture.size == (64, 64)


def test_what_is_shipped_is_what_the_export_of_the_training_writes(tmp_path: Path) -> None:
    unpack(STICKERS, tmp_path)
    export(tmp_path, tmp_path / "weights")
    shipped = {p.relative_to(STICKERS) for p in STICKERS.rglob("*") if p.is_file()}
    written = {
        p.relative_to(tmp_path / "weights")
        for p in (tmp_path / "weights").rglob("*")
        if p.is_file()
    }
    assert written == shipped
    # Cards have their numbers elsewhere; the empty T5 is made anew.
    for path in (
        p for p in shipped if p.suffix == ".safetensors" and "text_encoder_3" not in p.parts
    ):
        assert (tmp_path / "weights" / path).read_bytes() == (STICKERS / path).read_bytes(), path


def test_every_part_is_stored_once() -> None:
    weights = [p for p in STICKERS.rglob("*") if p.suffix in (".safetensors", ".bin", ".pt")]
    assert {str(p.parent.relative_to(STICKERS)) for p in weights} == {
        "clip",
        "judge",
        "stickers-flow/text_encoder_3",
        "stickers-flow/transformer",
        "stickers/unet",
        "vae",
    }
    assert all(p.suffix == ".safetensors" for p in weights)
