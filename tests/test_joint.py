"""One word for two models with the same text encoder: FLUX.2 klein and Z-Image, in small."""

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from evoken.errors import RunError, SettingError
from evoken.evaluation.processes import Processes
from evoken.models.families.latent import LatentModel
from evoken.models.load import load_model
from evoken.spec import ModelSpec
from evoken.textual_inversion.checks import pictures_of
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.forecast import _chunk, _parts
from evoken.textual_inversion.job import resume
from evoken.textual_inversion.joint import beside, resized
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.recipe import Recipe, build_objective
from evoken.textual_inversion.settings import LearnSettings, preset
from tests import tiny_language
from tests.commands import evoken, refused

WORD = "<joint>"
FEW = {"popsize": 5, "draws": 4, "validation_draws": 16}


@pytest.fixture(scope="module")
def z_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Z-Image with the encoder of FLUX.2 klein, as the real ones share Qwen3-4B."""
    pipe = tiny_language.z_image_pipeline()
    pipe.text_encoder = tiny_language.klein_pipeline().text_encoder.model
    folder = tmp_path_factory.mktemp("joint") / "z-image"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def klein(tiny_folder: Path) -> LatentModel:
    return load_model(ModelSpec(str(tiny_folder / "klein-base"), size=16))


def settings_for(also: Path | str = "", **given: Any) -> LearnSettings:
    """Small ones, from a random start."""
    about: dict[str, Any] = FEW | {"calls": 4_000, "initialization": "random"} | given
    return preset("default", placeholder=WORD, also=str(also), **about)


def learned(learner: Learner) -> torch.Tensor:
    while not learner.finished:
        learner.step()
    return learner.vectors


def test_the_loss_is_the_mean_of_both(
    klein: LatentModel, z_image: Path, images: torch.Tensor
) -> None:
    words = klein.vocabulary().vectors[:3, None]
    other = load_model(replace(klein.spec, name=str(z_image)))
    both = build_objective(settings_for(z_image), klein, images, None)
    alone = [build_objective(settings_for(), model, images, None) for model in (klein, other)]
    found = both.evaluate(words, 1, gram=True)
    parts = [objective.evaluate(words, 1, gram=True) for objective in alone]
    torch.testing.assert_close(found.losses, sum(part.losses for part in parts) / 2)
    torch.testing.assert_close(found.gram, sum(part.gram for part in parts) / 2)
    assert found.calls == both.calls(3) == sum(part.calls for part in parts) == 2 * 3 * 4
    each = both.validation_losses(words[0])
    # Both models' losses of a draw go together, so they are one number of a gain's interval.
    torch.testing.assert_close(each, sum(o.validation_losses(words[0]) for o in alone) / 2)
    assert len(each) == 16 and both.validation_calls == 32
    assert both.validate(words[0]) == pytest.approx(each.mean())
    assert both.setup_calls == sum(objective.setup_calls for objective in alone) == 32


def test_a_word_becomes_better_on_both() -> None:
    flow = load_model(ModelSpec("stickers-flow", encoders="clip_l"))
    plain = load_model(ModelSpec("stickers"))
    pictures = pictures_of("examples/otter", plain.size, settings_for()).images
    # Short steps: long ones need more calls.
    settings = settings_for("stickers", popsize=16, calls=900, sigma=0.3)
    learner = Learner(settings, flow, pictures, None)
    word = learned(learner)
    for model in (flow, plain):
        alone = build_objective(settings_for(), model, pictures, None)
        assert alone.validate(word) < alone.validate(learner.start.vectors) - 0.001


def test_workers_give_the_same_bits(
    klein: LatentModel, z_image: Path, images: torch.Tensor
) -> None:
    settings = settings_for(z_image, calls=300)
    alone = learned(Learner(settings, klein, images, None))
    recipe = Recipe.of(settings, klein.spec, "", images)
    with closing(Processes(recipe, 1)) as workers:
        assert torch.equal(learned(Learner(settings, klein, images, None, workers)), alone)


def test_a_model_may_carry_words_in_one_of_its_encoders() -> None:
    flow = load_model(ModelSpec("stickers-flow", encoders="clip_l"))
    plain = load_model(ModelSpec("stickers"))
    for one, name in ((flow, "stickers"), (plain, "stickers-flow")):
        assert beside(one, name).encoders == {"clip_l": 256}
    with pytest.raises(SettingError, match="text encoder of 'stickers-flow'"):
        beside(load_model(ModelSpec("stickers-flow")), "stickers")


def test_a_forecast_is_of_both(klein: LatentModel, z_image: Path, images: torch.Tensor) -> None:
    learner = Learner(settings_for(z_image, calls=300), klein, images, None)
    before = [model.calls for model in learner.objective.models]
    seconds, each = _chunk(learner, 2)
    spent = [m.calls - b for m, b in zip(learner.objective.models, before, strict=True)]
    assert spent == [4, 4] and each == pytest.approx(seconds / 4)
    assert len(_parts(learner)) == 2 * len(klein.parts)


def test_pictures_come_at_the_other_models_size() -> None:
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    found = resized(images, 16)
    assert found.shape == (2, 3, 16, 16) and found.abs().max() <= 1
    means = images.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    assert (found - means).abs().mean() < 0.15
    assert resized(images, 32) is images


def test_a_word_is_learned_from_the_command_line_and_gone_on_with(
    tiny_folder: Path, z_image: Path, photos: Path, tmp_path: Path
) -> None:
    other, run = tmp_path / "other", tmp_path / "run"
    shutil.copytree(z_image, other)
    few = ("--popsize", 5, "--draws", 4, "--validation-draws", 8, "--samples", 0, "--size", 16)
    models = (
        "--model",
        tiny_folder / "klein-base",
        "--also",
        other,
        "--clip",
        tiny_folder / "clip",
    )
    result = evoken("learn", photos, *models, *few, "--calls", 200, "--output", run)
    assert result.exit_code == 0, result.output
    with safe_open(run / "learned_embeds.safetensors", "pt") as file:
        assert json.loads(file.metadata()["evoken"])["also"] == "other"
    assert "learned for other as well" in (run / "README.md").read_text()
    assert str(tmp_path) not in (run / "README.md").read_text()
    done = LearnRun.open(run).records()[-1].calls
    assert resume(run, calls=300).records()[-1].calls > done
    file = next((other / "transformer").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(RunError, match="second model of"):
        resume(run, calls=400)


def test_what_reads_words_in_another_way_is_refused(tiny_folder: Path, photos: Path) -> None:
    model = ("--model", tiny_folder / "klein-base", "--clip", tiny_folder / "clip", "--size", 16)
    for other, says in (
        ("flow", "--also must be a model with the text encoder of"),
        ("z-image", "with the same token embeddings"),  # another Qwen3
        ("z-image-turbo", "is distilled"),
        ("z-image/model_index.json", "must be a whole pipeline"),
        ("klein-base", "--also must be another model"),
        ("nowhere", "--also must be stickers, stickers-flow, a folder or a hub id (got 'nowhere')"),
    ):
        name = tiny_folder / other if other != "nowhere" else other
        refused(evoken("learn", photos, *model, "--also", name), says)
    assert not Path("runs").exists()
    with pytest.raises(SettingError, match="has no use for `also`"):
        preset("default", placeholder=WORD, also="other", objective="similarity")
