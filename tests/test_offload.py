"""One part of a model on the card at a time: the bits are those without, the card holds no more
than the largest part, and parts come as seldom as they can.
"""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import evoken
from evoken.models import card
from evoken.models.card import on_card, weights_of
from evoken.models.clip import Clip
from evoken.models.families.latent import LatentModel
from evoken.models.pipelines import load_pipeline
from evoken.models.runtimes.int8 import to_int8
from evoken.models.runtimes.requirements import chosen
from evoken.spec import ModelSpec
from evoken.textual_inversion.folder import LearnRun
from evoken.words.word import Word
from tests.commands import evoken as run
from tests.elsewhere import MEMORY, elsewhere

PRECISE = ("flux",)  # whose positions are float64
FAMILIES = ("model", "flow", "z-image", *PRECISE)
WORD = "<disc>"


@pytest.fixture(params=FAMILIES)
def both(request: pytest.FixtureRequest, tiny_folder: Path) -> Iterator[list[LatentModel]]:
    """A model on a card, and the same that keeps one part there at a time."""
    family = str(tiny_folder / request.param)
    with elsewhere(float64=request.param in PRECISE) as device:
        spec = ModelSpec("tiny", batch=16, size=16, device=device)
        yield [load_pipeline(family, replace(spec, offload=o)) for o in (False, True)]


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The parts that came onto a card, in their order."""
    found: list[nn.Module] = []
    bring = card._Card.bring

    def noted(self: card._Card, part: nn.Module) -> None:
        if self._part() is not part:
            found.append(part)
        bring(self, part)

    monkeypatch.setattr(card._Card, "bring", noted)
    return found


def settings() -> evoken.LearnSettings:
    return evoken.preset(
        "default",
        placeholder=WORD,
        popsize=4,
        draws=4,
        sentences=2,
        validation_draws=4,
        calls=500,
    )


def test_words_and_pictures_are_the_same_bits(
    both: list[LatentModel], images: Tensor, tiny_folder: Path
) -> None:
    found = []
    for model in both:
        spec = model.spec
        clip = Clip.load(str(tiny_folder / "clip"), spec.device, spec.offload)
        steps = evoken.learn(settings(), model, images, clip)
        _, (learner, record) = next(steps), next(steps)
        word = Word(WORD, learner.vectors, model.encoders)
        drawn = evoken.draw(model, f"a {WORD}", word, 2, steps=2).images
        found.append((record.losses, record.validation, learner.vectors, drawn, model.calls))
    plain, offloaded = found
    assert plain[:2] == offloaded[:2] and plain[4] == offloaded[4]
    assert torch.equal(plain[2], offloaded[2]) and torch.equal(plain[3], offloaded[3])


def test_edits_are_the_same_bits(
    both: list[LatentModel], images: Tensor, tiny_folder: Path
) -> None:
    few = evoken.flowopt_preset("edit", steps=3, last=2, iterations=1, fresh=0.5)
    found = []
    for model in both:
        clip = Clip.load(str(tiny_folder / "clip"), model.spec.device, model.spec.offload)
        prompts = ["a cat"] * len(images), ["a red dog"] * len(images)
        *_, last = evoken.edit(few, model, images, *prompts, clip)
        found.append(last.images)
    assert torch.equal(*found)


def test_a_generation_brings_every_part_once(
    both: list[LatentModel],
    images: Tensor,
    arrivals: list[nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its candidates' sentences are read, then the denoiser computes; where memory is short, as
    often as it must.
    """
    _, model = both
    given = replace(settings(), initialization="random")
    learner, _ = next(evoken.learn(given, model, images))
    population = learner.vectors.expand(3, -1, -1)
    objective = learner.objective
    chunks = objective.split(3, 1)
    assert len(chunks) == 2
    found, came = [], []
    for free in (2**30, 0):
        monkeypatch.setattr("evoken.textual_inversion.objective.available", lambda _, n=free: n)
        model.encode(images)  # something else is there before
        arrivals.clear()
        found.append([part.losses.tolist() for part in objective.parts(population, chunks)])
        came.append(list(arrivals))
    once = [model.texts.part, model.denoiser]
    assert came == [once, once * 2]
    assert found[0] == found[1] == [objective.part(population, c).losses.tolist() for c in chunks]


