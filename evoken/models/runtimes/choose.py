"""The denoiser on the runtime of a spec: exported once, kept, compared with torch."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from evoken.cache import cache_root, fingerprint
from evoken.errors import EvokenError, ModelError, reason_of
from evoken.models.memory import give_back, out_of_memory
from evoken.models.runtimes import int8
from evoken.models.runtimes.exports import Check, read_entry, write_entry
from evoken.models.runtimes.precision import arithmetic
from evoken.runtimes import RUNTIMES
from evoken.spec import ModelSpec
from evoken.version import __version__

Denoiser = Callable[..., Tensor]


class Engine(Protocol):
    """A file of this folder that takes a denoiser out of torch."""

    def export(self, module: nn.Module, example: Sequence[Tensor], folder: Path) -> None:
        """Write the module; any number of rows, all other sizes as in the example."""

    def load(self, folder: Path) -> Callable[..., Tensor]:
        """The exported module as a function of tensors."""


def on_runtime(
    spec: ModelSpec, module: nn.Module, example: Sequence[Tensor], root: Path | None = None
) -> tuple[Denoiser, Check | None]:
    """The module as a function of tensors on the spec's runtime, and how near it comes to torch.

    The function takes any number of rows and returns the same bits for a row whatever their number,
    as long as it is a multiple of ``evoken.models.batches.UNIT``. With a runtime other than torch
    the module's own weights are given up.

    Args:
        module: a function of tensors with one row per item, in float32, or for int8 in half
            precision.
        example: its inputs; sizes other than the number of rows are fixed by them.
        root: folder of exported denoisers, by default ``cache_root()``.

    Returns:
        The function, and the comparison if it was made now: None in torch itself, and where the
        cache knows of one.

    Raises:
        ModelError: the runtime cannot run the module, or its outputs are not torch's.
        SettingError: the cache cannot be written.
    """
    if spec.runtime == "torch":
        return module, None
    name = f"{spec.runtime}-{spec.precision}-{fingerprint(module, example, _versions(spec))}"
    folder = (root or cache_root()) / name
    made: list[Denoiser] = []

    def fill(partial: Path) -> Check:
        with torch.no_grad(), int8.in_float32(module):
            expected = module(*example)
        made.append(_open(spec, module, example, partial, new=True))
        return compare(spec, made[0], example, expected)

    try:
        if read_entry(folder) is not None:
            made.append(_open(spec, module, example, folder))
            check = None
        else:
            check = write_entry(folder, fill)
        give_back(torch.device(spec.device))
    except EvokenError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ModelError(
            f"{spec.runtime} cannot run this denoiser: {reason_of(error)}.",
            "Set `runtime` to torch.",
        ) from error
    return made[0], check


def compare(
    spec: ModelSpec, function: Denoiser, example: Sequence[Tensor], expected: Tensor
) -> Check:
    """The difference from what torch gave in float32.

    Raises:
        ModelError: it is more than rounding explains.
    """
    with torch.no_grad(), arithmetic(spec):
        found = function(*example).float()
    largest = float((found - expected).abs().max())
    check = Check(spec.runtime, largest, float(expected.square().mean().sqrt()))
    share = RUNTIMES[spec.runtime].allowed
    if not largest <= share * check.rms:  # NaN is not
        raise ModelError(
            f"{check}; at most {share * check.rms:.2g} is a matter of rounding.",
            "Set `runtime` to torch, or `precision` to float32.",
        )
    return check


def _open(
    spec: ModelSpec, module: nn.Module, example: Sequence[Tensor], folder: Path, new: bool = False
) -> Denoiser:
    """The function of an entry's files, which are written first where it is new."""
    if not (name := RUNTIMES[spec.runtime].engine):
        return int8.to_int8(module)
    engine = cast(Engine, import_module(name))
    if new:
        engine.export(module, example, folder)
    run = engine.load(folder)
    module.to("meta")  # one copy of the weights is enough
    sizes = [x.shape[1:] for x in example]

    def checked(*inputs: Tensor) -> Tensor:
        if (given := [x.shape[1:] for x in inputs]) != sizes:
            raise ModelError(
                f"the denoiser was exported for rows of sizes {[*map(tuple, sizes)]} (got "
                f"{[*map(tuple, given)]}).",
                "Load the model again.",
            )
        return run(*inputs)

    return checked


def _versions(spec: ModelSpec) -> list[str]:
    """What an export depends on besides the module."""
    packages = ("torch", "diffusers", *RUNTIMES[spec.runtime].modules)
    return [__version__, *(f"{p} {version(p)}" for p in packages)]
