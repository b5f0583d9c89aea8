"""A device that computes on the processor but, as accelerators do, refuses tensors that are not on
it, and float64. What runs on it does not do what a machine without an accelerator never notices.
It counts the bytes of what is on it, as their allocators do.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "elsewhere"
REFUSED: set[torch.dtype] = set()
DEVICE = torch.device("cpu")  # until the first use of ``elsewhere``
LIBRARY = torch.library.Library("aten", "IMPL")
DATA: Any = Tensor.data  # the property itself
aten = torch.ops.aten
# Accelerators take indices from the processor, and copy between devices.
CROSSING = (aten.index.Tensor, aten.index_put_.default, aten.copy_.default, aten._to_copy.default)


class Backend(_DummyBackendModule):
    """What torch asks a kind of device for; it is there within ``elsewhere`` alone."""

    here = False

    def is_available(self) -> bool:
        return self.here

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


BACKEND = Backend()


class Memory:
    """The bytes of the tensors that are elsewhere; views of one storage count once."""

    FREE = 2**40  # there is always room

    def __init__(self) -> None:
        self.now = self.most = 0
        self._alive: dict[int, ref[Tensor]] = {}
        self._holders: Counter[int] = Counter()  # of a storage

    def take(self, tensor: Tensor, storage: torch.UntypedStorage) -> None:
        """Count a tensor until it is no more."""
        place, size, number = storage.data_ptr(), storage.nbytes(), id(tensor)

        def gone(_: object) -> None:
            del self._alive[number]
            self._holders[place] -= 1
            self.now -= 0 if self._holders[place] else size

        self._alive[number] = ref(tensor, gone)
        self._holders[place] += 1
        self.now += size if self._holders[place] == 1 else 0
        self.most = max(self.most, self.now)

    def functions(self) -> dict[str, Any]:
        """What torch.accelerator has for it."""
        return {
            "memory_allocated": lambda *_: self.now,
            "max_memory_allocated": lambda *_: self.most,
            "reset_peak_memory_stats": self._forget,
            "get_memory_info": lambda *_: (self.FREE, self.FREE),
            "empty_cache": lambda: None,
        }

    def _forget(self, *_: object) -> None:
        self.most = self.now


MEMORY = Memory()


class Away(Tensor):
    """A tensor that says it is elsewhere; ``value`` is on the processor."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> "Away":
        made: Away = Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=DEVICE,
            requires_grad=value.requires_grad,
        )
        made.value = value
        MEMORY.take(made, value.untyped_storage())
        return made

    @property
    def data(self) -> Tensor:
        found: Tensor = DATA.__get__(self)
        return found

    @data.setter
    def data(self, other: Tensor) -> None:
        assert isinstance(other, Away)
        DATA.__set__(self, other)
        self.value = other.value

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        return dispatch(function, arguments, options or {})


class Dispatch(TorchDispatchMode):
    """Sends what makes tensors elsewhere there; those that are made of others do so with each."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if any(hasattr(kind, "__tensor_flatten__") for kind in types):
            return NotImplemented
        return dispatch(function, arguments, options or {})


def dispatch(function: Any, arguments: Any, options: dict[str, Any]) -> Any:
    """Compute on the processor; the result is where the arguments are, or where it was wanted."""
    tensors = [x for x in tree_flatten((arguments, options))[0] if isinstance(x, Tensor)]
    away = [x for x in tensors if isinstance(x, Away)]
    stranger = any(not isinstance(x, Away) and x.ndim for x in tensors)
    if away and stranger and function not in CROSSING:
        raise RuntimeError(f"{function}: all tensors have to be on the same device")
    wanted = options.get("device")
    if wanted is not None:
        options = options | {"device": torch.device("cpu")}
        there = torch.device(wanted).type == NAME
    else:
        there = bool(away)
        if function is aten.copy_.default:
            there = isinstance(arguments[0], Away)
    arguments, options = tree_map(
        lambda x: x.value if isinstance(x, Away) else x, (arguments, options)
    )
    found = function(*arguments, **options)
    if there and REFUSED & {x.dtype for x in tree_flatten(found)[0] if isinstance(x, Tensor)}:
        raise TypeError(f"{function}: this device has no float64, as Apple's have none")
    if not there:
        return found
    # In-place functions return what they were given.
    known = {id(x.value): x for x in away}
    return tree_map(lambda x: known.get(id(x), Away(x)) if isinstance(x, Tensor) else x, found)


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Away:
    return Away(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Away, _: bool = False) -> Away:
    target.value.copy_(source)
    return target


@contextmanager
def elsewhere(float64: bool = False) -> Iterator[str]:
    """Within the block, the name of a device that mixes with no other, with or without float64."""
    global DEVICE, REFUSED
    REFUSED = set() if float64 else {torch.float64}
    if DEVICE.type == "cpu":
        _setup_privateuseone_for_python_backend(NAME, BACKEND)
        DEVICE = torch.device(NAME, 0)
        # What ``torch.tensor(..., device=)`` does is hidden from modes.
        LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
        LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")
    BACKEND.here = True
    try:
        with ExitStack() as stack:
            for name, function in MEMORY.functions().items():
                stack.enter_context(patch.object(torch.accelerator, name, function))
            stack.enter_context(Dispatch())
            yield NAME
    finally:
        BACKEND.here = False
