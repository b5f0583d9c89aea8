"""GGUF files of a denoiser; the rest of the model comes from the pipeline beside them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    GGUFQuantizationConfig,
)
from safetensors.torch import load_file
from torch import Tensor

from evoken.errors import ModelError
from evoken.models import quantized as methods
from evoken.models.card import on_card
from evoken.models.quantized import is_quantized
from evoken.quiet import quiet_loading
from tests import ldm, mmdit, quantizing, tiny, tiny_language
from tests.commands import QUICK, evoken, refused
from tests.own_pipelines import NEAR, PIPELINES, pictures_of
from tests.test_quantized import loaded, predicted
from tests.test_single_files import beside

pytestmark = pytest.mark.usefixtures("narrow_flux")


def denoiser_of(pipe: DiffusionPipeline, folder: Path) -> dict[str, Tensor]:
    """Its weights by the names of the first release, as converters find them."""
    is_unet = hasattr(pipe, "unet")
    file = (ldm if is_unet else mmdit).save(pipe, folder / "one.safetensors")
    inner = "model.diffusion_model."
    found = {k: v for k, v in load_file(file).items() if k.startswith(inner) or not is_unet}
    return {name.removeprefix(inner): value for name, value in found.items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_a_gguf_file_draws_as_its_own_pipeline(kind: str, precision: str, tmp_path: Path) -> None:
    pipe, dtype = tiny.flux_pipeline(), getattr(torch, precision)
    file = quantizing.gguf(denoiser_of(pipe, tmp_path), tmp_path / "a.gguf", kind, "flux")
    config = beside(pipe, tmp_path / "rest", "transformer")
    model = loaded(file, precision, config=str(config))
    assert model.precision == f"{precision}; transformer: gguf {kind}"
    with quiet_loading():
        kept = GGUFQuantizationConfig(compute_dtype=dtype)
        of = {"config": str(config), "subfolder": "transformer", "dtype": dtype}
        denoiser = FluxTransformer2DModel.from_single_file(
            str(file), quantization_config=kept, **of
        )
        own = FluxPipeline.from_pretrained(config, transformer=denoiser, dtype=dtype)
    found, expected = pictures_of(PIPELINES["flux"], model, own)
    near = NEAR if precision == "float32" else 0.05
    torch.testing.assert_close(found, expected.float(), rtol=near, atol=near)


MADE: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd1": tiny.pipeline,
    "sdxl": tiny.xl_pipeline,
    "sd3": tiny.flow_pipeline,
    "lumina2": tiny_language.z_image_pipeline,  # as converters say of it
}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("kind", MADE)
def test_a_gguf_file_is_near_what_it_was_made_from(kind: str, flat: bool, tmp_path: Path) -> None:
    """Also where converters wrote matrices in rows of another length."""
    pipe = MADE[kind]()
    named = kind == "lumina2"  # with the names of diffusers
    weights = dict(pipe.transformer.state_dict()) if named else denoiser_of(pipe, tmp_path)
    file = quantizing.gguf(weights, tmp_path / "a.gguf", "Q8_0", kind, flat)
    whole = beside(pipe, tmp_path / "whole")
    model, expected = loaded(file, config=str(whole)), predicted(loaded(whole))
    assert flat or any(map(is_quantized, model.denoiser.modules()))
    assert not torch.equal(predicted(model), expected)
    torch.testing.assert_close(predicted(model), expected, rtol=0.03, atol=0.03)


def test_a_gguf_denoiser_comes_and_leaves_as_it_is(tmp_path: Path) -> None:
    """Its weights know what they are, as does every copy of them."""
    pipe = tiny.flow_pipeline()
    file = quantizing.gguf(denoiser_of(pipe, tmp_path), tmp_path / "a.gguf", "Q4_1", "sd3")
    model = loaded(file, config=str(beside(pipe, tmp_path / "rest")))
    expected, before = predicted(model), list(model.denoiser.parameters())
    with on_card(model.denoiser, "cpu", offload=True):  # where a copy is another tensor
        assert not any(x is y for x, y in zip(model.denoiser.parameters(), before, strict=True))
        assert torch.equal(predicted(model), expected)
    with on_card(model.vae, "cpu", offload=True):
        assert all(x is y for x, y in zip(model.denoiser.parameters(), before, strict=True))


def test_a_gguf_file_is_told_by_its_content(tmp_path: Path) -> None:
    pipe = tiny.flow_pipeline()
    file = quantizing.gguf(denoiser_of(pipe, tmp_path), tmp_path / "a.gguf")
    config = str(beside(pipe, tmp_path / "rest", "transformer"))
    expected = predicted(loaded(file, config=config))
    renamed = file.rename(tmp_path / "a.safetensors")
    assert torch.equal(predicted(loaded(renamed, config=config)), expected)
    folder = tmp_path / "alone"
    folder.mkdir()
    renamed.rename(folder / "a.gguf")
    with pytest.raises(ModelError, match=r"Give the file itself: .*a\.gguf"):
        loaded(folder)
    with pytest.raises(ModelError, match=r"is a GGUF file, which .* no `config` is given"):
        loaded(folder / "a.gguf")


@pytest.mark.usefixtures("own_folder")
def test_a_word_is_learned_on_a_gguf_file(photos: Path, tmp_path: Path) -> None:
    pipe = tiny.flow_pipeline()
    file = quantizing.gguf(denoiser_of(pipe, tmp_path), tmp_path / "a.gguf", "Q8_0", "sd3")
    config = beside(pipe, tmp_path / "rest", "transformer")
    how = ("--model", file, "--model-config", config, "--size", 16, "--device", "cpu")
    start = ("--start", "cat", "--clip", "")
    result = evoken("learn", photos, *how, *QUICK, *start, "--output", "run")
    assert result.exit_code == 0, result.output
    assert "float32; transformer: gguf Q8_0" in evoken("inspect", "run").output
    drawn = evoken("generate", "a <disc>", "--word", "run", "--count", 1, "--steps", 2)
    assert drawn.exit_code == 0, drawn.output
    refused(evoken("learn", photos, *how[:2], "--output", "two"), "GGUF", "--model-config")
    wrong = ("--runtime", "onnx", "--output", "two")
    refused(evoken("learn", photos, *how, *wrong), "--runtime must be torch", "quantised")
    refused(evoken("learn", photos, *how, "--precision", "float8", "--output", "two"), "float32")


@pytest.mark.parametrize("kind", ["flux", "sd1", "llama", ""])
def test_a_gguf_file_of_something_else(kind: str, tmp_path: Path) -> None:
    made = {"flux": tiny.flux_pipeline, "sd1": tiny.pipeline}.get(kind)
    weights = denoiser_of(made(), tmp_path) if made else {"token_embd.weight": torch.ones(32, 32)}
    file = quantizing.gguf(weights, tmp_path / "a.gguf", architecture=kind)
    config = beside(tiny.flow_pipeline(), tmp_path / "rest")
    said = f"the file says that it is of '{kind}'" if kind else "the kind of `config`."
    wanted = rf"a\.gguf is not the whole denoiser of Stable Diffusion 3, .*{said}"
    with pytest.raises(ModelError, match=wanted):
        loaded(file, config=str(config))


def test_a_gguf_file_with_holes_or_damage(tmp_path: Path) -> None:
    pipe = tiny.flow_pipeline()
    config = str(beside(pipe, tmp_path / "rest"))
    weights = denoiser_of(pipe, tmp_path)
    few = {k: v for k, v in weights.items() if "joint_blocks.1.x_block.mlp" not in k}
    file = quantizing.gguf(few, tmp_path / "a.gguf", architecture="sd3")
    with pytest.raises(ModelError, match="is not the whole denoiser"):
        loaded(file, config=config)
    content = quantizing.gguf(weights, file, architecture="sd3").read_bytes()
    for length in (4, 40, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"a\.gguf is damaged: "):
            loaded(file, config=config)


def test_a_gguf_file_needs_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = quantizing.gguf({"a.weight": torch.ones(32, 32)}, tmp_path / "a.gguf")
    config = beside(tiny.flow_pipeline(), tmp_path / "rest")
    monkeypatch.setattr(methods, "find_spec", lambda module: None if module == "gguf" else module)
    wanted = r"is a GGUF file, and there is no package gguf\. .*pip install 'evoken\[quantized\]'"
    with pytest.raises(ModelError, match=wanted):
        loaded(file, config=str(config))
