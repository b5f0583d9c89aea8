"""Every family on a device that mixes with no other: the same word, the same noise and the same
pictures as on the processor.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import evoken
from evoken.errors import SettingError
from evoken.flowopt.inversion import implicit
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.pipeline import PipelineSampler
from evoken.flowopt.rules import RULES
from evoken.models.clip import Clip
from evoken.models.families.latent import LatentModel
from evoken.models.pipelines import load_pipeline
from evoken.models.runtimes.requirements import check_spec, chosen
from evoken.spec import ModelSpec, fitting
from evoken.words.word import Word
from tests import tiny
from tests.commands import evoken as run
from tests.elsewhere import elsewhere

# The positions of these are float64 in diffusers, on all devices but Apple's. (Lumina 2 makes lists
# of its own, which tensors that are elsewhere cannot.)
PRECISE = ("flux", "schnell", "klein-base")
FAMILIES = ("model", "second", "xl", "flow", "z-image", "sana", *PRECISE)
LEARNED_ON = [family for family in FAMILIES if family != "schnell"]  # which is distilled
SEARCHES = {"denoising": "gauss-newton", "similarity": "cma"}  # by objective
WORD = "<disc>"
SPEC = ModelSpec("tiny", batch=16, size=16)


@pytest.fixture
def device() -> Iterator[str]:
    with elsewhere() as name:
        yield name


@pytest.fixture(params=FAMILIES)
def both(request: pytest.FixtureRequest, tiny_folder: Path) -> Iterator[list[LatentModel]]:
    """A model on the processor and the same elsewhere."""
    family = str(tiny_folder / request.param)
    with elsewhere(float64=request.param in PRECISE) as device:
        yield [load_pipeline(family, replace(SPEC, device=d)) for d in ("cpu", device)]


LEVEL = 2 / 255  # of a picture


def assert_same(found: list[Tensor], atol: float = 1e-3) -> None:
    here, there = found
    assert there.device.type == "cpu"
    torch.testing.assert_close(there, here, rtol=1e-3, atol=atol)


def learned(model: LatentModel, images: Tensor, clip: Clip, objective: str) -> Tensor:
    """A word after one generation."""
    few = {"draws": 4, "sentences": 2, "validation_draws": 4} if objective == "denoising" else {}
    settings = evoken.preset(
        "default",
        placeholder=WORD,
        objective=objective,
        search=SEARCHES[objective],
        popsize=4,
        calls=500,
        **few,
    )
    learner, _ = next(evoken.learn(settings, model, images, clip))
    return learner.vectors


@pytest.mark.parametrize("both", LEARNED_ON, indirect=True)
@pytest.mark.parametrize("objective", SEARCHES)
def test_words_are_learned_there(
    both: list[LatentModel], images: Tensor, tiny_folder: Path, objective: str
) -> None:
    clips = [Clip.load(str(tiny_folder / "clip"), model.spec.device) for model in both]
    words = [learned(m, images, c, objective) for m, c in zip(both, clips, strict=True)]
    assert_same(words)


def test_words_are_drawn_there(both: list[LatentModel], clip: Clip) -> None:
    word = Word(WORD, both[0].embed("cat")[:1])
    pictures = [evoken.draw(m, f"a {WORD}", word, 2, steps=2).images for m in both]
    assert_same(pictures)
    assert clip.image_features(pictures[1]).isfinite().all()


def test_pictures_are_edited_there(both: list[LatentModel], images: Tensor, clip: Clip) -> None:
    few = evoken.flowopt_preset("edit", steps=3, last=2, iterations=2, fresh=0.5)
    found = []
    for model in both:
        prompts = ["a cat"] * len(images), ["a red dog"] * len(images)
        *_, last = evoken.edit(few, model, images, *prompts, clip)
        found.append(last.images)
    assert_same(found, LEVEL)  # a mask's levels are rounded


def test_only_devices_that_are_there_are_taken(device: str) -> None:
    check_spec(ModelSpec(device=device))
    with pytest.raises(SettingError, match=rf"cpu, {device} \(got 'xpu'\)"):
        check_spec(ModelSpec(device="xpu"))


def test_the_device_is_gone_afterwards() -> None:
    with elsewhere() as name:
        check_spec(ModelSpec(device=name))
    with pytest.raises(SettingError, match=f"got '{name}'"):
        check_spec(ModelSpec(device=name))


def test_the_device_is_chosen_with_the_precision_of_the_family(
    device: str, tiny_folder: Path, photos: Path, tmp_path: Path
) -> None:
    for family, precision in {"model": "float16", "xl": "float16", "flow": "bfloat16"}.items():
        name = str(tiny_folder / family)
        loaded = evoken.load_model(name).spec
        assert (loaded.device, loaded.precision) == (device, precision)
        loaded = evoken.load_model(fitting(name, device="cpu")).spec
        assert (loaded.device, loaded.precision) == ("cpu", "float32")
        loaded = evoken.load_model(fitting(name, precision="float32")).spec
        assert (loaded.device, loaded.precision) == (device, "float32")
        # Who names no wish gets what a spec says.
        assert evoken.load_model(ModelSpec(name)).spec.device == "cpu"
    assert chosen(fitting(runtime="torch-int8"), "float16").precision == "bfloat16"
    assert chosen(fitting(runtime="onnx"), "float16").device == "cpu"


def test_the_command_says_which_device_it_chose(
    device: str, tiny_folder: Path, photos: Path, tmp_path: Path
) -> None:
    where = ("--model", tiny_folder / "model", "--count", 2, "--steps", 2, "--output", tmp_path)
    where = (*where, "--precision", "float32")  # this device has no other
    result = run("generate", "a cat", *where)
    assert result.exit_code == 0, result.output
    said = f"On {device} in float32; with --device cpu, processors of one kind give the same bits."
    assert said in result.output.replace("\n", " ")
    assert "same bits" not in run("generate", "a cat", *where, "--device", "cpu").output


def test_without_another_device_the_cpu_is_chosen(tiny_folder: Path) -> None:
    loaded = evoken.load_model(str(tiny_folder / "flow")).spec
    assert (loaded.device, loaded.precision) == ("cpu", "float32")


def test_the_device_mixes_with_no_other(device: str) -> None:
    there = torch.ones(2, device=device)
    assert (there + torch.tensor(1.0)).cpu().tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(2)


def test_pipelines_of_diffusers_run_there(device: str) -> None:
    pipeline = tiny.flow_pipeline()
    conditioning = {"prompt": ["a cat", "a dog"], "guidance_scale": 2.0}
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for place in ("cpu", device):
        f = PipelineSampler(pipeline.to(place), conditioning, latents, 3)
        start = implicit(f, latents, conditioning, most=2)
        *_, last = flow_opt(f, latents, start, conditioning, RULES["anderson"](0.5), 2)
        found.append(last.result)
    assert_same(found)
