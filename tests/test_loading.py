"""Models from folders and single files."""

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, PNDMScheduler, StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor

from evoken.errors import ModelError
from evoken.models.bases import BASES, Base
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model
from evoken.models.provenance import weights_hash
from evoken.spec import ModelSpec
from tests import ldm, tiny
from tests.elsewhere import elsewhere

UNSAFE = ("text_encoder/pytorch_model.bin", "unet/diffusion_pytorch_model.bin")


PIPELINES = {"1": tiny.pipeline, "2": tiny.second_pipeline, "xl": tiny.xl_pipeline}


def saved(pipe: DiffusionPipeline, folder: Path) -> Path:
    """A pipeline in one file; beside it the same as a folder, ``whole``, and the folder ``config``
    without weights.
    """
    pipe.save_pretrained(folder / "whole")
    shutil.copytree(
        folder / "whole", folder / "config", ignore=shutil.ignore_patterns("*.safetensors")
    )
    return ldm.save(pipe, folder / "one.safetensors")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """See ``saved``."""
    return saved(tiny.pipeline(), tmp_path)


def spec(file: Path) -> ModelSpec:
    return ModelSpec(str(file), config=str(file.parent / "config"))


def assert_same(found: LatentModel, expected: LatentModel) -> None:
    """In what they read of a prompt, predict, draw and see of a picture."""
    hidden = expected.condition(["a cat"])
    assert torch.equal(found.condition(["a cat"]), hidden)
    pictures = expected.generate(hidden, [1], 3)
    assert torch.equal(found.generate(hidden, [1], 3), pictures)
    assert torch.equal(found.encode(pictures), expected.encode(pictures))


@pytest.mark.parametrize("version", PIPELINES)
def test_a_single_file_is_the_pipeline_it_was_made_from(version: str, tmp_path: Path) -> None:
    checkpoint = saved(PIPELINES[version](), tmp_path)
    assert_same(load_model(spec(checkpoint)), load_model(ModelSpec(str(tmp_path / "whole"))))


@pytest.mark.parametrize("part", ["cond_stage_model", "first_stage_model", "model.diffusion_model"])
def test_a_file_that_lacks_a_part_is_refused(checkpoint: Path, part: str) -> None:
    weights = load_file(checkpoint)
    save_file({k: v for k, v in weights.items() if not k.startswith(part)}, checkpoint)
    with pytest.raises(ModelError, match=r"one\.safetensors|all weights"):
        load_model(spec(checkpoint))


def test_a_file_that_lacks_weights_is_refused(checkpoint: Path) -> None:
    weights = load_file(checkpoint)
    save_file({k: v for k, v in weights.items() if "middle_block" not in k}, checkpoint)
    with pytest.raises(ModelError, match="all weights"):
        load_model(spec(checkpoint))


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`")  # between two libraries
@pytest.mark.usefixtures("hub")
def test_a_file_without_its_configuration_says_what_to_give(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="`config`"):
        load_model(ModelSpec(str(checkpoint)))


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`")  # between two libraries
def test_a_repository_of_the_hub_as_that_of_stable_diffusion_1_5_is(
    tmp_path: Path, hub: Callable[[str], Path]
) -> None:
    """With a scheduler and a safety checker that are not used."""
    plain = tiny.pipeline()
    vision = tiny.clip(plain.tokenizer).config
    vision._attn_implementation = "eager"  # the only one that it knows
    checker = StableDiffusionSafetyChecker(vision)
    scheduler = PNDMScheduler.from_config(
        plain.scheduler.config, skip_prk_steps=True, set_alpha_to_one=False
    )
    parts = plain.components | {
        "scheduler": scheduler,
        "safety_checker": checker,
        "feature_extractor": CLIPImageProcessor(),
    }
    StableDiffusionPipeline(**parts).save_pretrained(hub("some/model"))
    plain.save_pretrained(tmp_path / "plain")
    found, expected = (load_model(ModelSpec(n)) for n in ("some/model", str(tmp_path / "plain")))
    hidden = expected.condition(["a cat"])
    assert torch.equal(found.condition(["a cat"]), hidden)
    assert torch.equal(found.generate(hidden, [1], 3), expected.generate(hidden, [1], 3))
    assert weights_hash("some/model") == weights_hash(str(tmp_path / "plain")) != ""


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "model.txt"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not read")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(ModelSpec(str(tmp_path / name)))


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_weights_in_the_folder_are_refused(checkpoint: Path, name: str) -> None:
    (checkpoint.parent / "config" / name).write_bytes(b"not read")
    with pytest.raises(ModelError, match="nothing is ever unpickled"):
        load_model(spec(checkpoint))


def test_a_damaged_file(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"one\.safetensors"):
        load_model(spec(checkpoint))


def test_a_folder_of_another_family(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder / "xl", tmp_path / "other")
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "KandinskyPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="KandinskyPipeline"):
        load_model(ModelSpec(str(folder)))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_model_that_memory_does_not_hold_is_not_called_missing(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(ModelError, match=r"enough memory for .*float32 on cpu.*torch-int8"):
        load_model(ModelSpec(str(tiny_folder / "model")))
    with elsewhere() as device, pytest.raises(ModelError) as caught:
        load_model(ModelSpec(str(tiny_folder / "model"), precision="float32", device=device))
    assert caught.value.fix == "Set `offload`, or use a quantised copy."


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_a_kind_of_model_has_a_class_here_and_in_diffusers(base: Base) -> None:
    module, name = base.family
    family = getattr(import_module(f"evoken.models.families.{module}"), name)
    assert issubclass(family, LatentModel) and hasattr(diffusers, base.pipeline)
    of_its_pipeline = (b.architecture for b in BASES if b.pipeline == base.pipeline)
    assert family.architecture in ("", *of_its_pipeline)
