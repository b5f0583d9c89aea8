"""Flow pipelines of diffusers as black boxes: the battery, and the table in the docs."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from evoken.errors import ModelError
from evoken.flowopt.inversion import uniinv
from evoken.flowopt.optimize import flow_opt
from evoken.flowopt.pipeline import PipelineSampler, check_flow
from evoken.flowopt.rules import Anderson
from evoken.flowopt.sampler import rms
from tests.flow_classes import FAMILIES, compared, made, refused, text_to_image_flows
from tests.flows import Case, in_half

TABLE = Path(__file__).parent.parent / "docs" / "flow-pipelines.md"
STEPS = 4


@pytest.fixture(params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    return made(request.param)


def test_every_class_of_diffusers_is_tried() -> None:
    found = set(text_to_image_flows())
    assert found == {*FAMILIES, *refused()} - {"SanaPipeline", "StableDiffusionPipeline"}


def test_f_is_the_pipelines_own_process(case: Case) -> None:
    own = case.pipeline.scheduler
    assert torch.equal(*compared(case))
    assert case.pipeline.scheduler is own


@pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")  # Kandinsky: it is slower so
@pytest.mark.parametrize("name", FAMILIES)
def test_f_is_the_pipelines_own_process_in_half_precision(name: str) -> None:
    case = in_half(made(name))
    if name == "Cosmos2TextToImagePipeline":  # (x - x0) / 0.002: x needs all its digits
        with pytest.raises(ModelError, match=f"{name} cannot be used .* a step on its own"):
            PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
        case = replace(case, latents=case.latents.float())
    assert torch.equal(*compared(case))


def test_calls_of_one_step_give_the_velocity(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
    x = case.latents / sampler.start_scale
    for level, lower in pairwise(sampler.levels):
        x = x + (lower - level) * sampler.slope(x, level, case.conditioning)
    torch.testing.assert_close(sampler(case.latents, case.conditioning), x, rtol=1e-4, atol=1e-4)


def test_calls_are_counted_where_the_denoiser_is(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS, last=2)
    before = sampler.calls
    sampler(case.latents, case.conditioning)
    assert sampler.calls - before == 2 * len(case.latents) * case.calls


def test_a_picture_is_its_rows_of_the_conditioning(case: Case) -> None:
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)
    one = sampler.rows(case.conditioning, torch.tensor([1]))
    found = sampler(case.latents[1:], one)
    both = sampler(case.latents, case.conditioning)
    torch.testing.assert_close(found, both[1:], rtol=1e-4, atol=1e-5)


# A denoiser that predicts the picture itself hardly looks at the latents if it is not trained.
@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "PRXPixelPipeline"])
def test_flowopt_inverts_it(name: str) -> None:
    case = made(name)
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
    case = made("FluxPipeline")
    seen: list[None] = []

    def drifting(module: object, args: object, out: tuple[torch.Tensor, ...]) -> object:
        seen.append(None)  # as guidance with a memory does
        return (out[0] * (1 + 0.5 * (len(seen) % 3)), *out[1:])

    case.pipeline.transformer.register_forward_hook(drifting)
    with pytest.raises(ModelError, match="a step on its own is not the same as within"):
        PipelineSampler(case.pipeline, case.conditioning, case.latents, STEPS)


def test_a_call_that_fails_is_refused_in_a_sentence() -> None:
    case = made("FluxPipeline")
    less = {k: v for k, v in case.conditioning.items() if k != "pooled_prompt_embeds"}
    with pytest.raises(ModelError, match=r"FluxPipeline cannot be used .* a call failed"):
        PipelineSampler(case.pipeline, less, case.latents, STEPS)
    with pytest.raises(ModelError, match="a call failed"):
        PipelineSampler(case.pipeline, case.conditioning, case.latents[:, :5], STEPS)
