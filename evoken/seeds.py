"""One tree of random numbers: a generator per (seed, generation, purpose), never a global one.

Numbers depend on nothing else: not on batch size, not on what was drawn before, not on the device
(they are always drawn on the CPU). A resumed run therefore sees what an uninterrupted one sees.
"""

import hashlib

import numpy as np
import torch


def derive(seed: int, generation: int, purpose: str) -> int:
    """A 63-bit seed from the path (seed, generation, purpose)."""
    path = f"{seed}/{generation}/{purpose}".encode()
    return int.from_bytes(hashlib.sha256(path).digest()[:8], "big") >> 1


def torch_generator(seed: int, generation: int, purpose: str) -> torch.Generator:
    """For noise and other tensors."""
    return torch.Generator().manual_seed(derive(seed, generation, purpose))


def numpy_generator(seed: int, generation: int, purpose: str) -> np.random.Generator:
    """For searches and choices."""
    return np.random.default_rng(derive(seed, generation, purpose))
