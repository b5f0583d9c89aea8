"""Peak memory on the architecture of Stable Diffusion 1.5: the ``memory.*`` figures.

    python -m benchmarks.memory [--latents 32] [--ways inference,ours,int8,gradient]

The model is a folder of float16 weights, as it is published. Every way loads it in a process of its
own; its peak is the most memory that was resident after the model was loaded, with int8 weights
after the first call, which makes them. Results are kept in benchmarks/memory.jsonl; figures are
made of the last of each.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import figures, sd15
from evoken.models.batches import UNIT
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.memory import give_back, measured, peak
from evoken.models.pipelines import load_pipeline
from evoken.models.text import substituted_embeddings
from evoken.spec import ModelSpec
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
    ids = torch.tensor([text.place(PROMPT, {})[0]] * rows)
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
    "gradient-16": lambda model: gradient(model, 16),
}


@torch.no_grad()
def measure(way: str, latents: int, folder: str) -> dict[str, object]:
    """What a way takes, with the model of a folder.

    Returns:
        Bytes resident with Python's libraries alone, at most until the model was ready, and at most
        from then on.
    """
    import torchao.quantization  # noqa: F401 - of the libraries, too

    started = peak(torch.device("cpu"))
    runtime = "torch-int8" if way == "int8" else "torch"
    model = load_pipeline(folder, ModelSpec("sd15", batch=UNIT, runtime=runtime))
    assert isinstance(model, StableDiffusion)
    function = WAYS[way](model)
    if way == "int8":  # the first call compares with float32 and makes the weights int8
        model.denoise(model.noise([0, 1]), torch.ones(2) / 2, model.condition([PROMPT] * 2))
    loaded = peak(torch.device("cpu"))
    give_back(torch.device("cpu"))  # what loading left
    measured(function, torch.device("cpu"))  # the peak begins anew where this begins
    return {
        "way": way,
        "latents": latents,
        "peak": peak(torch.device("cpu")),
        "loading": loaded,
        "libraries": started,
    }


def rows(latents: int) -> list[dict[str, Any]]:
    """Results so far for latents of a size."""
    return [r for r in figures.results(RESULTS) if r["latents"] == latents]


def report(latents: int) -> None:
    last = {r["way"]: r for r in rows(latents)}
    peaks = {way: r["peak"] for way, r in last.items()}
    suffix = "" if latents == 32 else f".{latents * 8}px"
    found = {f"memory.gigabytes.{way}{suffix}": round(x / 1e9, 3) for way, x in peaks.items()}
    if suffix:
        figures.update(found)
        return
    found |= {
        "memory.loading_gigabytes.int8": round(last["int8"]["loading"] / 1e9, 2),
        "memory.loading_gigabytes.float32": round(last["ours"]["loading"] / 1e9, 2),
        "memory.libraries_gigabytes": round(last["int8"]["libraries"] / 1e9, 3),
        "memory.peak_vs_inference": round(peaks["ours"] / peaks["inference"], 4),
        "memory.sd15_int8_gigabytes": round(peaks["int8"] / 1e9, 3),
    }
    for name, base in (("", peaks["gradient-16"]), ("_of_4", peaks["gradient-4"])):
        found[f"memory.peak_vs_gradient{name}"] = round(peaks["ours"] / base, 4)
        found[f"memory.int8_peak_vs_gradient{name}"] = round(peaks["int8"] / base, 4)
    figures.update(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--only", help="measure one way here and print it")
    parser.add_argument("--folder", help="of the model, for --only")
    options = parser.parse_args()
    if options.only:
        sd15.one_thread()
        print(json.dumps(measure(options.only, options.latents, options.folder)))
        return
    with TemporaryDirectory() as folder:
        if options.ways:
            sd15.pipeline(options.latents).to(torch.float16).save_pretrained(folder)
        for way in filter(None, options.ways.split(",")):
            apart = {"latents": options.latents, "folder": folder}
            os.environ["EVOKEN_CACHE"] = folder + "/exports"  # the comparison is measured as well
            sd15.measure_apart("benchmarks.memory", way, RESULTS, **apart)
    if options.latents != 32 or {r["way"] for r in rows(32)} >= set(WAYS):
        report(options.latents)


if __name__ == "__main__":
    main()
