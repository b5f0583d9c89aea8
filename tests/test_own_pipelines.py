"""Each family reads prompts and draws pictures as its own pipeline of diffusers does."""

import itertools
from pathlib import Path

import pytest
import torch

from evoken.models.families.prompted import PromptedFlow
from tests.own_pipelines import NEAR, PIPELINES, SIZES, SPEC, encoded, pictures, tokens_of_each

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
PROMPTS = ["a photo of a dog", "", "the red house " * 60]


@pytest.mark.parametrize("name", PIPELINES)
def test_prompts_are_read_as_diffusers_reads_them(name: str) -> None:
    own = PIPELINES[name]
    if issubclass(own.family, PromptedFlow):
        expected = tokens_of_each(own.build(), PROMPTS)
        found = own.family(own.build(), SPEC).condition(PROMPTS)
        for one, hidden in zip(expected, found, strict=True):
            length = int(hidden[:, -1].sum())
            assert length == len(one) and not hidden[length:].any()
            torch.testing.assert_close(hidden[:length, :-1], one, rtol=1e-4, atol=1e-5)
        return
    pipe = own.build()
    tokens, pooled = encoded(pipe, PROMPTS)
    found = own.family(pipe, SPEC).condition(PROMPTS)
    last = len(found[0]) - (pooled is not None)
    width = tokens.shape[2]
    torch.testing.assert_close(found[:, :last, :width], tokens, rtol=1e-4, atol=1e-5)
    if pooled is not None:
        width = pooled.shape[1]
        torch.testing.assert_close(found[:, -1, :width], pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_those_of_diffusers(name: str, size: int) -> None:
    found, expected = pictures(name, size)
    assert found.shape[-1] == size
    torch.testing.assert_close(found, expected, rtol=NEAR, atol=NEAR)


@pytest.mark.parametrize("name", ["z-image", "sana", "lumina-2", "chroma", "klein-base"])
def test_negative_prompts_are_read_as_diffusers_reads_them(name: str) -> None:
    own = PIPELINES[name]
    pipe = own.build()
    said, asked = ["a red house"], {"max_sequence_length": 100}
    if name == "chroma":
        asked = {"max_sequence_length": 24}
    if name == "klein-base":
        expected = pipe.encode_prompt(said, max_sequence_length=112)[0]
    else:
        found = pipe.encode_prompt(["a cat"], negative_prompt=[*said], **asked)
        expected = found[{"z-image": 1, "sana": 2, "lumina-2": 2, "chroma": 3}[name]]
    model = own.family(own.build(), SPEC)
    (hidden,) = model.condition_negative(said)
    length = int(hidden[:, -1].sum())
    torch.testing.assert_close(hidden[:, :-1], expected[0][:length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["klein-base", "qwen-image", "sana", "z-image"])
def test_pictures_are_encoded_as_denoisers_read_them(name: str, images: torch.Tensor) -> None:
    own = PIPELINES[name]
    pipe, model = own.build(), own.family(own.build(), SPEC)
    found = model.encode(images)
    with torch.no_grad():
        if name == "klein-base":
            expected = pipe._encode_vae_image(images, None)
        elif name == "qwen-image":  # as its pipelines that edit do it
            mean, std = (torch.tensor(pipe.vae.config[f"latents_{n}"]) for n in ("mean", "std"))
            plain = pipe.vae.encode(images[:, :, None]).latent_dist.mode()[:, :, 0]
            expected = (plain - mean[:, None, None]) / std[:, None, None]
        elif name == "sana":
            expected = pipe.vae.encode(images).latent * pipe.vae.config.scaling_factor
        else:
            expected = (pipe.vae.encode(images).latent_dist.mode() - 0.1) * 0.5
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape == model.noise(range(len(images))).shape
    again = model.autoencoder.scaled(model.autoencoder.unscaled(found))
    torch.testing.assert_close(again, found, rtol=1e-4, atol=1e-5)


def test_the_table_in_the_docs_is_this_battery() -> None:
    lines = PAGE.read_text(encoding="utf-8").split("|---|---|---|---|---|---|\n")[1].splitlines()
    rows = [line.strip("|").split(" | ") for line in itertools.takewhile(bool, lines)]
    found = {row[0].strip(): row[1].strip().strip("`") for row in rows}
    assert found == {own.kind: type(own.build()).__name__ for own in PIPELINES.values()}
    for own in PIPELINES.values():
        model = own.family(own.build(), SPEC)
        (row,) = (row for row in rows if row[0].strip() == own.kind)
        assert ("two calls" in row[4]) == (model.guidance_calls == 2)
