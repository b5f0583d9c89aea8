"""The LoRA of rank 1 that forward passes find beside a word."""

import numpy as np
import pytest
import torch

from benchmarks import learn, rank_one
from evoken.evaluation.chunks import Evaluation, total
from evoken.models.clip import Clip
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.prompts import OBJECT_TEMPLATES
from evoken.textual_inversion.learn import Learner
from evoken.textual_inversion.objective import DenoisingLoss
from evoken.textual_inversion.settings import preset
from tests import tiny


@pytest.fixture
def word() -> torch.Tensor:
    return torch.randn(1, tiny.WIDTH, generator=torch.Generator().manual_seed(3))


def test_it_is_what_changed_weights_are(
    model: StableDiffusion, images: torch.Tensor, word: torch.Tensor
) -> None:
    lora = rank_one.RankOne(model, word)
    coords = np.random.default_rng(0).normal(size=(3, lora.dimension))
    objective = DenoisingLoss(model, images, learn.WORD, OBJECT_TEMPLATES, 7, draws=6)
    alike = word.expand(3, -1, -1)
    parts = list[Evaluation]()
    for chunk in objective.split(3, 1, gram=True):
        with lora.put(coords, chunk.stop - chunk.start):
            parts.append(objective.part(alike, chunk))
    found, plain = total(parts).losses, objective.evaluate(alike, 1).losses
    assert np.ptp(plain) == 0 < np.ptp(found)

    a = rank_one.told_apart(model, word).flatten()
    for row, loss in zip(coords, found, strict=True):
        parts_of_b = torch.from_numpy(row).split(lora._sizes)
        changes = zip(lora._projections, lora._spreads, parts_of_b, strict=True)
        before = [p.weight.clone() for p in lora._projections]
        with torch.no_grad():
            for projection, spread, b in changes:
                projection.weight += spread * torch.outer(b, a).float()
        changed = objective.evaluate(word[None], 1).losses[0]
        with torch.no_grad():
            for projection, weight in zip(lora._projections, before, strict=True):
                projection.weight.copy_(weight)
        assert loss == pytest.approx(changed, rel=1e-4)


def test_it_tells_the_word_from_its_sentence(model: StableDiffusion, word: torch.Tensor) -> None:
    a = rank_one.told_apart(model, 30 * word)
    sentence = OBJECT_TEMPLATES[0].format(learn.WORD)
    (read,) = model.condition([sentence], {learn.WORD: 30 * word[None]}).double() @ a
    before = OBJECT_TEMPLATES[0].split("{}")[0].split()
    assert read[: len(before) + 1].abs().max() < 0.2 < 0.5 < read.max()


def test_what_is_found_is_no_worse_than_the_word_alone(
    model: StableDiffusion,
    clip: Clip,
    images: torch.Tensor,
    word: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learn, "measure", learn.Measure(model, clip, None, 1), raising=False)  # type: ignore[arg-type]
    few = {"popsize": 9, "draws": 4, "validation_draws": 8, "calls": 200}
    learner = Learner(preset("default", placeholder=learn.WORD, **few), model, images, clip)
    while not learner.finished:
        learner.step()
    alone = learner.objective.validate(learner.vectors)
    lora, coords = rank_one.searched(learner, 0.3, 400)
    with lora.put(coords[None]):
        assert learner.objective.validate(learner.vectors) < alone
    assert learner.objective.validate(learner.vectors) == alone
