"""How much memory there is and how much is used, on the CPU and on accelerators."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Value = TypeVar("Value")

PROCESS = Path("/proc/self")
CONTAINER = Path("/sys/fs/cgroup")
# What runtimes say when an allocation fails; few of them have an exception of their own for it.
SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
)


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or of a runtime says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(sign in str(error).lower() for sign in SIGNS)


def available(device: torch.device) -> int:
    """Bytes that can still be used."""
    if device.type == "cpu":
        return min(_free_in_machine(), _free_in_container())
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return torch.accelerator.get_memory_info(device)[0]


def _free_in_machine() -> int:
    try:
        return _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    except OSError:  # not Linux: count half of what there is as taken
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_container() -> int:
    try:
        limit = (CONTAINER / "memory.max").read_text().strip()
        used = int((CONTAINER / "memory.current").read_text())
        about = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        # Files that were read, such as weights, stay in memory until there is need of it.
        used -= int(about.get("active_file", 0)) + int(about.get("inactive_file", 0))
    except (OSError, ValueError):
        return sys.maxsize
    return sys.maxsize if limit == "max" else max(0, int(limit) - used)


def peak(device: torch.device) -> int:
    """The most bytes held at once since ``measured`` last began: of the process on the CPU, of
    tensors on an accelerator.
    """
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()  # freed blocks are kept: as good as a peak
    if device.type != "cpu":
        return torch.accelerator.max_memory_allocated(device)
    try:
        return _kilobytes(PROCESS / "status", "VmHWM")
    except OSError:
        import resource

        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return found if sys.platform == "darwin" else found * 1024


def resident() -> int:
    """Bytes of memory that this process holds now; where the system does not tell, at most."""
    try:
        return _kilobytes(PROCESS / "status", "VmRSS")
    except OSError:
        return peak(torch.device("cpu"))


def measured(function: Callable[[], Value], device: torch.device) -> tuple[Value, int]:
    """What ``function`` returns, and by how many bytes the memory in use grew for it at most.

    Where the system cannot tell (macOS), growth below an earlier peak counts as none.
    """
    if device.type == "cpu" and _reset_peak():
        before = _kilobytes(PROCESS / "status", "VmRSS")
    elif device.type not in ("cpu", "mps"):
        torch.accelerator.reset_peak_memory_stats(device)
        before = torch.accelerator.memory_allocated(device)
    else:
        before = peak(device)
    value = function()
    return value, max(0, peak(device) - before)


def give_back(device: torch.device) -> None:
    """Return to the system what was freed there."""
    gc.collect()
    if device.type != "cpu":
        torch.accelerator.empty_cache()
    trim()


def trim() -> None:
    """Return to the system what lies free between other allocations of the C library. That of Linux
    keeps it, and of the holes that tensors leave it can fill few.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # glibc's alone
            library.malloc_trim(0)


def _reset_peak() -> bool:
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _kilobytes(file: Path, name: str) -> int:
    """An entry of one of Linux's tables, in bytes."""
    lines = file.read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(f"{name}:"))
