"""Flow pipelines of diffusers as black boxes: the battery, and the table in the docs."""

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    SanaPipeline,
)

from evoken.errors import ModelError
from evoken.flowopt.inversion import uniinv
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.pipeline import PipelineSampler, check_flow
from evoken.flowopt.rules import Anderson
from evoken.flowopt.sampler import rms
from tests import flows, flows_bria, flows_flux2, flows_hidream, tiny
from tests.flows import Case

FAMILIES = {
    **flows.FAMILIES,
    **flows_bria.FAMILIES,
    **flows_flux2.FAMILIES,
    **flows_hidream.FAMILIES,
}
TABLE = Path(__file__).parent.parent / "docs" / "flow-pipelines.md"
STEPS = 4


def refused() -> dict[str, DiffusionPipeline]:
    """Pipelines that cannot serve, empty but for what decides it."""
    solver = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    return {
        "StableDiffusionPipeline": tiny.pipeline(),
        "SanaPipeline": SanaPipeline(None, None, None, None, solver),
    }


@pytest.fixture(params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    make: Callable[[], Case] = FAMILIES[request.param]
    with warnings.catch_warnings():
        # Chroma still takes a class from where diffusers itself says not to.
        warnings.filterwarnings("ignore", message=".*FluxPosEmbed", category=FutureWarning)
        return make()


def test_f_is_the_pipelines_own_process(case: Case) -> None:
    """The plain call: nothing is told of levels, which are the pipeline's own."""
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
    own = case.pipeline.scheduler
    expected = case.pipeline(
        latents=case.latents,
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


def test_what_is_of_no_single_picture_is_not_cut() -> None:
    sampler = object.__new__(PipelineSampler)
    given = {
        "prompt_embeds": torch.arange(6.0).view(2, 3),
        "prompt_embeds_llama3": torch.arange(12.0).view(3, 2, 2),  # layers first
        "prompt_cu_seqlens": torch.tensor([0, 3, 6]),
        "skip_guidance_layers": [7, 8, 9],
        "prompt": ["a", "b"],
        "guidance_scale": 1.0,
    }
    found = sampler.rows(given, torch.tensor([1]))
    assert found["prompt_embeds"].tolist() == [[3.0, 4.0, 5.0]] and found["prompt"] == ["b"]
    assert torch.equal(found["prompt_embeds_llama3"], given["prompt_embeds_llama3"][:, 1:])
    for name in ("prompt_cu_seqlens", "skip_guidance_layers", "guidance_scale"):
        assert found[name] is given[name]


def test_steps_that_depend_on_others_are_refused() -> None:
    case = FAMILIES["FluxPipeline"]()
    seen: list[None] = []

    def drifting(module: object, args: object, out: tuple[torch.Tensor, ...]) -> object:
        seen.append(None)  # as guidance with a memory does
        return (out[0] * (1 + 0.5 * (len(seen) % 3)), *out[1:])

    case.pipeline.transformer.register_forward_hook(drifting)
    with pytest.raises(ModelError, match="its steps are not those of Euler's method"):
        PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)


def test_a_call_that_fails_is_refused_in_a_sentence() -> None:
    case = FAMILIES["FluxPipeline"]()
    less = {k: v for k, v in case.conditioning.items() if k != "pooled_prompt_embeds"}
    with pytest.raises(ModelError, match=r"FluxPipeline cannot be used .* a call failed"):
        PipelineSampler(case.pipeline, less, case.latents, STEPS)
    with pytest.raises(ModelError, match=r"a call failed|a step failed|makes latents of"):
        PipelineSampler(case.pipeline, case.conditioning, case.latents[:, :5], STEPS)
