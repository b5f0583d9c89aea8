"""Peak memory on the architecture of Stable Diffusion 1.5: the ``memory.*`` figures.

    python -m benchmarks.memory [--latents 32] [--ways inference,ours,int8,gradient]

Every way runs in a process of its own; its peak is the most memory that was resident after the
model was loaded. Results are kept in benchmarks/memory.jsonl; figures are made of the last of each.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import figures, sd15
from evoken.models.base import ModelSpec
from evoken.models.batches import UNIT
from evoken.models.memory import measured, peak
from evoken.models.stable_diffusion import StableDiffusion
from evoken.models.text import substituted_embeddings
from evoken.textual_inversion.objective import DenoisingLoss

RESULTS = Path(__file__).with_suffix(".jsonl")
PROMPT = "a photo of a cat"


def inference(model: StableDiffusion) -> Callable[[], object]:
    """The denoiser of diffusers alone, on one batch."""
    latents, hidden = model.noise(range(UNIT)), torch.rand(UNIT, 77, 768)
    return lambda: model.denoiser(latents, 500, hidden).sample


def ours(model: StableDiffusion) -> Callable[[], object]:
    """A candidate of the search, from pictures to its loss: images encoded, draws denoised."""
    images = torch.rand(4, 3, model.size, model.size) * 2 - 1
    word = model.embed("cat")[None]

    def evaluate() -> object:
        loss = DenoisingLoss(
            model, images, "<x>", ["a photo of a <x>"], 0, UNIT, validation_draws=UNIT, chunk=UNIT
        )
        return loss.evaluate(word, 1)

    return evaluate


def gradient(model: StableDiffusion, rows: int) -> Callable[[], object]:
    """A step of textual inversion with gradients: the loss of some draws, back to the word."""
    latents, text = model.noise(range(rows)), model.text
    ids = torch.tensor([text.place(PROMPT, "", 0)[0]] * rows)
    word = model.embed("cat").clone().requires_grad_(True)

    def step() -> object:
        with torch.enable_grad():
            embedded = text.table(ids).clone()
            embedded[:, 5] = word
            with substituted_embeddings(text.table, embedded):
                hidden = text.encoder(ids).last_hidden_state
            loss = model.denoiser(latents, 500, hidden).sample.square().mean()
            return torch.autograd.grad(loss, word)

    return step


WAYS: dict[str, Callable[[StableDiffusion], Callable[[], object]]] = {
    "inference": inference,
    "ours": ours,
    "int8": ours,
    "gradient-4": lambda model: gradient(model, 4),
    "gradient-8": lambda model: gradient(model, 8),
}


@torch.no_grad()
def measure(way: str, latents: int) -> dict[str, object]:
    runtime = "torch-int8" if way == "int8" else "torch"
    model = StableDiffusion(sd15.pipeline(latents), ModelSpec("", batch=UNIT, runtime=runtime))
    function = WAYS[way](model)
    if way == "int8":  # the first call makes the weights int8, from float32
        model.denoise(model.noise([0, 1]), torch.ones(2) / 2, model.condition([PROMPT] * 2))
    loaded = peak(torch.device("cpu"))
    measured(function, torch.device("cpu"))  # the peak begins anew where this begins
    return {
        "way": way, "latents": latents, "peak": peak(torch.device("cpu")), "loading": loaded,
    }  # fmt: skip


def rows(latents: int) -> list[dict[str, Any]]:
    """Results so far for latents of a size."""
    return [r for r in figures.results(RESULTS) if r["latents"] == latents]


def report(latents: int) -> None:
    peaks = {r["way"]: r["peak"] for r in rows(latents)}
    found = {f"memory.gigabytes.{way}": round(x / 1e9, 3) for way, x in peaks.items()}
    found |= {
        "memory.loading_gigabytes.int8": round(
            max(r["loading"] for r in rows(latents) if r["way"] == "int8") / 1e9, 2
        ),
        "memory.peak_vs_inference": round(peaks["ours"] / peaks["inference"], 4),
        "memory.sd15_int8_gigabytes": round(peaks["int8"] / 1e9, 3),
    }
    four, eight = peaks["gradient-4"], peaks["gradient-8"]
    sixteen = four + 3 * (eight - four)  # what passes keep for the way back grows with the rows
    for name, base in (("", sixteen), ("_of_4", four)):
        found[f"memory.peak_vs_gradient{name}"] = round(peaks["ours"] / base, 4)
        found[f"memory.int8_peak_vs_gradient{name}"] = round(peaks["int8"] / base, 4)
    found["memory.gigabytes.gradient-16"] = round(sixteen / 1e9, 3)
    figures.update(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--only", help="measure one way here and print it")
    options = parser.parse_args()
    if options.only:
        sd15.one_thread()
        print(json.dumps(measure(options.only, options.latents)))
        return
    for way in filter(None, options.ways.split(",")):
        sd15.measure_apart("benchmarks.memory", way, RESULTS, latents=options.latents)
    if {r["way"] for r in rows(options.latents)} == set(WAYS):
        report(options.latents)


if __name__ == "__main__":
    main()
