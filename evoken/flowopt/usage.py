"""What noise is for: the header of its file, and how diffusers makes the picture of it. No path is
in either.
"""

import json
from collections.abc import Sequence
from typing import Any

from evoken.flowopt.edit import Task
from evoken.flowopt.settings import FlowOptSettings
from evoken.models.base import Model
from evoken.models.bases import BASES
from evoken.models.embedded import EMBEDDED
from evoken.models.encoders import TextEncoders
from evoken.models.provenance import is_hub_id, public_name, repository

DDIM = (
    "pipe.scheduler = DDIMScheduler.from_config(\n"
    '    pipe.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, '
    "clip_sample=False\n)\n"
)
FLOWS = ("StableDiffusion3Pipeline", "FluxPipeline")


def about_noise(model: Model, settings: FlowOptSettings, task: Task) -> dict[str, Any]:
    """What noise is for, as a run's ``config.json`` keeps it."""
    texts: TextEncoders | None = getattr(model, "texts", None)
    t5 = texts.encoders.get("t5xxl") if texts else None
    return {
        "model": public_name(model.spec.name),
        "family": type(model).__name__,
        "size": model.size,
        "steps": settings.steps,
        "last": settings.deepest,
        "guidance": settings.source_guidance if task.targets else settings.guidance,
        "prompts": list(task.sources),
        "has_t5": t5 is not None,
        "t5_tokens": t5.room if t5 else getattr(model, "t5_tokens", 0),
        "words": [word.placeholder for word in task.words],
    }


def header(about: dict[str, Any]) -> dict[str, str]:
    """The header of a file of noise: the same, as safetensors holds it."""
    told = ("model", "size", "steps", "last", "guidance", "prompts", "words")
    texts = {name: about[name] for name in told}
    return {name: v if isinstance(v, str) else json.dumps(v) for name, v in texts.items()}


def diffusers_code(about: dict[str, Any], name: str, crop: Sequence[int] | None = None) -> str:
    """The lines that draw the first picture from its noise; "" where diffusers takes no such noise:
    of a process that begins in its middle, of learned words, and of other families.

    Args:
        name: of the model, in a ``ModelSpec``.
        crop: left, top, right and bottom of the picture in what the model draws; None for all.
    """
    base = next((b for b in BASES if b.family[1] == about["family"]), None)
    if base is None or about["last"] != about["steps"] or about["words"]:
        return ""
    flow = base.pipeline in FLOWS
    imports, source = [], f"from_pretrained({public_name(name)!r})"
    if name in EMBEDDED:
        imports.append("import evoken")
        source = f"from_pretrained(evoken.export_embedded({name!r}, {name!r}))"
    elif name.endswith(".safetensors"):
        source = f"from_single_file({public_name(name)!r})"
    elif is_hub_id(name) and repository(name)[1]:
        source = "from_pretrained({!r}, revision={!r})".format(*repository(name))
    imports.append(f"from diffusers import {'' if flow else 'DDIMScheduler, '}{base.pipeline}")
    imports.append("from safetensors.torch import load_file")
    packed = base.pipeline == "FluxPipeline"
    if base.pipeline == "StableDiffusion3Pipeline" and not about["has_t5"]:
        source = f"{source[:-1]}, text_encoder_3=None, tokenizer_3=None)"
    side = about["size"]
    arguments = [
        repr(about["prompts"][0]),
        f"latents={'pipe._pack_latents(noise, *noise.shape)' if packed else 'noise'}",
        f"num_inference_steps={about['steps']}",
        f"guidance_scale={about['guidance']}",
        f"height={side}",
        f"width={side}",
    ]
    if flow:
        arguments.append(f"max_sequence_length={about['t5_tokens']}")
    cut = f".crop({tuple(crop)})" if crop else ""
    return (
        "\n".join(imports)
        + f"\n\npipe = {base.pipeline}.{source}\n"
        + ("" if flow else DDIM)
        + 'noise = load_file("noise.safetensors")["noise"][:1]\n'
        + f"picture = pipe({', '.join(arguments)}).images[0]{cut}"
    )
