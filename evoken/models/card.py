"""Which part of a model is on a card: with `offload` one at a time, and the others wait in the
machine's memory.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from weakref import ref

import torch
from torch import Tensor, nn

from evoken.models.quantized import stored
from evoken.spec import ModelSpec

OWN_MEMORY = ("cpu", "mps")  # kinds of device whose memory is that of the machine


def home(spec: ModelSpec) -> torch.device:
    """The device on which a part of a model waits until it computes."""
    return torch.device("cpu" if spec.offload else spec.device)


def weights_of(part: nn.Module) -> int:
    """The bytes of a part's parameters and buffers, as they are stored; what two layers share
    counts once.
    """
    held = {id(x): x for x in (*part.parameters(), *part.buffers())}
    return sum(x.nbytes for whole in held.values() for x in stored(whole))


def said_of_weights(parts: Mapping[str, nn.Module], spec: ModelSpec) -> str:
    """What of a model's weights its card holds, as the end of a sentence; "" where there is none.

    Args:
        parts: by their names.
        spec: of the loaded model.
    """
    if torch.device(spec.device).type in OWN_MEMORY:
        return ""
    sizes = {name: weights_of(part) / 1e9 for name, part in parts.items()}
    name, whole = max(sizes, key=lambda part: sizes[part]), sum(sizes.values())
    most = f"{sizes[name]:.1f} GB ({name})"
    if spec.offload:
        return f"the card holds {most} of {whole:.1f} GB of weights at a time"
    return f"the card holds {whole:.1f} GB of weights, offloaded {most} at a time"


@contextmanager
def on_card(part: nn.Module, device: torch.device | str, offload: bool) -> Iterator[None]:
    """Within the block a part is on its device, and stays there until another one is wanted there.
    Without ``offload`` it is there anyway.
    """
    if not offload:
        yield
        return
    device = torch.device(device)
    place = device.type, device.index or 0  # "cuda" is the first card, as is "cuda:0"
    card = _cards.setdefault(place, _Card(device))
    with card.lock:
        card.bring(part)
        yield


class _Card:
    """A device and the part on it, of whatever model of this process.

    Weights are frozen, so a part that leaves is not copied back: its copy is given up, and the
    tensors that it was made of take their places again.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.lock = device, RLock()
        self._part: Callable[[], nn.Module | None] = _nothing
        # By the number of a copy: the copy, and what it was made of.
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}

    def bring(self, part: nn.Module) -> None:
        """Put the part on the device, and nothing else."""
        if self._part() is part:
            return
        self._clear()
        copies: dict[int, tuple[Tensor, Tensor]] = {}
        self._copies = copies
        self._part = ref(part, lambda _: copies.clear())
        made: dict[int, Tensor] = {}  # by the number of the original, which layers may share
        for layer, name, value in _held(part):
            copy = made.get(id(value))
            if copy is None:
                copy = made[id(value)] = _like(value, self.device)
                copies[id(copy)] = copy, value
            setattr(layer, name, copy)

    def _clear(self) -> None:
        """Give up what is there, but not what has changed there, as weights do that become int8."""
        part, self._part = self._part(), _nothing
        for layer, name, value in _held(part) if part is not None else ():
            _, original = self._copies.get(id(value), (value, value))
            same = original is not value and original.dtype == value.dtype
            setattr(layer, name, original if same else _like(value, torch.device("cpu")))
        self._copies.clear()
        if torch.accelerator.current_accelerator(check_available=True) is not None:
            torch.accelerator.empty_cache()  # or it would count as taken when batches are sized


_cards: dict[tuple[str, int], _Card] = {}  # by kind and number


def _nothing() -> nn.Module | None:
    """In place of a part."""
    return None


def _held(part: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """All parameters and buffers: the layer, the name there, and the tensor."""
    return [
        (layer, name, value)
        for layer in part.modules()
        for named in (layer.named_parameters, layer.named_buffers)
        for name, value in named(recurse=False, remove_duplicate=False)
    ]


def _like(value: Tensor, device: torch.device) -> Tensor:
    """The same on a device."""
    moved = value.detach().to(device)
    return nn.Parameter(moved, requires_grad=False) if isinstance(value, nn.Parameter) else moved
