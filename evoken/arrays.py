"""Names for arrays, so that a signature says what a tensor holds (shapes in the comments)."""

import os
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Hidden states are on the model's device, everything else is on the processor.
Images = Tensor  # float32, N x 3 x H x W, in [-1, 1]
Masks = Tensor  # float32, N x 1 x H x W, in [0, 1]: 1 where the thing is
Latents = Tensor  # float32, N x C x h x w, scaled for the denoiser
NoiseLevels = Tensor  # float32, N, in [0, 1]: 0 = data, 1 = noise
Vectors = Tensor  # float32, vector x width: one word; candidate x vector x width: a population
Words = Mapping[str, Tensor]  # candidate x vector x width, by placeholder
Hidden = Tensor  # float32, N x token x width: what the denoiser reads of a prompt
Coords = NDArray[np.float64]  # d: one point; candidate x d: a population
Losses = NDArray[np.float64]  # candidate; lower is better; NaN = failed candidate
PathLike = str | os.PathLike[str]  # of a file or a folder
NO_WORDS: Words = MappingProxyType({})
