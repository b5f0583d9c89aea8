"""What is kept between runs: where, and by what name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who asks for the folder alone does not wait for torch
    from torch import Tensor, nn


def cache_root() -> Path:
    """``EVOKEN_CACHE``, or ``evoken`` in ``XDG_CACHE_HOME``, which is ``~/.cache`` by default."""
    if own := os.environ.get("EVOKEN_CACHE"):
        return Path(own).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "evoken"


def fingerprint(module: nn.Module, inputs: Sequence[Tensor], about: Iterable[str]) -> str:
    """A name for what a module computes on rows of such inputs: weights, structure, shapes."""
    import torch

    digest = hashlib.sha256()
    for part in (*about, repr(module), *_configs(module)):
        digest.update(part.encode() + b"\0")
    for x in inputs:
        digest.update(f"{tuple(x.shape[1:])} {x.dtype}\0".encode())
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\0".encode())
        numbers = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        digest.update(numbers.data)
    return digest.hexdigest()[:32]


def _configs(module: nn.Module) -> list[str]:
    """Settings of modules of diffusers and transformers that neither names nor weights show, such
    as the number of attention heads; without those that say where a model was loaded from.
    """
    found: list[Any] = [m.config for m in module.modules() if hasattr(m, "config")]
    configs = [dict(c.to_dict() if hasattr(c, "to_dict") else c) for c in found]
    return [str(sorted((k, v) for k, v in c.items() if k[0] != "_")) for c in configs]
