"""All text-to-image flow pipelines of diffusers: which there are, and a small one of each."""

import inspect
import re
import warnings
from collections.abc import Callable

import diffusers
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    DreamLiteMobilePipeline,
    DreamLitePipeline,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
)
from torch import Tensor

from evoken.flowopt.pipeline import PipelineSampler
from tests import (
    flows,
    flows_bria,
    flows_flux2,
    flows_hidream,
    flows_more,
    flows_prompts,
    tiny,
)
from tests.flows import Case

FAMILIES: dict[str, Callable[[], Case]] = {
    **flows.FAMILIES,
    **flows_bria.FAMILIES,
    **flows_flux2.FAMILIES,
    **flows_hidream.FAMILIES,
    **flows_more.FAMILIES,
    **flows_prompts.FAMILIES,
}
# In the names of pipelines that make pictures from other pictures.
FROM_PICTURES = re.compile("Img2Img|I2I|Inpaint|Fill|Edit|Control|Layered|Refiner")


def made(name: str) -> Case:
    """A small pipeline of a class."""
    with warnings.catch_warnings():
        # Chroma still takes a class from where diffusers itself says not to.
        warnings.filterwarnings("ignore", message=".*FluxPosEmbed", category=FutureWarning)
        return FAMILIES[name]()


def compared(case: Case, steps: int = 4) -> tuple[Tensor, Tensor]:
    """What f makes of the example, and what a plain call of the pipeline returns: nothing is told
    of levels, which are its own.
    """
    sampler = PipelineSampler(case.pipeline, case.conditioning, case.latents, steps)
    expected = case.pipeline(
        latents=case.latents,
        num_inference_steps=steps,
        output_type="latent",
        return_dict=False,
        **case.conditioning,
    )[0]
    return case.returned(sampler(case.latents, case.conditioning)), expected.float()


def refused() -> dict[str, DiffusionPipeline]:
    """Pipelines that cannot serve, empty but for what decides it."""
    euler = FlowMatchEulerDiscreteScheduler()
    solver = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    nothing = [None] * 5
    return {
        "StableDiffusionPipeline": tiny.pipeline(),
        "SanaPipeline": SanaPipeline(None, None, None, None, solver),
        "DreamLitePipeline": DreamLitePipeline(*nothing, euler),
        "DreamLiteMobilePipeline": DreamLiteMobilePipeline(*nothing, euler),
    }


def text_to_image_flows() -> list[str]:
    """Names of diffusers' classes that draw pictures from prompts with flow matching."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes that will go
        found = [getattr(diffusers, n) for n in dir(diffusers) if n.endswith("Pipeline")]
    return [kind.__name__ for kind in found if _is_one(kind)]


def _is_one(kind: type) -> bool:
    if not (isinstance(kind, type) and issubclass(kind, DiffusionPipeline)):
        return False
    parts = inspect.signature(kind.__init__).parameters
    asked = inspect.signature(kind.__call__).parameters
    return (
        "scheduler" in parts
        and FlowMatchEulerDiscreteScheduler.__name__ in str(parts["scheduler"].annotation)
        and {"prompt", "num_images_per_prompt"} <= set(asked)
        and "num_frames" not in asked
        and not FROM_PICTURES.search(kind.__name__)
    )
