"""Single files that hold a part of a model; the rest comes from the pipeline beside them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection

from evoken.errors import ModelError
from evoken.models.families.latent import LatentModel
from evoken.models.families.sdxl import StableDiffusionXL
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from tests import ldm, mmdit, tiny
from tests.test_loading import PIPELINES, assert_same

pytestmark = pytest.mark.usefixtures("narrow_flux")
# By model: the pipeline, and what the autoencoder's names begin with where the file has it.
PARTLY: dict[str, tuple[Callable[[], DiffusionPipeline], str]] = {
    "3": (lambda: tiny.flow_pipeline(with_t5=True), "first_stage_model."),
    "3 without T5": (tiny.flow_pipeline, ""),
    "3.5": (lambda: tiny.flow_pipeline(with_t5=True, dual=(0,)), "first_stage_model."),
    "dev": (tiny.flux_pipeline, ""),
    "schnell": (lambda: tiny.flux_pipeline(guidance=False), "vae."),
}


def beside(pipe: DiffusionPipeline, folder: Path, *without: str) -> Path:
    """The pipeline as a folder; it has no weights of the parts ``without``."""
    pipe.save_pretrained(folder)
    for part in without:
        for weights in (folder / part).glob("*.safetensors"):
            weights.unlink()
    return folder


def loaded(path: Path, config: Path | str = "") -> LatentModel:
    return load_model(ModelSpec(str(path), config=str(config), size=16))


def other(part: torch.nn.Module) -> None:
    """Make the weights others."""
    with torch.no_grad():
        for value in part.parameters():
            value.mul_(1.5)


@pytest.mark.parametrize("name", PARTLY)
def test_what_a_file_lacks_comes_from_its_configuration(name: str, tmp_path: Path) -> None:
    make, vae = PARTLY[name]
    pipe = make()
    file = mmdit.save(pipe, tmp_path / "one.safetensors", vae)
    held = ("transformer", "vae") if vae else ("transformer",)
    config = beside(pipe, tmp_path / "rest", *held)
    whole = beside(pipe, tmp_path / "whole")
    assert_same(loaded(file, config), loaded(whole))


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`")  # between two libraries
def test_the_configuration_may_be_of_the_hub(tmp_path: Path, hub: Callable[[str], Path]) -> None:
    pipe = tiny.flow_pipeline()
    file = mmdit.save(pipe, tmp_path / "one.safetensors", "vae.")
    beside(pipe, hub("some/flow"), "transformer", "vae")
    assert_same(loaded(file, "some/flow"), loaded(beside(pipe, tmp_path / "whole")))


@pytest.mark.parametrize("version", PIPELINES)
def test_the_older_models_too(version: str, tmp_path: Path) -> None:
    pipe = PIPELINES[version]()
    file = ldm.save(pipe, tmp_path / "one.safetensors")
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if k.startswith("model.")}, file)
    config = beside(pipe, tmp_path / "rest", "unet")
    whole = beside(pipe, tmp_path / "whole")
    assert_same(loaded(file, config), loaded(whole))


@pytest.mark.parametrize("marks", [(), ("v_pred",), ("v_pred", "ztsnr")])
def test_a_file_that_is_marked_is_of_another_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marks: tuple[str, ...]
) -> None:
    pipe = tiny.xl_pipeline()
    file, config = ldm.save(pipe, tmp_path / "one.safetensors"), beside(pipe, tmp_path / "rest")
    save_file(load_file(file) | {mark: torch.zeros(0) for mark in marks}, file)
    monkeypatch.setattr(
        "diffusers.loaders.single_file_utils.fetch_diffusers_config",
        lambda shapes: {"pretrained_model_name_or_path": str(config)},
    )
    found = loaded(file)
    assert isinstance(found, StableDiffusionXL)
    said = found.scheduler.config
    assert said.prediction_type == ("v_prediction" if marks else "epsilon")
    assert said.rescale_betas_zero_snr == ("ztsnr" in marks)
    # Who gives a configuration has said it.
    given = loaded(file, config)
    assert isinstance(given, StableDiffusionXL)
    assert given.scheduler.config.prediction_type == "epsilon"


def test_what_a_file_has_comes_from_the_file(tmp_path: Path) -> None:
    pipe = tiny.flow_pipeline(with_t5=True)
    expected = loaded(beside(pipe, tmp_path / "whole"))
    texts = {"clip_g": pipe.text_encoder_2, "t5xxl": pipe.text_encoder_3}
    file = mmdit.save(pipe, tmp_path / "one.safetensors", "vae.", texts)
    for part in (pipe.transformer, pipe.vae, *texts.values()):
        other(part)
    config = beside(pipe, tmp_path / "rest")
    assert_same(loaded(file, config), expected)


def flow_for_a_whole_file(with_t5: bool) -> DiffusionPipeline:
    """diffusers tells the two CLIPs in a file apart by their widths, and takes the first one's
    projection for the identity.
    """
    pipe = tiny.flow_pipeline(with_t5)
    torch.nn.init.eye_(pipe.text_encoder.text_projection.weight)
    second = CLIPTextModelWithProjection(tiny.text_config(pipe.tokenizer_2, 24)).eval()
    pipe.register_modules(text_encoder_2=second)
    return pipe


@pytest.mark.parametrize("name", ["3", "3 without T5", "dev"])
def test_a_whole_file_needs_no_other_weights(name: str, tmp_path: Path) -> None:
    pipe = tiny.flux_pipeline() if name == "dev" else flow_for_a_whole_file(name == "3")
    names = ["clip_l", "t5xxl"] if name == "dev" else ["clip_l", "clip_g", "t5xxl"]
    encoders = [pipe.components.get(f"text_encoder{i}") for i in ("", "_2", "_3")]
    texts = {n: encoder for n, encoder in zip(names, encoders, strict=False) if encoder}
    file = mmdit.save(pipe, tmp_path / "one.safetensors", "vae.", texts)
    config = beside(pipe, tmp_path / "rest", *pipe.components)
    assert_same(loaded(file, config), loaded(beside(pipe, tmp_path / "whole")))


def test_a_t5_that_cannot_be_read_counts_as_lacking(tmp_path: Path) -> None:
    pipe = tiny.flux_pipeline()
    file = mmdit.save(pipe, tmp_path / "one.safetensors", "vae.", {"t5xxl": pipe.text_encoder_2})
    save_file({k: v for k, v in load_file(file).items() if "embed_tokens" not in k}, file)
    other(pipe.text_encoder_2)
    config = beside(pipe, tmp_path / "rest")
    assert_same(loaded(file, config), loaded(config))


def test_without_a_configuration_a_part_of_a_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the pipeline that is guessed has everything: it is not asked for."""
    pipe = tiny.flow_pipeline(with_t5=True)
    guessed = beside(pipe, tmp_path / "rest")
    monkeypatch.setattr(
        "diffusers.loaders.single_file_utils.fetch_diffusers_config",
        lambda shapes: {"pretrained_model_name_or_path": str(guessed)},
    )
    file = mmdit.save(pipe, tmp_path / "one.safetensors", "vae.")
    wanted = r"lacks text_encoder and text_encoder_2 and text_encoder_3, and no .* with `config`\."
    with pytest.raises(ModelError, match=wanted):
        loaded(file)


