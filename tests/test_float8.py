"""Single files with weights in eight bits, with scales and without."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evoken.errors import ModelError
from evoken.models.single_file import check_complete
from tests import ldm, mmdit, tiny
from tests.test_quantized import loaded, predicted
from tests.test_single_files import beside
from tests.test_single_files import loaded as loaded_in

pytestmark = pytest.mark.usefixtures("narrow_flux")


def in_eight_bits(file: Path, names: str, scaled: bool) -> tuple[Path, Path]:
    """The file with matrices in float8, with scales or without; and what those are, in float32.

    Args:
        names: what those of the matrices contain.
    """
    small, plain = dict[str, Tensor](), dict[str, Tensor]()
    for name, value in load_file(file).items():
        plain[name] = small[name] = value
        if value.ndim == 2 and names in name:
            scale = value.abs().max() / 448 if scaled else torch.ones(())
            small[name] = (value / scale).to(torch.float8_e4m3fn)
            plain[name] = small[name].float() * scale
            if scaled and name.endswith(".weight"):
                layer = name.removesuffix("weight")
                small |= {f"{layer}scale_weight": scale, f"{layer}scale_input": torch.ones(())}
    if scaled:
        small["scaled_fp8"] = torch.empty(0, dtype=torch.float8_e4m3fn)
    save_file(small, eight := file.with_name("eight.safetensors"))
    save_file(plain, file)
    return eight, file


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", ["1", "xl", "3", "dev"])
def test_a_file_in_eight_bits_is_what_it_says(kind: str, scaled: bool, tmp_path: Path) -> None:
    make = {
        "1": tiny.pipeline,
        "xl": tiny.xl_pipeline,
        "3": tiny.flow_pipeline,
        "dev": tiny.flux_pipeline,
    }
    pipe = make[kind]()
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    file = (ldm if part == "unet" else mmdit).save(pipe, tmp_path / "one.safetensors")
    names = "" if kind == "dev" else "model.diffusion_model."
    eight, plain = in_eight_bits(file, names, scaled)
    config = beside(pipe, tmp_path / "rest")
    model, expected = loaded(eight, config=str(config)), predicted(loaded_in(plain, config))
    torch.testing.assert_close(predicted(model), expected, rtol=1e-4, atol=1e-5)
    assert model.precision == f"float32; {part}: float8_e4m3fn"
    half = predicted(loaded(eight, "bfloat16", config=str(config)))
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("runtime", ["torch", "torch-int8"])
def test_scales_may_lead_out_of_the_range_of_float16(runtime: str, tmp_path: Path) -> None:
    """Weights are exact in the precision of the model, not rounded to another one before."""
    pipe = tiny.flux_pipeline()
    file, _ = in_eight_bits(mmdit.save(pipe, tmp_path / "one.safetensors"), "", scaled=True)
    weights = load_file(file)
    factors = {"img_in": 1e6, "txt_in": 1e-6}
    for layer, factor in factors.items():
        weights[f"{layer}.scale_weight"] *= factor
    save_file(weights, file)
    config = str(beside(pipe, tmp_path / "rest"))
    model = loaded(file, "bfloat16", config=config, runtime=runtime)
    for layer, inner in (("img_in", "x_embedder"), ("txt_in", "context_embedder")):
        whole = weights[f"{layer}.weight"].float() * weights[f"{layer}.scale_weight"]
        assert torch.equal(getattr(model.denoiser, inner).weight, whole.bfloat16())
    assert (whole.half().float() / whole - 1).abs().nan_to_num().max() > 0.1
    assert predicted(model).isfinite().all()


@pytest.mark.parametrize("kind", ["1", "dev"])
def test_scales_do_not_hide_holes(kind: str, tmp_path: Path) -> None:
    """Which diffusers fills with random numbers, unless it has a package that leaves them empty."""
    pipe = tiny.pipeline() if kind == "1" else tiny.flux_pipeline()
    file = (ldm if kind == "1" else mmdit).save(pipe, tmp_path / "one.safetensors")
    eight, _ = in_eight_bits(file, "model.diffusion_model." if kind == "1" else "", scaled=True)
    check_complete(eight, pipe)
    hole = "out.2.bias" if kind == "1" else "final_layer.linear.bias"
    save_file({k: v for k, v in load_file(eight).items() if not k.endswith(hole)}, eight)
    with pytest.raises(ModelError, match="does not hold all weights of its denoiser: "):
        check_complete(eight, pipe)
    with pytest.raises(ModelError, match=r"eight\.safetensors"):
        loaded(eight, config=str(beside(pipe, tmp_path / "rest")))


def test_a_text_encoder_with_scales_is_taken_from_the_configuration(tmp_path: Path) -> None:
    pipe = tiny.flux_pipeline()
    texts = {"clip_l": pipe.text_encoder, "t5xxl": pipe.text_encoder_2}
    file = mmdit.save(pipe, tmp_path / "one.safetensors", "vae.", texts)
    eight, _ = in_eight_bits(file, "t5xxl.transformer.encoder.block", scaled=True)
    config = beside(pipe, tmp_path / "rest")
    model, whole = loaded_in(eight, config), loaded_in(config, "")
    assert torch.equal(model.condition(["a cat"]), whole.condition(["a cat"]))
    assert model.precision == "float32"
    with pytest.raises(ModelError, match="lacks text_encoder_2, and the pipeline of `config`"):
        loaded_in(eight, beside(pipe, tmp_path / "less", "text_encoder_2"))


def test_scales_that_are_not_understood(tmp_path: Path) -> None:
    pipe = tiny.flux_pipeline()
    file = mmdit.save(pipe, tmp_path / "one.safetensors")
    config = beside(pipe, tmp_path / "rest")
    weights = load_file(file)
    weights["img_in.scale_weight"] = torch.ones(3)
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"'img_in\.weight' in .* is float32 .* with 3 scales"):
        loaded_in(file, config)
