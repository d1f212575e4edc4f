"""What the machine has: device, number format and memory layout."""

import ctypes
import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import Literal

import torch

from bleedmap.models.device import require_device

Precision = Literal["auto", "fp32", "bf16"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


@dataclass(frozen=True)
class Machine:
    """Where and how the network runs."""

    device: torch.device  # cpu, cuda:N or mps
    bf16: bool  # whether the network runs under bf16 autocast
    rank: int = 0  # this process' number, of `processes` that train together
    processes: int = 1
    compiled: bool = False  # whether training runs the network through torch.compile

    def describe(self) -> str:
        """For the run's record."""
        form = "bf16 autocast" if self.bf16 else "fp32"
        several = f", {self.processes} processes" if self.processes > 1 else ""
        return f"{self.device}, {form}, channels_last{', compiled' if self.compiled else ''}{several}"


def choose_machine(device: str = "auto", precision: Precision = "auto", *, compiled: bool | None = None) -> Machine:
    """Pick the device and precision, and this process' place under torchrun.

    Args:
        device: auto, cpu, cuda or mps.
        precision: auto takes bf16 where the device computes it natively.
        compiled: whether training compiles the network; None does on CUDA where it can (on CPU it gained nothing).

    Raises:
        SettingsError: a device that this machine lacks.
    """
    device = require_device(device)
    bf16 = _bf16_pays(device) if precision == "auto" else precision == "bf16"
    where = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    compiled = device == "cuda" and _can_compile() if compiled is None else compiled
    return Machine(torch.device(where), bf16, rank, processes, compiled)


def keep_memory() -> None:
    """Keep freed blocks in the process (Linux, CPU): activations come back each step, and their pages need not be
    fetched from the kernel anew. Call before the first tensor is made.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's CPU allocator then asks for huge pages
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # not glibc
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _can_compile() -> bool:
    """torch.compile needs Triton on a GPU, and Triton a C compiler."""
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


def _bf16_pays(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False
