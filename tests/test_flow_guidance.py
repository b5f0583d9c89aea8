"""Guidance of flow pipelines as part of the black box: the same in every step, or refused."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AdaptiveProjectedMixGuidance, ClassifierFreeGuidance

from evoken.errors import ModelError
from evoken.flowopt.pipeline import PipelineSampler
from tests.flow_classes import compared, made
from tests.flows import TOKENS, Case, mask, random
from tests.flows_hidream import awaken, hunyuan_image

STEPS = 8
NEGATIVE = {
    "negative_prompt_embeds": random(2, TOKENS, 20, seed=5),
    "negative_prompt_embeds_mask": mask(),
    "negative_prompt_embeds_2": random(2, TOKENS, 12, seed=6),
    "negative_prompt_embeds_mask_2": mask(),
}


def guided(**options: float) -> Case:
    return hunyuan_image(ClassifierFreeGuidance(guidance_scale=3.5, **options), NEGATIVE)


def projected() -> Case:
    """As the pipeline comes: another guidance after some steps, with a memory."""
    return hunyuan_image(AdaptiveProjectedMixGuidance(), NEGATIVE)


def distilled() -> Case:
    return hunyuan_image(call={"distilled_guidance_scale": 3.25}, guidance_embeds=True)


def mean_flow() -> Case:
    """The denoiser is told where a step ends."""
    case = hunyuan_image(use_meanflow=True)
    awaken(case.pipeline.transformer)
    return case


def lumina(**options: float) -> Case:
    case = made("Lumina2Pipeline")
    negative = {
        "negative_prompt_embeds": random(2, TOKENS, 20, seed=5),
        "negative_prompt_attention_mask": mask(),
    }
    case.conditioning.update(negative, guidance_scale=4.0, **options)
    return case


@pytest.mark.parametrize("make", [guided, distilled, lumina])
def test_guidance_is_part_of_f(make: Callable[[], Case]) -> None:
    assert torch.equal(*compared(make(), STEPS))


REFUSED: dict[str, Callable[[], Case]] = {
    "begins late": lambda: guided(start=0.5),
    "in the middle": lambda: guided(start=0.3, stop=0.6),
    "ends early": lambda: lumina(cfg_trunc_ratio=0.5),
    "with a memory": projected,
    "mean flow": mean_flow,
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("last", [0, 6])
def test_guidance_that_changes_on_the_way_is_refused(kind: str, last: int) -> None:
    case = REFUSED[kind]()
    with pytest.raises(ModelError, match="a step on its own is not the same as within the process"):
        PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS, last)


def test_guidance_that_does_not_concern_the_last_steps_is_no_obstacle() -> None:
    case = guided(stop=0.5)
    found = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS, 2)
    assert torch.isfinite(found(case.latents, case.conditioning)).all()
