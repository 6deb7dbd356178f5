"""The folder of a simulation under way.

``frames-NNN.safetensors`` hold saved frames, and ``state.safetensors`` all that the next step
follows from. Each is written whole, and the state after the frames that it counts: frames beyond
its count are those of a crash, and are drawn again.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file as save_tensors
from torch import Tensor

from trajgen.errors import InputError
from trajgen.files import system_errors, whole_file
from trajgen.work_folder import WorkFolder


class SimulationFolder(WorkFolder):
    """The state and the saved frames of one simulation."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        """Take up the folder of ``out`` where there is one; see ``WorkFolder``."""
        super().__init__(out, identity, "simulation")

    def save(
        self,
        step: int,
        tensors: dict[str, Tensor],
        frames_nm: Sequence[Float32[np.ndarray, "chains beads 3"]],
        first: int,
    ) -> None:
        """Store frames, of which ``first`` is the number of the first one, then the state."""
        self.begin()
        if frames_nm:
            with whole_file(self._chunk(first)) as temporary, system_errors(self.path):
                save_arrays({"positions_nm": np.stack(frames_nm)}, temporary)
        stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        counts = {"step": step, "frames": first + len(frames_nm)}
        with whole_file(self._state) as temporary, system_errors(self.path):
            save_tensors(stored, temporary, metadata={"counts": json.dumps(counts)})

    def load(self) -> tuple[int, dict[str, Tensor]] | None:
        """Return the step and the tensors stored last, None where there are none.

        Raises:
            InputError: the state is damaged, or frames that it counts are missing.
        """
        if not self._state.is_file():
            return None
        with self._reading():
            with safe_open(self._state, framework="pt") as file:
                counts = json.loads(file.metadata()["counts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for chunk in self.path.glob("frames-*.safetensors"):
                if int(chunk.stem.removeprefix("frames-")) >= counts["frames"]:
                    chunk.unlink()
            stored = sum(len(chunk) for chunk in self.chunks())
        if stored != counts["frames"]:
            raise InputError(
                f"{self.path} holds {stored} frames of {counts['frames']} that were saved; remove "
                "the folder to begin anew"
            )
        return counts["step"], tensors

    def chunks(self) -> Iterator[Float32[np.ndarray, "frames chains beads 3"]]:
        """Yield the stored frames in their order."""
        for path in sorted(self.path.glob("frames-*.safetensors")):
            yield load_arrays(path)["positions_nm"]

    def staging_file(self) -> Path:
        """Return where the frames can be put in the order of chains."""
        return self.path / "positions.f32"

    @property
    def _state(self) -> Path:
        return self.path / "state.safetensors"

    def _chunk(self, first: int) -> Path:
        return self.path / f"frames-{first:012d}.safetensors"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.path} is damaged ({error}); remove the folder to begin anew"
            ) from error
