"""What both denoisers are trained on: latents and text features on disk, drawn in batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from stickers.autoencoder import LATENT_CHANNELS, to_images
from stickers.data import Dataset

P_NO_CAPTION = 0.1


@torch.no_grad()
def encode_latents(
    dataset: Dataset, vae: AutoencoderKL, folder: Path, device: torch.device
) -> None:
    """Write ``latents.npy``: the means of every picture's latents, float16."""

    def encode(rows: slice) -> Tensor:
        return vae.encode(to_images(dataset.pixels[rows], device)).latent_dist.mean

    shape = (len(dataset), LATENT_CHANNELS, 8, 8)
    write_rows(folder / "latents.npy", shape, encode, device)


def write_rows(
    path: Path, shape: tuple[int, ...], encode: Callable[[slice], Tensor], device: torch.device
) -> None:
    """Write an array of float16 row by row, unless it is there."""
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    rows = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for i in range(0, shape[0], 250):
        with torch.autocast(device.type, torch.bfloat16):
            block = encode(slice(i, i + 250))
        rows[i : i + 250] = block.float().cpu().numpy()
        if i % 25_000 == 0:
            print(f"{path.name}: {i:,} of {shape[0]:,} rows", flush=True)
    rows.flush()
    partial.rename(path)


@dataclass(frozen=True)
class Batch:
    """What a denoiser's training step draws; n samples.

    Attributes:
        clean: n x C x h x w latents.
        noise: as many.
        captions: n rows of the text features, where row 0 is no caption.
        spread: n numbers that cover [0, 1] evenly, in random order, for the noise levels.
    """

    clean: Tensor
    noise: Tensor
    captions: np.ndarray
    spread: Tensor


def draw_batch(latents: np.ndarray, batch: int, generator: torch.Generator) -> Batch:
    """Draw samples, a tenth of them without caption for classifier-free guidance (Ho & Salimans
    2022).
    """
    index = torch.randint(len(latents), (batch,), generator=generator).sort().values
    dropped = torch.rand(batch, generator=generator) < P_NO_CAPTION
    clean = torch.from_numpy(latents[index.numpy()]).float()
    noise = torch.randn(clean.shape, generator=generator)
    spread = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    order = torch.randperm(batch, generator=generator)
    return Batch(clean, noise, torch.where(dropped, 0, index + 1).numpy(), spread[order])
