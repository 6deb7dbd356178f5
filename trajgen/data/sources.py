"""Frames that are read again and again in chunks, so that files may be larger than the memory.

Whatever has a ``topology`` and yields its frames by ``chunks`` is a source: frames in memory are
one, and so is a list of files. Its frames are of beads or of atoms. In the chunks of a source the
frames of a segment follow each other, a segment may go on in the next chunk, and a segment id never
comes back.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from trajgen.data.frame_files import load_frames
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.readers import read_npz_frames
from trajgen.data.records import AtomFrames, BeadFrames, join_chunks, numbered_after
from trajgen.data.store import Dataset
from trajgen.data.structures import COORDINATE_SUFFIXES, Solute, read_solute, require_file
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.data.trajectories import even_step, has_times, iterate_trajectory
from trajgen.errors import InputError

logger = logging.getLogger(__name__)

#: Frames of a trajectory file that are read at a time.
FILE_CHUNK = 10_000


F = TypeVar("F", BeadFrames, AtomFrames)
Topology = BeadTopology | AtomTopology
Frames = BeadFrames | AtomFrames

#: C-alpha beads, or all atoms but hydrogens.
Resolution = Literal["ca", "heavy"]


@runtime_checkable
class FrameSource(Protocol):
    """Frames of one molecule that can be gone through more than once."""

    @property
    def topology(self) -> Topology:
        """The beads or the atoms."""
        ...

    def chunks(self) -> Iterator[Frames]:
        """Yield all frames; see the head of this file for their order."""
        ...


@dataclass(frozen=True)
class FileSource:
    """Trajectories, datasets and generated chains of one molecule, read as they are needed.

    Attributes:
        topology: the beads or the atoms.
        files: what is read, in order. An ``.npz`` or ``.safetensors`` file is held in memory; a
            dataset is read a shard at a time, a trajectory 10,000 frames at a time.
        left_out: frames that are not there, by reason.
    """

    topology: Topology
    files: "tuple[_Loaded | _Shards | _Trajectory, ...]"
    left_out: dict[str, int]

    def chunks(self) -> Iterator[Frames]:
        """Yield the frames of one file after the other; their segments stay apart."""
        missing = _mean_weight(array for file in self.files for array in file.weights())
        offset = 0
        for file in self.files:
            last = -1
            for chunk in file.chunks():
                last = int(chunk.segments.max(initial=last))
                weights = chunk.weights
                if weights is None and missing is not None:
                    weights = np.full(chunk.n_frames, missing)
                changes: dict[str, Any] = {"topology": self.topology, "weights": weights}
                yield replace(chunk, segments=chunk.segments + offset, **changes)
            offset += last + 1


def open_samples(
    paths: Sequence[Path],
    topology: Path | BeadTopology | None = None,
    resolution: Resolution = "ca",
) -> FileSource:
    """Open trajectories, generated chains and datasets of one molecule as one source.

    Args:
        paths: xtc, trr, dcd, nc, h5 or pdb; ``.npz`` and ``.safetensors`` as the commands write
            them (frames of frozen chains are left out and counted); a dataset's folder.
        topology: a structure file for the formats that have none; for an ``.npz`` without one
            also the beads themselves.
        resolution: C-alpha beads, or the atoms without hydrogens; a dataset and a
            ``.safetensors`` file have atoms where they came from atoms, an ``.npz`` never.

    Raises:
        InputError: a file that cannot be opened, one without a topology, or files of different
            molecules.
    """
    if not paths:
        raise InputError("there are no files to read; name at least one trajectory")
    files = [_open(path, topology, resolution) for path in paths]
    first: Any = files[0].topology
    for path, file in zip(paths, files, strict=True):
        first.require_same(file.topology, str(paths[0]), str(path))
    lost = sum(file.lost for file in files if isinstance(file, _Loaded))
    return FileSource(first, tuple(files), {"frozen chain": lost} if lost else {})


def read_all(source: FrameSource) -> BeadFrames:
    """Return all frames of a source of beads at once.

    Raises:
        InputError: the source is of atoms, or a file of it is cut or damaged.
    """
    if not isinstance(source.topology, BeadTopology):
        raise InputError("the frames are of atoms; wanted are C-alpha beads")
    chunks: list[Any] = list(source.chunks())
    return join_chunks(chunks or [no_beads(source.topology)])


def no_beads(topology: BeadTopology) -> BeadFrames:
    """Return a set without a frame."""
    empty = np.zeros((0, topology.n_beads, 3), np.float32)
    return BeadFrames(topology, empty, np.zeros(0, np.int64))


def read_trajectory(path: Path, topology: Path | BeadTopology | None = None) -> BeadFrames:
    """Read all beads of one file; see ``open_samples``."""
    return read_all(open_samples([path], topology))


@dataclass(frozen=True)
class _Loaded:
    """A file that is read whole."""

    frames: Frames
    lost: int

    @property
    def topology(self) -> Topology:
        return self.frames.topology

    def weights(self) -> Iterator[np.ndarray]:
        if self.frames.weights is not None:
            yield self.frames.weights

    def chunks(self) -> Iterator[Frames]:
        frames: Any = self.frames
        return iter(numbered(frames).chunks())


@dataclass(frozen=True)
class _Shards:
    """A dataset, a shard at a time."""

    dataset: Dataset
    resolution: Resolution

    @property
    def topology(self) -> Topology:
        header = self.dataset.header
        if self.resolution == "ca":
            return header.beads
        if header.atoms is None:
            raise InputError(
                f"dataset {self.dataset.path} is of beads only; it has no atoms to measure"
            )
        return header.atoms.without_hydrogens()[0]

    def weights(self) -> Iterator[np.ndarray]:
        found = (self.dataset.read_weights(entry) for entry in self.dataset.entries)
        return (weights for weights in found if weights is not None)

    def chunks(self) -> Iterator[Frames]:
        last = -1
        for entry in self.dataset.entries:
            if self.resolution == "ca":
                shard: Any = self.dataset.read_beads(entry)
            else:
                shard = self.dataset.read_atoms(entry, forces=False).without_hydrogens()
            segments = numbered_after(last, shard.segments, entry.label.continues)
            last = int(segments.max(initial=last))
            yield from replace(shard, segments=segments).chunks()


@dataclass(frozen=True)
class _Trajectory:
    """A trajectory file, one segment, some frames at a time."""

    path: Path
    structure: Path
    solute: Solute
    resolution: Resolution

    @property
    def topology(self) -> Topology:
        if self.resolution == "ca":
            return self.solute.beads
        return self.solute.topology.without_hydrogens()[0]

    def weights(self) -> Iterator[np.ndarray]:
        return iter(())

    def chunks(self) -> Iterator[Frames]:
        last_ps: list[float] = []
        known_ps: float | None = None
        timed = has_times(self.path)
        pieces = iterate_trajectory(self.path, self.structure, self.solute, FILE_CHUNK)
        for positions, times_ps in pieces:
            # With the last time before it, so that an uneven step between chunks is seen too.
            around = np.concatenate([last_ps, times_ps])
            last_ps = [float(times_ps[-1])]
            step_ps = even_step(around, known_ps) if timed else None
            known_ps = known_ps or step_ps
            segments = np.zeros(len(positions), dtype=np.int64)
            try:
                if self.resolution == "ca":
                    beads = positions[:, list(self.solute.bead_atoms)]
                    yield BeadFrames(self.solute.beads, beads, segments, step_ps)
                else:
                    atoms = AtomFrames(self.solute.topology, positions, segments, step_ps)
                    yield atoms.without_hydrogens()
            except InputError as error:
                raise InputError(f"{self.path}: {error}") from error


def numbered(frames: F) -> F:
    """Return the frames with their segments counted from 0, as ``concatenate`` numbers them."""
    return replace(frames, segments=numbered_after(-1, frames.segments))


def _mean_weight(weights: Iterable[np.ndarray]) -> float | None:
    """Return the mean weight, which a frame without one gets among others that have one."""
    total, count = 0.0, 0
    for array in weights:
        total, count = total + float(array.sum()), count + len(array)
    return total / count if count else None


def _open(
    path: Path, topology: Path | BeadTopology | None, resolution: Resolution
) -> _Loaded | _Shards | _Trajectory:
    if path.is_dir():
        dataset = Dataset.open(path)
        if not dataset.entries:
            raise InputError(f"dataset {path} is empty; append frames first")
        return _Shards(dataset, resolution)
    require_file(path)
    suffix = path.suffix.lower()
    if suffix in (".npz", ".safetensors"):
        frames, lost = read_npz_frames(path, topology) if suffix == ".npz" else load_frames(path)
        if lost:
            n = lost + frames.n_frames
            logger.warning("%s: left out %d of %d frames, of frozen chains", path, lost, n)
        return _Loaded(_resolved(frames, resolution, path), lost)
    # Beads name no atoms, so a file of atoms needs a structure: one that is given, or its own.
    if suffix in COORDINATE_SUFFIXES and not isinstance(topology, Path):
        raise InputError(f"{path} has no topology of its own; add --topology STRUCTURE.pdb")
    structure = topology if isinstance(topology, Path) else path
    return _Trajectory(path, structure, read_solute(structure), resolution)


def _resolved(frames: Frames, resolution: Resolution, path: Path) -> Frames:
    """Return frames as beads or as heavy atoms."""
    if isinstance(frames, BeadFrames):
        if resolution == "heavy":
            raise InputError(f"{path} holds beads only; its frames have no atoms to measure")
        return frames
    if resolution == "heavy":
        return frames.without_hydrogens()
    beads, atoms = alpha_carbon_beads(frames.topology)
    positions_nm = np.ascontiguousarray(frames.positions_nm[:, list(atoms)])
    return BeadFrames(
        beads, positions_nm, frames.segments, frames.time_step_ps, weights=frames.weights
    )
