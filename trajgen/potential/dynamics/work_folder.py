"""The folder beside an output in which a simulation under way lies, so that a killed one goes on.

``run.json`` says what is simulated, ``frames-NNN.safetensors`` hold saved frames, and
``state.safetensors`` all that the next step follows from. Each is written whole, and the state
after the frames that it counts: frames beyond its count are those of a crash, and are drawn again.
"""

import fcntl
import json
import os
import re
import weakref
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
from trajgen.files import read_json, refuse_existing, system_errors, whole_file, write_json


class WorkFolder:
    """The state and the saved frames of one simulation.

    Attributes:
        path: the folder.
        identity: what the path of the chains follows from.
        finished: the output is there, and a kill came before the folder was removed.
    """

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        """Take up the folder of ``out`` where there is one.

        Args:
            out: the final output.
            identity: what the path of the chains follows from, as JSON-able values.

        Raises:
            InputError: the folder is of another simulation, or damaged, or another process is at
                work in it.
        """
        self.path = out.with_name(out.name + ".simulation")
        self.identity = identity
        self._lock: int | None = None
        self._require_same()
        if self._run.is_file():
            self._take()
        # The provenance is published last, and its name was free when the folder was made.
        self.finished = self._run.is_file() and _is_written(out)
        if not self.finished:
            self._drop_half_published(out)

    def save(
        self,
        step: int,
        tensors: dict[str, Tensor],
        frames_nm: Sequence[Float32[np.ndarray, "chains beads 3"]],
        first: int,
    ) -> None:
        """Store frames, of which ``first`` is the number of the first one, then the state."""
        self._begin()
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

    @contextmanager
    def publishing(self, files: Sequence[Path]) -> Iterator[None]:
        """Write the final files inside; after a kill in the middle they are written anew.

        Where the writing fails none of them is left.
        """
        for file in files:  # what has appeared meanwhile is not ours, and not removed below
            refuse_existing(file)
        self._begin()
        write_json(self._published, [file.name for file in files])
        try:
            yield
        except BaseException:
            for file in files:
                file.unlink(missing_ok=True)
            self._published.unlink()
            if not self._state.is_file():
                self.remove()
            raise

    def remove(self) -> None:
        """Remove the folder of a simulation whose output is written, or which has no state."""
        for file in self.path.iterdir():
            if file != self._run:  # last, so that a folder that is left is known for what it is
                file.unlink()
        self._run.unlink()
        self.path.rmdir()

    @property
    def _run(self) -> Path:
        return self.path / "run.json"

    @property
    def _state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def _published(self) -> Path:
        return self.path / "publishing.json"

    def _chunk(self, first: int) -> Path:
        return self.path / f"frames-{first:012d}.safetensors"

    def _begin(self) -> None:
        if not self.path.exists():
            self.path.mkdir(parents=True)
        self._take()
        if not self._run.is_file():
            write_json(self._run, self.identity)

    def _take(self) -> None:
        """Keep other processes out; the lock goes with the process, however it ends."""
        if self._lock is not None:
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(
                f"another process is simulating in {self.path}; wait for its end, or end it"
            ) from error
        self._lock = descriptor
        weakref.finalize(self, os.close, descriptor)

    def _require_same(self) -> None:
        if not self._run.is_file():
            return
        begun = read_json(self._run)
        known = begun if isinstance(begun, dict) else {}
        others = [key for key in self.identity if known.get(key) != self.identity[key]]
        if others:
            raise InputError(
                f"{self.path} holds a simulation under way with another {_listed(others)}; give "
                "the arguments that it was begun with, name another --out, or remove the folder "
                "to begin anew"
            )

    def _drop_half_published(self, out: Path) -> None:
        """Remove what a kill left of final files that had begun to appear."""
        if not self._published.is_file():
            return
        for name in read_json(self._published):
            file = out.with_name(name)
            file.unlink(missing_ok=True)
            partial = re.compile(
                re.escape(f".{file.stem}.") + r"\d+\.partial" + re.escape(file.suffix)
            )
            for other in list(out.parent.iterdir()):
                if partial.fullmatch(other.name):
                    other.unlink()
        self._published.unlink()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.path} is damaged ({error}); remove the folder to begin anew"
            ) from error


def _is_written(out: Path) -> bool:
    """Say whether the provenance is there, and of this output: others may share its name."""
    card = out.with_suffix(".json")
    files = read_json(card).get("files", []) if card.is_file() else []
    return bool(files) and Path(files[0]).suffix == out.suffix


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
