"""Calls per second on the architecture of Stable Diffusion 1.5: the ``speed.*`` figures.

    python -m benchmarks.speed [--latents 32] [--repeats 2] [--ways official,torch,onnx]

Every way is measured in a process of its own, on one thread, in seconds of the CPU, which other
programs on the machine hardly change; beside it, in the same process, the rate of large matrix
products. Results are kept in benchmarks/speed.jsonl as they come; figures are made of all of them.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import figures, sd15
from evoken.models.batches import UNIT, in_batches
from evoken.models.families.stable_diffusion import StableDiffusion
from evoken.models.runtimes.choose import on_runtime
from evoken.models.runtimes.precision import arithmetic
from evoken.spec import ModelSpec

RESULTS = Path(__file__).with_suffix(".jsonl")
WAYS: dict[str, tuple[str, str]] = {
    "official": ("torch", "float32"),
    "torch": ("torch", "float32"),
    "torch-bfloat16": ("torch", "bfloat16"),
    "torch-int8": ("torch-int8", "float32"),
    "torch-int8-bfloat16": ("torch-int8", "bfloat16"),
    "onnx": ("onnx", "float32"),
    "openvino": ("openvino", "float32"),
}
DEFAULT = "torch"  # what a user who gives no options has
BATCH = 5  # images of the official loop's batches
SENTENCES = 4  # texts that sixteen of our draws read


def seconds_of(function: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of the CPU of each repeat; a first one costs too little more to be left out."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        found.append(time.process_time() - started)
    return found


def matmul_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating point operations per second of large matrix products: the best of some."""
    a = torch.rand(size, size).to(dtype)
    return 2 * size**3 / min(seconds_of(lambda: a @ a, 5))


def operations(latents: int) -> tuple[float, float]:
    """Floating point operations of one call, and the share of those before the first text."""
    with torch.device("meta"):
        unet = sd15.pipeline(latents).unet
        rows = (torch.rand(1, 4, latents, latents), torch.ones(1), torch.rand(1, 77, 768))
    with FlopCounterMode(display=False) as counter:
        unet(*rows)
    counts = {name: sum(by.values()) for name, by in counter.get_flop_counts().items()}
    block = "down_blocks.0.attentions.0"
    before = (
        "conv_in",
        "time_embedding",
        "down_blocks.0.resnets.0",
        f"{block}.proj_in",
        f"{block}.transformer_blocks.0.attn1",
    )
    name = type(unet).__name__
    return counts["Global"], sum(counts[f"{name}.{x}"] for x in before) / counts["Global"]


def official(model: StableDiffusion) -> Callable[[], object]:
    """One batch of the official evaluation of one candidate: each of its five images is encoded by
    the autoencoder, its sentence by the text encoder, and denoised; nothing is kept for the next.
    """
    images = torch.rand(BATCH, 3, model.size, model.size) * 2 - 1
    ids = torch.ones(BATCH, 77, dtype=torch.long)

    def run() -> Tensor:
        latents = model.vae.encode(images).latent_dist.sample() * model.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        t = torch.full((BATCH,), 500)
        noisy = model.process.add_noise(latents, noise, torch.full((BATCH,), 0.5))
        hidden = model.text.encoder(ids).last_hidden_state
        return (model.denoiser(noisy, t, hidden).sample - noise).square().mean()

    return run


def ours(model: StableDiffusion) -> Callable[[], object]:
    """One batch of draws: a quarter as many texts, latents that were encoded once."""
    latents, t = model.noise(range(UNIT)), torch.full((UNIT,), 500)
    hidden = torch.rand(UNIT, 77, 768)
    run, check = on_runtime(model.spec, model._function, (latents, t, hidden))
    print(check, file=sys.stderr)
    ids = torch.ones(SENTENCES, 77, dtype=torch.long)

    def evaluate() -> Tensor:
        with arithmetic(model.spec):
            texts = model.text.encoder(ids).last_hidden_state.float()
            rows = texts.repeat_interleave(UNIT // SENTENCES, 0)
            return in_batches(run, UNIT, latents, t, rows).float()

    return evaluate


@torch.no_grad()
def measure(way: str, latents: int, repeats: int) -> dict[str, Any]:
    runtime, precision = WAYS[way]
    model = StableDiffusion(sd15.pipeline(latents), ModelSpec("", precision, 16, runtime=runtime))
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    function, count = (official(model), BATCH) if way == "official" else (ours(model), UNIT)
    seconds = seconds_of(function, repeats)
    rate = matmul_rate(dtype)
    return {"way": way, "latents": latents, "calls": count, "seconds": seconds, "rate": rate}


def report() -> None:
    rows = figures.results(RESULTS)
    found: dict[str, Any] = {}
    for latents in sorted({r["latents"] for r in rows}):
        here = {r["way"]: r for r in rows if r["latents"] == latents}
        each, before_text = operations(latents)
        suffix = "" if latents == 32 else f".{latents * 8}px"
        base = statistics.median(here["official"]["seconds"]) / BATCH
        for way, row in here.items():
            speeds = [row["calls"] / s for s in row["seconds"]]
            share = statistics.median(speeds) * each / row["rate"]
            found[f"speed.calls_per_second.{way}{suffix}"] = figures.spread(speeds)
            found[f"speed.share_of_matmul_rate.{way}{suffix}"] = round(share, 4)
            found[f"speed.calls_per_second_vs_official.{way}{suffix}"] = round(
                statistics.median(speeds) * base, 4
            )
        found[f"speed.share_before_text{suffix}"] = round(before_text, 4)
        for way in set(here) & {DEFAULT, "torch-bfloat16"}:  # at its calls, on one core
            calls = figures.read()["learn.calls"]
            hours = calls * statistics.median(here[way]["seconds"]) / here[way]["calls"] / 3600
            name = "" if way == DEFAULT else f".{way}"
            found[f"speed.sd15_hours_per_word{name}{suffix}"] = round(hours, 2)
        if not suffix:
            for name in ("calls_per_second_vs_official", "share_of_matmul_rate"):
                found[f"speed.{name}"] = found[f"speed.{name}.{DEFAULT}"]
    figures.update(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--only", help="measure one way here and print it")
    options = parser.parse_args()
    if options.only:
        sd15.one_thread()
        print(json.dumps(measure(options.only, options.latents, options.repeats)))
        return
    for way in filter(None, options.ways.split(",")):
        sd15.measure_apart(
            "benchmarks.speed", way, RESULTS, latents=options.latents, repeats=options.repeats
        )
    report()


if __name__ == "__main__":
    main()
