"""What loads where: diffusers' own loader, and the rules of A1111, Forge, ComfyUI and InvokeAI, on
every kind of file; docs/formats.md shows the result.
"""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from evoken.models.bases import encoder_of_width
from evoken.words.convert import TOOLS, convert
from tests import other_tools, tiny
from tests.other_tools import RefusedError
from tests.words import BASE_OF, OLD, a1111_dict, embedding, pt, save, vectors

PAGE = (Path(__file__).parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
TOKEN = "<my cat>"

# diffusers: real pipelines, with text encoders of the real widths and a single layer. Their configs
# have the end of text that the hub's have.


@cache
def encoder(name: str) -> Any:
    if name == "t5xxl":
        size = {"d_model": 4096, "d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1}
        return T5EncoderModel(T5Config(vocab_size=len(tiny.tokenizer()), **size)).eval()
    width = {"clip_l": 768, "clip_g": 1280, "clip_h": 1024}[name]
    words = tiny.tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        projection_dim=16,
        eos_token_id=2,
        bos_token_id=words.bos_token_id,
        pad_token_id=words.pad_token_id,
    )
    projected = name == "clip_g"
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def pipeline(base: str) -> Any:
    """A fresh pipeline with the base's text encoders, and nothing that draws."""
    first, second = (tiny.tokenizer() for _ in range(2))
    names = {"SD2": ("clip_h",), "SDXL": ("clip_l", "clip_g"), "FLUX": ("clip_l", "t5xxl")}
    one, *two = (copy.deepcopy(encoder(name)) for name in names.get(base, ("clip_l",)))
    if base == "SDXL":
        return StableDiffusionXLPipeline(
            vae=None,
            unet=None,
            scheduler=DDPMScheduler(),
            text_encoder=one,
            tokenizer=first,
            text_encoder_2=two[0],
            tokenizer_2=second,
        )
    if base == "FLUX":
        return FluxPipeline(
            vae=None,
            transformer=None,
            scheduler=FlowMatchEulerDiscreteScheduler(),
            text_encoder=one,
            tokenizer=first,
            text_encoder_2=two[0],
            tokenizer_2=second,
        )
    pipe = tiny.pipeline()
    pipe.register_modules(text_encoder=one, tokenizer=first)
    return pipe


def embedded(text_encoder: Any, tokenizer: Any, token: str, count: int) -> Tensor:
    """The vectors that a pipeline now has for a token and those that follow it."""
    tokens = [token, *(f"{token}_{i}" for i in range(1, count))]
    ids = tokenizer.convert_tokens_to_ids(tokens)
    return text_encoder.get_input_embeddings().weight[ids]


def of_diffusers(path: Path, base: str, count: int) -> str:
    if base == "SD3":
        assert not hasattr(StableDiffusion3Pipeline, "load_textual_inversion")
        return "no"
    pipe = pipeline(base)
    try:
        pipe.load_textual_inversion(str(path))
    except ValueError:
        return "for each encoder"
    if TOKEN in pipe.tokenizer.get_vocab():
        assert torch.equal(
            embedded(pipe.text_encoder, pipe.tokenizer, TOKEN, count), expected(base, count)
        )
        return "yes"
    return "with `token=`"


def expected(base: str, count: int) -> Tensor:
    return embedding(base, count).vectors["clip_h" if base == "SD2" else "clip_l"]


def of_webui(load: Callable[..., Any], path: Path, base: str) -> str:
    try:
        found = load(path, base)
    except RefusedError:
        return "**no**: error"
    if base == "FLUX" and load is other_tools.a1111:
        return "no"
    if found is None:
        return "**no**: passed over"
    if load is other_tools.forge and len(other_tools.FORGE_WIDTHS[base]) > 1:
        return f"{encoder_of_width(found[''].shape[-1])} only"
    return "yes"


def of_comfyui(path: Path, base: str) -> str:
    found, needed = other_tools.comfyui(path, base), other_tools.COMFY_ENCODERS[base]
    return "yes" if set(found) == set(needed) else " and ".join(found) + " only"


def of_invokeai(path: Path, base: str) -> str:
    try:
        taken, _ = other_tools.invokeai(path)
    except RefusedError:
        return "**no**: error"
    return "yes" if taken == base else f"**no**: taken for {taken}"


L, L3 = (embedding("SD1", n).vectors["clip_l"] for n in (1, 3))
G3, T3 = vectors(1280, 3), vectors(4096, 3)
FILES: list[tuple[str, str, bytes, int]] = [
    # as the page shows it, base, content, vectors
    ('`{"<cat>": [1, 768]}`', "SD1", save({TOKEN: L}), 1),
    ('`{"<cat>": [768]}`', "SD1", save({TOKEN: L[0]}), 1),
    ('`{"<cat>": [3, 768]}`', "SD1", save({TOKEN: L3}), 3),
    ('`{"emb_params": [n, 768]}`', "SD1", save({"emb_params": L3}), 3),
    ('`{"emp_params": [n, 768]}`', "SD1", save({"emp_params": L3}), 3),
    ('`{"clip_l": [n, 768]}`', "SD1", save({"clip_l": L3}), 3),
    ("A1111's .pt as torch 2.13 writes it", "SD1", pt(a1111_dict(L3)), 3),
    ("A1111's .pt, the older serialization", "SD1", pt(a1111_dict(L3), **OLD), 3),
    ("`{clip_l, clip_g}`", "SDXL", save({"clip_l": L3, "clip_g": G3}), 3),
    ("`{clip_l, clip_g}`", "SD3", save({"clip_l": L3, "clip_g": G3}), 3),
    (
        "`{clip_l, clip_g, t5xxl, t5}`",
        "SD3",
        save({"clip_l": L3, "clip_g": G3, "t5xxl": T3, "t5": T3}),
        3,
    ),
    ("`{clip_l}`", "SDXL", save({"clip_l": L3}), 3),
    ("`{clip_g}`", "SDXL", save({"clip_g": G3}), 3),
    ("`{clip_l}`", "SD3", save({"clip_l": L3}), 3),
    ("`{clip_g}`", "SD3", save({"clip_g": G3}), 3),
    ("`{clip_l, t5xxl}`", "FLUX", save({"clip_l": L3, "t5xxl": T3}), 3),
    ("`{clip_l, t5}`", "FLUX", save({"clip_l": L3, "t5": T3}), 3),
    ("`{clip_l}`", "FLUX", save({"clip_l": L3}), 3),
    ("`{t5xxl}`", "FLUX", save({"t5xxl": T3}), 3),
]


def row(label: str, base: str, path: Path, count: int) -> str:
    cells = (
        of_diffusers(path, base, count),
        of_webui(other_tools.a1111, path, base),
        of_webui(other_tools.forge, path, base),
        of_comfyui(path, base),
        of_invokeai(path, base),
    )
    return f"| {label} | {BASE_OF[base].name} | {' | '.join(cells)} |"


@pytest.mark.parametrize(("label", "base", "content", "count"), FILES, ids=lambda x: str(x)[:40])
def test_what_loads_where_is_as_the_page_says(
    label: str, base: str, content: bytes, count: int, tmp_path: Path
) -> None:
    path = tmp_path / ("cat.pt" if ".pt" in label else "cat.safetensors")
    path.write_bytes(content)
    found = row(label, base, path, count)
    assert found in PAGE.splitlines()


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_written_for_whom_is_as_the_page_says(tool: str) -> None:
    names = []
    for base, sets in TOOLS[tool].items():
        single = [encoders[0] for encoders in sets if len(encoders) == 1]
        told = f" ({' or '.join(single)} alone)" if len(single) == len(sets) else " (or some)"
        names.append(base.name + (told if single and len(base.widths) > 1 else ""))
    assert f"| `{tool}` | {', '.join(names)} |" in PAGE.splitlines()


# What evoken writes is what each program takes, and nothing of it is lost.


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("base", ["SD1", "SD2"])
@pytest.mark.parametrize("tool", TOOLS)
def test_words_of_one_encoder(tool: str, base: str, count: int, tmp_path: Path) -> None:
    converted = convert(embedding(base, count), tool, tmp_path)
    converted.write()
    one, path = expected(base, count), converted.path
    for found in (other_tools.a1111(path, base), other_tools.forge(path, base)):
        assert found is not None and torch.equal(found[""], one)
    (found,) = other_tools.comfyui(path, base).values()
    assert torch.equal(found, one)
    if tool != "diffusers":
        assert path.stem == "my-cat"
        taken, parts = other_tools.invokeai(path)
        assert taken == base and torch.equal(parts[""], one)
    pipe = pipeline(base)
    if tool == "diffusers":
        exec(converted.usage, {"pipe": pipe})
    else:
        pipe.load_textual_inversion(str(path), token=TOKEN)
    assert torch.equal(embedded(pipe.text_encoder, pipe.tokenizer, TOKEN, count), one)


@pytest.mark.parametrize("tool", ["a1111", "forge", "comfyui", "invokeai", "diffusers"])
def test_words_of_stable_diffusion_xl(tool: str, tmp_path: Path) -> None:
    word = embedding("SDXL", 2)
    converted = convert(word, tool, tmp_path)
    converted.write()
    path = converted.path
    read = [other_tools.a1111(path, "SDXL"), other_tools.forge(path, "SDXL")]
    taken, parts = other_tools.invokeai(path)
    assert taken == "SDXL"
    for found in (*read, other_tools.comfyui(path, "SDXL"), parts):
        assert found is not None and set(found) == {"clip_l", "clip_g"}
        assert all(torch.equal(found[name], word.vectors[name]) for name in found)


def test_words_of_stable_diffusion_3_and_flux(tmp_path: Path) -> None:
    for base, tool, needed in (
        ("SD3", "comfyui", {"clip_l", "clip_g", "t5xxl"}),
        ("SD3", "a1111", {"clip_l", "clip_g"}),
        ("FLUX", "comfyui", {"clip_l", "t5xxl"}),
        ("FLUX", "forge", {""}),
    ):
        word = embedding(base, 2, t5=True)
        converted = convert(word, tool, tmp_path / base / tool)
        converted.write()
        found = getattr(other_tools, tool)(converted.path, base)
        assert set(found) == needed
        for name, one in found.items():
            assert torch.equal(one, word.vectors[name or "clip_l"])


def test_the_run_folder_s_own_file_is_the_one_that_diffusers_looks_for(tmp_path: Path) -> None:
    (tmp_path / "learned_embeds.bin").write_bytes(pt({TOKEN: L3}))
    pipe: StableDiffusionPipeline = pipeline("SD1")
    pipe.load_textual_inversion(str(tmp_path))
    assert torch.equal(embedded(pipe.text_encoder, pipe.tokenizer, TOKEN, 3), L3)


# The rules themselves are worth what they refuse.


def test_the_check_of_a1111_finds_what_it_must(tmp_path: Path) -> None:
    path = tmp_path / "cat.pt"
    path.write_bytes(convert(embedding("SD1"), "pt", tmp_path).content)
    other_tools.check_pt(path)
    for content in (pt({"a": L}), pt({"a": Path}), pt({"a": Path}, **OLD)):
        path.write_bytes(content)
        with pytest.raises(RefusedError):
            other_tools.check_pt(path)
