"""The records that travel between stages: frames of atoms and frames of beads.

Both are frozen and checked when they are made, so functions behind them do not check again. A
change is a copy (``dataclasses.replace``). Units are nm, ps, kJ/mol/nm.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError

#: Frames in memory that are worked on at once.
CHUNK_FRAMES = 65_536


@dataclass(frozen=True)
class BeadFrames:
    """Coarse-grained frames of one molecule.

    Attributes:
        topology: the beads.
        positions_nm: coordinates.
        segments: frames of different segments are never treated as consecutive.
        time_step_ps: time between consecutive frames of a segment, None where there is none.
        forces: mapped forces on the beads, kJ/mol/nm, never minus a prior.
        weights: statistical weight of each frame, None for equal weights.
        force_variance: noise variance of the force components of each frame, (kJ/mol/nm)².
    """

    topology: BeadTopology
    positions_nm: Float32[np.ndarray, "frames beads 3"]
    segments: Int64[np.ndarray, " frames"]
    time_step_ps: float | None = None
    forces: Float32[np.ndarray, "frames beads 3"] | None = None
    weights: Float[np.ndarray, " frames"] | None = None
    force_variance: Float[np.ndarray, " frames"] | None = None

    def __post_init__(self) -> None:
        _check_positions(self.positions_nm, self.topology.n_beads, "beads")
        _check_forces(self.forces, self.positions_nm)
        _check_per_frame(self, ("segments", "weights", "force_variance"))
        _check_time_step(self.time_step_ps)

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.positions_nm)

    def take(self, index: Any) -> "BeadFrames":
        """Return the frames that ``index`` (a slice, a mask or indices) picks, in its order."""
        return _take(self, index)

    def chunks(self) -> Iterator["BeadFrames"]:
        """Yield the frames segment after segment, ``CHUNK_FRAMES`` at a time."""
        return _chunks(self)


@dataclass(frozen=True)
class AtomFrames:
    """All-atom frames of one solute.

    Attributes:
        topology: the atoms.
        positions_nm: coordinates.
        segments: frames of different segments are never treated as consecutive.
        time_step_ps: time between consecutive frames of a segment, None where there is none.
        forces: raw forces on the atoms without constraint forces, kJ/mol/nm.
        weights: statistical weight of each frame, None for equal weights.
    """

    topology: AtomTopology
    positions_nm: Float32[np.ndarray, "frames atoms 3"]
    segments: Int64[np.ndarray, " frames"]
    time_step_ps: float | None = None
    forces: Float32[np.ndarray, "frames atoms 3"] | None = None
    weights: Float[np.ndarray, " frames"] | None = None

    def __post_init__(self) -> None:
        _check_positions(self.positions_nm, self.topology.n_atoms, "atoms")
        _check_forces(self.forces, self.positions_nm)
        _check_per_frame(self, ("segments", "weights"))
        _check_time_step(self.time_step_ps)

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.positions_nm)

    def take(self, index: Any) -> "AtomFrames":
        """Return the frames that ``index`` (a slice, a mask or indices) picks, in its order."""
        return _take(self, index)

    def chunks(self) -> Iterator["AtomFrames"]:
        """Yield the frames segment after segment, ``CHUNK_FRAMES`` at a time."""
        return _chunks(self)

    def without_hydrogens(self) -> "AtomFrames":
        """Return the frames of all atoms but hydrogens, without forces."""
        topology, kept = self.topology.without_hydrogens()
        if len(kept) == self.topology.n_atoms and self.forces is None:
            return self
        return replace(
            self, topology=topology, positions_nm=self.positions_nm[:, list(kept)], forces=None
        )


@dataclass(frozen=True)
class Loss:
    """A chain that failed in a simulation.

    Attributes:
        chain: its index.
        step: the time step that it failed in, counted from 1.
        reason: what was wrong with it, in a few words.
        last_frames_nm: its last good frames, among them the one that it was frozen in.
    """

    chain: int
    step: int
    reason: str
    last_frames_nm: Float32[np.ndarray, "frames beads 3"]


@dataclass(frozen=True)
class Rollouts:
    """Trajectories that a model generated, one a chain (or replica, or path).

    A chain that failed is frozen: its later frames are NaN, and ``alive`` says so.

    Attributes:
        topology: the beads, or the atoms.
        positions_nm: coordinates; NaN where a chain is no longer alive. They may lie in a file that
            is mapped into memory.
        alive: whether a chain has each frame; False from the frame on at which it failed.
        time_step_ps: time between consecutive frames, None where it is no time of real chains.
        time_step_cg_ps: time between consecutive frames on the clock of coarse-grained dynamics,
            which is never compared with that of all-atom dynamics.
        losses: chains that failed, where the generator says more of them than ``alive`` does.
    """

    topology: BeadTopology | AtomTopology
    positions_nm: Float32[np.ndarray, "chains frames sites 3"]
    alive: Bool[np.ndarray, "chains frames"]
    time_step_ps: float | None
    time_step_cg_ps: float | None = None
    losses: tuple[Loss, ...] = ()

    def __post_init__(self) -> None:
        shape = self.positions_nm.shape
        if len(shape) != 4 or shape[2:] != (self.topology.n_sites, 3):
            raise InputError(
                f"positions have shape {shape}; wanted is (chains, frames, "
                f"{self.topology.n_sites}, 3)"
            )
        if self.alive.shape != shape[:2]:
            raise InputError(f"alive has shape {self.alive.shape}; wanted is {shape[:2]}")
        for positions_nm, alive in zip(self.positions_nm, self.alive, strict=True):
            if (alive & ~np.isfinite(positions_nm).all(axis=(1, 2))).any():
                raise InputError("positions have a NaN in a frame that is marked alive")
        _check_time_step(self.time_step_ps)
        _check_time_step(self.time_step_cg_ps)

    @property
    def n_lost(self) -> int:
        """The number of frames that were lost to failed chains."""
        return int((~self.alive).sum())

    def to_frames(self) -> BeadFrames:
        """Return the frames that are alive, numbered as in ``alive_segments``.

        Raises:
            InputError: they are of atoms.
        """
        if isinstance(self.topology, AtomTopology):
            raise InputError("the rollouts are of atoms; wanted are C-alpha beads")
        return BeadFrames(self.topology, *self._alive())

    def to_atom_frames(self) -> AtomFrames:
        """Return the frames that are alive, numbered as in ``alive_segments``.

        Raises:
            InputError: they are of beads.
        """
        if not isinstance(self.topology, AtomTopology):
            raise InputError("the rollouts are of beads; wanted are atoms")
        return AtomFrames(self.topology, *self._alive())

    def _alive(self) -> tuple[np.ndarray, np.ndarray, float | None]:
        return self.positions_nm[self.alive], alive_segments(self.alive), self.time_step_ps


def alive_segments(alive: Bool[np.ndarray, "chains frames"]) -> Int64[np.ndarray, " alive"]:
    """Return the segment of each frame that is alive: one a chain, a new one after each gap."""
    begins = alive.copy()
    begins[:, 1:] &= ~alive[:, :-1]
    return np.cumsum(begins)[alive.ravel()] - 1


Frames = TypeVar("Frames", AtomFrames, BeadFrames)


def concatenate(parts: Sequence[Frames]) -> Frames:
    """Join frames of one molecule; segment ids are renumbered so that they stay apart.

    Forces are kept where every part has them, weights and variances where any part has (a frame
    without weight counts as the mean of the weighted ones, whatever their sum is; a missing
    variance is zero). Parts of different time step give None.

    Raises:
        InputError: there is no part, or the parts are of different molecules.
    """
    segments = segments_apart([part.segments for part in parts])
    return join_chunks(
        [replace(part, segments=own) for part, own in zip(parts, segments, strict=True)]
    )


def segments_apart(
    parts: Sequence[Int64[np.ndarray, " _"]], continues: Sequence[bool] | None = None
) -> list[np.ndarray]:
    """Renumber the segments of parts, so that no two parts share one.

    Args:
        parts: segment of each frame.
        continues: for each part whether its first segment is the last of the part before it, so
            that these two stay one; None for none of them.
    """
    apart: list[np.ndarray] = []
    last = -1
    for part, goes_on in zip(parts, continues or [False] * len(parts), strict=True):
        apart.append(numbered_after(last, part, goes_on))
        last = int(apart[-1].max(initial=last))
    return apart


def numbered_after(
    last: int, segments: Int64[np.ndarray, " frames"], continues: bool = False
) -> Int64[np.ndarray, " frames"]:
    """Number segments anew, in the order of their ids, after all that were numbered before.

    Args:
        last: the last number before these, -1 where there is none.
        segments: segment of each frame.
        continues: whether the first of them is the one that has that number.
    """
    _, inverse = np.unique(segments, return_inverse=True)
    first = last if continues and last >= 0 else last + 1
    return inverse.astype(np.int64) + first


def join_chunks(parts: Sequence[Frames]) -> Frames:
    """Join chunks of one set of frames, whose segments go on from one to the next.

    What is kept is as in ``concatenate``.

    Raises:
        InputError: there is no chunk, or the chunks are of different molecules.
    """
    if not parts:
        raise InputError("there are no frames to join; the dataset is empty")
    first = parts[0]
    for part in parts[1:]:
        if part.topology != first.topology:
            raise InputError("frames of different molecules cannot be joined")
    steps = {part.time_step_ps for part in parts}
    joined: dict[str, Any] = {
        "positions_nm": np.concatenate([part.positions_nm for part in parts]),
        "segments": np.concatenate([part.segments for part in parts]),
        "time_step_ps": steps.pop() if len(steps) == 1 else None,
        "forces": _join_all([part.forces for part in parts]),
        "weights": _join_any(parts, "weights", _mean_weight(parts)),
    }
    if isinstance(first, BeadFrames):
        joined["force_variance"] = _join_any(parts, "force_variance", 0.0)
    return replace(first, **joined)


def _chunks(frames: Frames) -> Iterator[Frames]:
    order = np.argsort(frames.segments, kind="stable")
    contiguous = np.array_equal(order, np.arange(frames.n_frames))
    ordered = frames if contiguous else frames.take(order)
    for start in range(0, frames.n_frames, CHUNK_FRAMES):
        yield ordered.take(slice(start, start + CHUNK_FRAMES))


def _join_all(arrays: list[np.ndarray | None]) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if len(present) == len(arrays) else None


def _mean_weight(parts: Sequence[Any]) -> float:
    weights = [part.weights for part in parts if part.weights is not None]
    return float(np.concatenate(weights).mean()) if weights else 1.0


def _join_any(parts: Sequence[Any], name: str, missing: float) -> np.ndarray | None:
    values = [getattr(part, name) for part in parts]
    if all(value is None for value in values):
        return None
    filled = [
        np.full(part.n_frames, missing) if value is None else value
        for part, value in zip(parts, values, strict=True)
    ]
    return np.concatenate(filled)


def _take(frames: Any, index: Any) -> Any:
    changes = {}
    for field in fields(frames):
        value = getattr(frames, field.name)
        if isinstance(value, np.ndarray):
            changes[field.name] = value[index]
    return replace(frames, **changes)


def _check_positions(positions: np.ndarray, n: int, what: str) -> None:
    if positions.ndim != 3 or positions.shape[1:] != (n, 3):
        raise InputError(
            f"positions have shape {positions.shape}; wanted is (frames, {n}, 3) for {n} {what}"
        )
    bad = ~np.isfinite(positions).all(axis=(1, 2))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"positions have a NaN or infinity in {int(bad.sum())} of {len(positions)} frames, "
            f"first in frame {first}; remove those frames first"
        )


def _check_forces(forces: np.ndarray | None, positions: np.ndarray) -> None:
    if forces is None:
        return
    if forces.shape != positions.shape:
        raise InputError(
            f"forces have shape {forces.shape}, positions {positions.shape}; "
            "wanted is one force vector for each position"
        )
    bad = ~np.isfinite(forces).all(axis=(1, 2))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"forces have a NaN or infinity in {int(bad.sum())} of {len(forces)} frames, "
            f"first in frame {first}; remove those frames first"
        )


def _check_per_frame(frames: Any, names: tuple[str, ...]) -> None:
    n = len(frames.positions_nm)
    for name in names:
        value = getattr(frames, name)
        if value is None:
            continue
        if value.shape != (n,):
            raise InputError(
                f"{name} have shape {value.shape}; wanted is ({n},), one for each frame"
            )
        if not np.isfinite(value).all():
            raise InputError(f"{name} have a NaN or infinity")
        if name != "segments" and (value < 0).any():
            raise InputError(f"{name} have a negative value; wanted are values of at least 0")


def _check_time_step(time_step_ps: float | None) -> None:
    if time_step_ps is not None and not 0 < time_step_ps < math.inf:
        raise InputError(f"time_step_ps is {time_step_ps}; wanted is a time above 0, or none")
