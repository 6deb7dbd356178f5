"""The GPUs that all-atom dynamics may use, as the processes that run on them are told."""

import os

import openmm

from al.molecule.dynamics import Device, deterministic_platform
from trajgen.errors import InputError

#: What tells a process which GPUs it may see.
VISIBLE = "CUDA_VISIBLE_DEVICES"


def usable_gpus(device: Device) -> tuple[str, ...]:
    """Return a value of ``CUDA_VISIBLE_DEVICES`` for each GPU that OpenMM sees; none for ``cpu``.

    Raises:
        InputError: the device has no platform here, or OpenMM sees no GPU.
    """
    platform, _ = deterministic_platform(device)
    if device == "cpu":
        return ()
    try:
        seen = len(platform.getDevices())
    except openmm.OpenMMException:  # a driver that finds no GPU says so in this way
        seen = 0
    visible = os.environ.get(VISIBLE)
    if not seen:
        said = "is not set" if visible is None else f"is '{visible}'"
        raise InputError(
            f"device 'cuda' was asked for, but OpenMM sees no GPU ({VISIBLE} {said}); use device "
            "cpu, or make a GPU visible"
        )
    return gpu_names(seen, visible)


def gpu_names(seen: int, visible: str | None) -> tuple[str, ...]:
    """Return the names of the GPUs that this process sees.

    Args:
        seen: their number.
        visible: ``CUDA_VISIBLE_DEVICES`` of this process, which counts from 0 whatever stands
            there, and sees none behind an entry that names no GPU; None where it is not set.
    """
    if visible is None:
        return tuple(str(number) for number in range(seen))
    return tuple(name.strip() for name in visible.split(","))[:seen]
