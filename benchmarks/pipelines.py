"""Flow pipelines of diffusers as black boxes: the ``flowopt.pipelines*`` figures.

    python -m benchmarks.pipelines

Every class of diffusers that draws pictures from prompts with flow matching, found in diffusers
itself, is tried on a small pipeline with random weights, in float32 and in bfloat16: does f give
the very numbers of the plain call, or is the pipeline refused in a sentence?
"""

import torch

from benchmarks import figures
from evoken.errors import ModelError
from evoken.flowopt.pipeline import check_flow
from tests.flow_classes import FAMILIES, compared, made, refused, text_to_image_flows
from tests.flows import in_half


def outcome(name: str) -> str:
    """What comes of a class; begins with "equal", "refused" or something worse."""
    if name in FAMILIES:
        if not torch.equal(*compared(made(name))):
            return "differs"
        try:
            return "equal" if torch.equal(*compared(in_half(made(name)))) else "differs in bfloat16"
        except ModelError as error:
            return f"equal in float32; in bfloat16 {error.problem}"
    pipeline = refused().get(name)
    if pipeline is None:
        return "not tried"
    try:
        check_flow(pipeline)
    except ModelError as error:
        return f"refused: {error.problem}"
    return "not refused"


def main() -> None:
    found = {name: outcome(name) for name in text_to_image_flows()}
    for name, what in found.items():
        print(f"{name:28} {what}")
    figures.update(
        {
            "flowopt.pipelines": len(found),
            "flowopt.pipelines_equal": sum(what.startswith("equal") for what in found.values()),
            "flowopt.pipelines_refused": sum(what.startswith("refused") for what in found.values()),
        }
    )


if __name__ == "__main__":
    main()