def test_the_card_holds_one_part(both: list[LatentModel], images: Tensor) -> None:
    """Of the weights; what is computed with them comes on top."""
    held = []
    for model in both:
        model.denoise(model.noise([0]), torch.ones(1) / 2, model.condition(["a cat"]))
        model.encode(images)
        gc.collect()
        held.append(sum(weights_of(p) for p in model.parts.values() if next(p.parameters()).is_cpu))
    weights = [weights_of(part) for part in both[1].parts.values()]
    assert held == [0, sum(weights[:-1])]  # the autoencoder came last


def test_weights_in_int8_count_as_they_are_stored() -> None:
    """Torch says of them the size that they would have in the precision that they stand for."""
    part = to_int8(nn.Sequential(nn.Linear(64, 64), nn.Conv2d(8, 8, 3)))
    linear = 64 * 64 + 64 * (4 + 1) + 64 * 4  # the weights, their scales and zeros, the bias
    assert weights_of(part) == linear + 8 * 8 * 9 + 4 * 8 + 4 * 8


def test_the_card_is_free_of_a_part_that_is_gone() -> None:
    with elsewhere() as device:
        before = MEMORY.now
        layer = nn.Linear(8, 8)
        with on_card(layer, device, offload=True):
            assert layer.weight.device.type == device
        assert MEMORY.now == before + weights_of(layer) == before + 288
        del layer
        assert MEMORY.now == before


def test_a_card_has_one_place_by_whichever_name() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    with elsewhere() as device:
        with on_card(first, device, offload=True):
            pass
        with on_card(second, f"{device}:0", offload=True):
            assert first.weight.is_cpu and not second.weight.is_cpu
        with on_card(first, torch.device(device), offload=True):
            assert second.weight.is_cpu


def test_parts_come_back_as_they_were_but_for_what_changed_there() -> None:
    with elsewhere() as device:
        first = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
        first[1].weight = first[0].weight  # which counts, and travels, once
        kept, bias = first[0].weight, first[1].bias
        assert weights_of(first) == 4 * (4 + 2 + 2) + 4 * 8 + 8
        with on_card(first, device, offload=True):
            assert first[1].weight is first[0].weight is not kept
            first[0] = nn.Linear(2, 3).to(device)  # as weights become int8 at their first use
        with on_card(nn.Linear(1, 1), device, offload=True):
            assert {x.device.type for x in first.state_dict().values()} == {"cpu"}
        assert first[1].weight is kept and first[0].weight.shape == (3, 2)
        assert first[1].bias is bias


def test_a_precision_that_changed_there_is_kept() -> None:
    layer, bias = nn.Linear(2, 2), torch.ones(2)
    layer.bias.data = bias
    with on_card(layer, "cpu", offload=True):  # where a copy is another tensor of the same numbers
        layer.bias.data = layer.bias.data.half()
    with on_card(nn.Linear(1, 1), "cpu", offload=True):
        assert layer.bias.dtype == torch.float16 and layer.weight.dtype == torch.float32


def test_a_machine_with_one_memory_takes_no_notice() -> None:
    for device in ("cpu", "mps", "auto"):
        assert chosen(ModelSpec(device=device, offload=True)) == chosen(ModelSpec(device=device))
    assert chosen(ModelSpec(device="cuda:1", offload=True)).offload


def test_the_command_says_what_the_card_will_hold(
    tiny_folder: Path, photos: Path, tmp_path: Path
) -> None:
    few = ("--start", "cat", "--popsize", 4, "--draws", 4, "--sentences", 2)
    few = (*few, "--validation-draws", 4, "--calls", 60, "--samples", 0, "--preview-every", 0)
    model = ("--model", tiny_folder / "model", "--size", 16, "--precision", "float32")
    words, said = [], []
    with elsewhere() as device:
        for more in ((), ("--offload",)):
            folder = tmp_path / f"run{len(more)}"
            where = ("--device", device, "--output", folder, *more)
            result = run("learn", photos, *model, *few, *where)
            assert result.exit_code == 0, result.output
            said.append(result.output.replace("\n", " "))
            words.append(LearnRun.open(folder).word().vectors)
            assert LearnRun.open(folder).spec.offload is bool(more)
    assert torch.equal(*words)
    assert "the card holds 0.0 GB of weights, offloaded 0.0 GB (denoiser) at a time" in said[0]
    assert "the card holds 0.0 GB (denoiser) of 0.0 GB of weights at a time" in said[1]
