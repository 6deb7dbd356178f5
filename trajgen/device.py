"""The device and the number of threads that torch works with."""

import os
import shutil
from typing import Literal

import torch

from trajgen.errors import InputError


def choose_device(name: str = "auto") -> torch.device:
    """Return the torch device for ``cpu``, ``cuda`` or ``auto`` (cuda where there is one).

    Raises:
        InputError: an unknown name, or cuda where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device '{name}' is not known; use cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for, but torch sees no GPU; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fix_threads(threads: int | None = None) -> int:
    """Fix the number of torch threads (default: TRAJGEN_THREADS, else all cores up to 8).

    A fixed number is part of "same seed, same result": sums are split by thread.
    """
    wanted = threads or int(os.environ.get("TRAJGEN_THREADS", "0")) or min(os.cpu_count() or 1, 8)
    torch.set_num_threads(wanted)
    return wanted


PrecisionName = Literal["auto", "float32", "bf16"]


def chosen_precision(precision: PrecisionName, device: torch.device) -> Literal["float32", "bf16"]:
    """Return the precision, also where it was left to the device.

    ``auto`` is bfloat16 on a GPU, and float32 on a CPU, where many are no faster in bfloat16.
    """
    if precision == "auto":
        return "bf16" if device.type == "cuda" else "float32"
    return precision


def products_in(precision: PrecisionName, device: torch.device) -> torch.autocast:
    """Return a context whose matrix products are of a precision, see ``chosen_precision``."""
    bf16 = chosen_precision(precision, device) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def require_compiler(device: torch.device) -> None:
    """Raise InputError where torch cannot compile for a device: a CPU needs a C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise InputError(
            f"compile needs a C++ compiler, and there is no {compiler}; install g++, name another "
            "one as CXX, or leave compile out"
        )
