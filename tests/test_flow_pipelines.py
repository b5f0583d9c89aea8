"""Flow pipelines of diffusers as black boxes: the battery, and the table in the docs."""

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    BriaPipeline,
    CogView4Pipeline,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
)

from evoken.errors import ModelError
from evoken.flowopt.inversion import uniinv
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.pipeline import PipelineSampler, check_flow
from evoken.flowopt.rules import Anderson
from evoken.flowopt.sampler import rms
from tests import tiny
from tests.flows import FAMILIES, Case

TABLE = Path(__file__).parent.parent / "docs" / "flow-pipelines.md"
STEPS = 4


def refused() -> dict[str, DiffusionPipeline]:
    """Pipelines that cannot serve, empty but for what decides it."""
    flow = FlowMatchEulerDiscreteScheduler()
    solver = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    vae = tiny.autoencoder()
    return {
        "StableDiffusionPipeline": tiny.pipeline(),
        "SanaPipeline": SanaPipeline(None, None, None, None, solver),
        "BriaPipeline": BriaPipeline(None, flow, vae, None, None),
        "CogView4Pipeline": CogView4Pipeline(None, None, vae, None, flow),
    }


@pytest.fixture(params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    make: Callable[[], Case] = FAMILIES[request.param]
    with warnings.catch_warnings():
        # Chroma still takes a class from where diffusers itself says not to.
        warnings.filterwarnings("ignore", message=".*FluxPosEmbed", category=FutureWarning)
        return make()


def test_f_is_the_pipelines_own_process(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
    own = case.pipeline.scheduler
    expected = case.pipeline(
        latents=case.latents,
        sigmas=np.linspace(1, 1 / STEPS, STEPS).tolist(),
        num_inference_steps=STEPS,
        output_type="latent",
        return_dict=False,
        **case.conditioning,
    )[0]
    torch.testing.assert_close(sampler(case.latents, case.conditioning), expected)
    assert case.pipeline.scheduler is own


def test_calls_of_one_step_give_the_velocity(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
    x = case.latents
    for level, lower in pairwise(sampler.levels):
        x = x + (lower - level) * sampler.slope(x, level, case.conditioning)
    torch.testing.assert_close(sampler(case.latents, case.conditioning), x, rtol=1e-4, atol=1e-5)


def test_calls_are_counted_where_the_denoiser_is(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS, last=2)
    before = sampler.calls
    sampler(case.latents, case.conditioning)
    assert sampler.calls - before == 2 * len(case.latents)


def test_a_picture_is_its_rows_of_the_conditioning(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
    one = sampler.rows(case.conditioning, torch.tensor([1]))
    found = sampler(case.latents[1:], one)
    both = sampler(case.latents, case.conditioning)
    torch.testing.assert_close(found, both[1:], rtol=1e-4, atol=1e-5)


def test_flowopt_inverts_it(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
    y = sampler(case.latents, case.conditioning)
    start = uniinv(sampler, y, case.conditioning)
    steps = list(flow_opt(sampler, y, start, case.conditioning, Anderson(0.5), 8))
    assert (steps[-1].best <= 0.2 * steps[0].residual).all()
    assert torch.equal(steps[0].residual, rms(steps[0].result - y))


@pytest.mark.parametrize("name", refused())
def test_what_is_no_black_box_flow_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        check_flow(refused()[name])


def test_the_table_in_the_docs_is_this_battery() -> None:
    rows = [f"| `{name}` | yes | |" for name in FAMILIES]
    for name, pipeline in refused().items():
        with pytest.raises(ModelError) as error:
            check_flow(pipeline)
        reason = error.value.problem.partition(": ")[2].removesuffix(".")
        rows.append(f"| `{name}` | no | {reason} |")
    assert "\n".join(rows) in TABLE.read_text(encoding="utf-8"), "\n".join(rows)
