"""Which GPUs processes are told to use; the GPUs are stand-ins."""

import openmm
import pytest

from al.molecule import gpus
from al.molecule.dynamics import Device
from al.molecule.gpus import gpu_names, usable_gpus
from trajgen.errors import InputError


class Platform:
    """A platform that sees so many GPUs, or fails to look for them."""

    def __init__(self, seen: int | None) -> None:
        self.seen = seen

    def getDevices(self) -> list[dict[str, str]]:
        if self.seen is None:
            raise openmm.OpenMMException("no CUDA-capable device is detected")
        return [{"DeviceIndex": str(number)} for number in range(self.seen)]


def sees(patch: pytest.MonkeyPatch, seen: int | None) -> None:
    def platform(device: Device) -> tuple[Platform, dict[str, str]]:
        return Platform(seen), {}

    patch.setattr(gpus, "deterministic_platform", platform)


@pytest.mark.parametrize(
    ("seen", "visible", "names"),
    [
        (2, None, ("0", "1")),
        (2, "3,5", ("3", "5")),
        (1, " 4 ", ("4",)),
        (2, "GPU-8932f937,GPU-1f2c", ("GPU-8932f937", "GPU-1f2c")),
        (1, "2,-1,0", ("2",)),  # what stands behind an entry that is no GPU is not seen
    ],
)
def test_a_gpu_is_named_as_the_parent_was_told(
    monkeypatch: pytest.MonkeyPatch, seen: int, visible: str | None, names: tuple[str, ...]
) -> None:
    assert gpu_names(seen, visible) == names
    sees(monkeypatch, seen)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert usable_gpus("cuda") == names
    assert usable_gpus("cpu") == ()


@pytest.mark.parametrize("seen", [0, None])
def test_a_platform_without_a_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, seen: int | None
) -> None:
    sees(monkeypatch, seen)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match=r"sees no GPU \(CUDA_VISIBLE_DEVICES is ''\)"):
        usable_gpus("cuda")
