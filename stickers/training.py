"""One training loop for every stage: resumable, with EMA weights, a log and checkpoints.

A checkpoint is one safetensors file (weights, EMA weights, moments); the number of steps done is
in its header. Batches and noise come from a generator keyed by (seed, step), so a resumed stage
sees what an uninterrupted one would have seen.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stickers.muon import Muon, is_matrix


@dataclass(frozen=True)
class Settings:
    """How one stage is trained. The learning rate warms up, stays, and falls to zero over the last
    ``cooldown`` share of the samples.
    """

    samples: int
    batch: int
    learning_rate: float
    warmup_steps: int = 200
    cooldown: float = 0.25
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    seed: int = 0


# Loss of a batch and figures for the log, from the model, this step's generator, the batch size.
Loss = tuple[Tensor, dict[str, float]]
LossFunction = Callable[[nn.Module, torch.Generator, int], Loss]


SAVE_SECONDS = 600.0  # between checkpoints
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum")


def _optimizers(
    weights: dict[str, nn.Parameter], settings: Settings
) -> list[torch.optim.Optimizer]:
    """Muon for matrices and convolutions, AdamW for everything else."""
    lr, decay = settings.learning_rate, settings.weight_decay
    matrices = [w for k, w in weights.items() if is_matrix(k, w)]
    others = [w for k, w in weights.items() if not is_matrix(k, w)]
    adam = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [Muon(matrices, lr, decay), adam]


def learning_rate_factor(settings: Settings, step: int) -> float:
    """Trapezoid: warm-up, plateau, linear cool-down."""
    steps = settings.samples / settings.batch
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    cool = min(1.0, max(0.0, (steps - step) / max(1.0, settings.cooldown * steps)))
    return warm * cool


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one training step."""
    return torch.Generator().manual_seed(seed * 1_000_000_007 + step)


def train(
    name: str,
    model: nn.Module,
    loss_function: LossFunction,
    settings: Settings,
    folder: Path,
    device: torch.device,
    minutes: float = math.inf,
) -> nn.Module:
    """Train until ``settings.samples`` are seen or ``minutes`` are over; returns ``model`` holding
    the EMA weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    model.to(device).train()
    weights = {k: v for k, v in model.named_parameters() if v.requires_grad}
    optimizers = _optimizers(weights, settings)
    ema = {k: v.detach().clone() for k, v in weights.items()}
    step = _resume(path, weights, ema, optimizers)
    total = math.ceil(settings.samples / settings.batch)
    started, last_save, log_from, log_step = time.time(), time.time(), time.time(), step
    averages: dict[str, float] = {}

    while step < total and time.time() - started < minutes * 60:
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = settings.learning_rate * learning_rate_factor(settings, step)
        with torch.autocast(device.type, torch.bfloat16):
            loss, figures = loss_function(
                model, step_generator(settings.seed, step), settings.batch
            )
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        decay = min(settings.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(ema.values()), [w.detach() for w in weights.values()], 1 - decay)
        for key, value in {"loss": float(loss.detach()), **figures}.items():
            averages[key] = averages.get(key, value) * 0.98 + value * 0.02
        if step % 50 == 0 or step == total:
            now = time.time()
            speed = (step - log_step) * settings.batch / (now - log_from)
            log_from, log_step = now, step
            left = (total - step) * settings.batch / speed / 60
            row = {"stage": name, "samples": step * settings.batch, "per_second": round(speed, 1)}
            row |= {k: round(v, 5) for k, v in averages.items()}
            with (folder / f"{name}.log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
            shown = "  ".join(f"{k} {v:.4f}" for k, v in averages.items())
            print(
                f"{name}: {step * settings.batch:,} of {settings.samples:,} samples  {shown}  "
                f"{speed:.0f}/s  {left:.0f} min left",
                flush=True,
            )
        if time.time() - last_save > SAVE_SECONDS:
            _save(path, weights, ema, optimizers, step)
            last_save = time.time()
    _save(path, weights, ema, optimizers, step)
    return restore(model, path)


def restore(model: nn.Module, path: Path) -> nn.Module:
    """The model with the EMA weights of a checkpoint."""
    weights = {k: v for k, v in model.named_parameters() if v.requires_grad}
    with safe_open(path, "pt") as file, torch.no_grad():
        for key, weight in weights.items():
            weight.copy_(file.get_tensor(f"ema.{key}"))
    return model.eval()


def start_from(model: nn.Module, path: Path) -> None:
    """Write a checkpoint that training goes on from as from its step 0: weights without moments."""
    weights = {k: v for k, v in model.named_parameters() if v.requires_grad}
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(path, weights, {k: v.detach().clone() for k, v in weights.items()}, [], 0)


def cost(folder: Path, name: str) -> dict[str, float]:
    """Samples seen and minutes spent by a stage, from its log; zeros if it never ran here."""
    file = folder / f"{name}.log.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines]
    seconds, before = 0.0, 0
    for row in rows:
        # After an interruption the log goes back to the last checkpoint.
        seconds += max(0, row["samples"] - before) / row["per_second"]
        before = row["samples"]
    return {"samples": before, "minutes": round(seconds / 60, 1)}


def _save(
    path: Path,
    weights: dict[str, nn.Parameter],
    ema: dict[str, Tensor],
    optimizers: list[torch.optim.Optimizer],
    step: int,
) -> None:
    tensors = {f"weights.{k}": v.detach() for k, v in weights.items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for key, weight in weights.items():
        for state in (o.state[weight] for o in optimizers if weight in o.state):
            tensors |= {f"{m}.{key}": state[m] for m in MOMENTS if m in state}
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, partial, {"step": str(step)})
    partial.rename(path)


def _resume(
    path: Path,
    weights: dict[str, nn.Parameter],
    ema: dict[str, Tensor],
    optimizers: list[torch.optim.Optimizer],
) -> int:
    """Load a checkpoint if there is one; returns the step to go on from. A file with EMA weights
    alone (a shipped model) is a warm start: the moments begin anew.
    """
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file, torch.no_grad():
        step = int(file.metadata()["step"])
        names = set(file.keys())
        for key, weight in weights.items():
            weight.copy_(file.get_tensor(f"weights.{key}"))
            ema[key].copy_(file.get_tensor(f"ema.{key}"))
            found = {m: file.get_tensor(f"{m}.{key}") for m in MOMENTS if f"{m}.{key}" in names}
            if found:
                state = {m: value.to(weight.device) for m, value in found.items()}
                if "exp_avg" in state:
                    state["step"] = torch.tensor(float(step), device=weight.device)
                optimizers["momentum" not in state].state[weight] = state
    print(f"{path.stem}: going on from step {step:,}", flush=True)
    return step
