"""CLIP's own vocabulary of 49,408 tokens, on a small Stable Diffusion."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPTextModel

from evoken.errors import WordError
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.spec import ModelSpec
from evoken.textual_inversion.learn import check_placeholder
from tests import real, tiny

PROMPTS = ["a photo of a <disc> on the beach", "crème brûlée, <disc>!", "a cat’s <disc> " * 60]


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    """With the sizes of the real text encoder that a tokenizer sees."""
    found = tiny.pipeline()
    config = tiny.text_config(real.tokenizer())
    config.max_position_embeddings = real.ROOM
    torch.manual_seed(7)
    found.register_modules(tokenizer=real.tokenizer(), text_encoder=CLIPTextModel(config).eval())
    return found


@pytest.fixture(scope="module")
def model(pipe: StableDiffusionPipeline) -> StableDiffusion:
    return StableDiffusion(pipe, ModelSpec("real words"))


def test_it_is_the_real_one() -> None:
    """Its ids are in every description of CLIP."""
    words = real.tokenizer()
    assert len(words) == 49_408
    assert words("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_words_can_be_borrowed_from_it(model: StableDiffusion) -> None:
    words = model.vocabulary().words
    assert {"teapot", "sunflower", "watercolor", "café", "природа"} <= set(words)
    assert not [w for w in words if "\u00c3" in w or "<" in w]  # bytes are put together to letters
    assert 32_000 < len(words) < 33_000


def test_prompts_are_read_as_diffusers_reads_them(
    model: StableDiffusion, pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    word = torch.randn(2, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"<disc>": word}, tmp_path / "learned_embeds.safetensors")
    found = [model.condition([p], {"<disc>": word[None]}) for p in PROMPTS[:2]]
    plain = model.condition(["a cat’s café"])
    pipe.load_textual_inversion(str(tmp_path))
    for prompt, hidden in zip(PROMPTS, found, strict=False):
        expected, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-5)
    expected, _ = pipe.encode_prompt("a cat’s café", "cpu", 1, False)
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(WordError, match="at most 75 tokens"):
        model.condition([PROMPTS[2]], {"<disc>": word[None]})


@pytest.mark.parametrize("placeholder", ["<teapot>", "<my-dog_2.0>"])
def test_placeholders_are_new_to_it(model: StableDiffusion, placeholder: str) -> None:
    check_placeholder(placeholder, model)
    assert model.has_token("teapot") and not model.has_token(placeholder)