def test_a_configuration_that_lacks_them_too_is_refused(tmp_path: Path) -> None:
    pipe = tiny.flux_pipeline()
    file = mmdit.save(pipe, tmp_path / "one.safetensors")
    config = beside(pipe, tmp_path / "rest", "text_encoder")
    wanted = r"lacks vae and text_encoder and .*holds no weights.*whole"
    with pytest.raises(ModelError, match=wanted):
        loaded(file, config)


@pytest.mark.parametrize(("made", "read"), [("flux", "flow"), ("flow", "flux"), ("flow", "model")])
def test_a_file_of_another_model_than_its_configuration(
    made: str, read: str, tiny_folder: Path, tmp_path: Path
) -> None:
    pipe = tiny.flux_pipeline() if made == "flux" else tiny.flow_pipeline()
    file = mmdit.save(pipe, tmp_path / "one.safetensors")
    with pytest.raises(ModelError, match=r"one\.safetensors does not hold all weights of a "):
        loaded(file, tiny_folder / read)


@pytest.mark.parametrize(("name", "part"), [("3", "final_layer"), ("dev", "single_blocks")])
def test_a_denoiser_with_holes_is_refused(name: str, part: str, tmp_path: Path) -> None:
    pipe = PARTLY[name][0]()
    file = mmdit.save(pipe, tmp_path / "one.safetensors")
    save_file({k: v for k, v in load_file(file).items() if part not in k}, file)
    config = beside(pipe, tmp_path / "rest")
    with pytest.raises(ModelError, match=r"one\.safetensors"):
        loaded(file, config)


def test_a_part_of_a_model_is_no_model(tmp_path: Path) -> None:
    """Told by its names, before the hub is asked for a configuration."""
    file = tmp_path / "vae.safetensors"
    save_file({f"first_stage_model.{i}": torch.ones(2, 2) for i in range(80)}, file)
    with pytest.raises(ModelError, match="holds no denoiser of a kind that is known"):
        load_model(ModelSpec(str(file)))
