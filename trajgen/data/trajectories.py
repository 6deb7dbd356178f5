"""Atom trajectories through mdtraj, in chunks, the protein alone.

Molecules broken at the walls of a periodic box are made whole.
"""

import logging
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
from jaxtyping import Float32, Int32

from trajgen.data.cards import card_beside
from trajgen.data.structures import (
    COORDINATE_SUFFIXES,
    MDTRAJ_ERRORS,
    STRUCTURE_SUFFIXES,
    Solute,
    load_topology,
    reading,
    require_file,
    silent_streams,
)
from trajgen.errors import InputError, WorkError

logger = logging.getLogger(__name__)

#: Formats whose frames carry a time; the others count frames.
_TIMED_SUFFIXES = (".xtc", ".trr", ".nc", ".h5")

#: Steps that differ by a smaller share are the same step.
STEP_TOLERANCE = 1e-3

#: Formats written by C code, which does not notice that the last bytes found no room.
_C_SUFFIXES = (".xtc", ".trr", ".dcd")
#: Formats that are written piece by piece; the others want a whole trajectory.
STREAMED_SUFFIXES = (".xtc", ".trr")

#: Frames that are read at a time.
CHUNK_FRAMES = 1000


def iterate_trajectory(
    path: Path, topology: Path, solute: Solute, chunk: int = CHUNK_FRAMES
) -> Iterator[tuple[Float32[np.ndarray, "frames atoms 3"], np.ndarray]]:
    """Yield the solute's positions (nm) and times (ps) in chunks, molecules made whole.

    Raises:
        InputError: the file is missing, cut, of an unknown format, or not of this topology.
    """
    read = 0
    for piece in _iterate_mdtraj(path, topology, solute, chunk):
        _make_whole(piece, solute)
        read += piece.n_frames
        yield np.ascontiguousarray(piece.xyz, dtype=np.float32), np.asarray(piece.time)
    promised = _promised_frames(path)
    if promised is not None and promised > read:
        raise InputError(
            f"{path} is cut: its header promises {promised} frames, {read} are there; copy it again"
        )
    if read == 0:
        raise InputError(f"{path} holds no frame")


def has_times(path: Path) -> bool:
    """Say whether a trajectory stores the time of each frame, on the clock of real chains.

    Formats have no place for the unit of a time, nor for the lack of one: what a simulation of
    beads wrote is on a clock of its own, and independent frames are merely counted. The card beside
    generated files says which.
    """
    if path.suffix.lower() not in _TIMED_SUFFIXES:
        return False
    found = card_beside(path)
    return found is None or found[1].get("time_step_ps") is not None


def even_step(times_ps: np.ndarray, known_ps: float | None = None) -> float | None:
    """Return the step of evenly spaced times, None where they are not.

    Args:
        times_ps: the times.
        known_ps: the step of times before these, which theirs must be; None for any.
    """
    times = times_ps.astype(np.float64)
    if len(times) < 2 or not times[1] > times[0]:
        return None
    # Files hold times in single precision; the mean over many frames restores the digits.
    mean_ps = float(np.round((times[-1] - times[0]) / (len(times) - 1), 6))
    step_ps = mean_ps if known_ps is None else known_ps
    even = np.allclose(np.diff(times), step_ps, rtol=STEP_TOLERANCE, atol=time_rounding_ps(times))
    return step_ps if even else None


def time_rounding_ps(times_ps: np.ndarray) -> float:
    """Return how far a step may be off because files hold times in single precision, ps.

    Late in a long run that alone makes even steps look uneven.
    """
    return float(2 * np.finfo(np.float32).eps * np.abs(times_ps).max())


def _iterate_mdtraj(
    path: Path, topology: Path, solute: Solute, chunk: int
) -> Iterator[mdtraj.Trajectory]:
    require_file(path)
    suffix = path.suffix.lower()
    options: dict[str, Any] = {}
    if suffix in COORDINATE_SUFFIXES:
        options["top"] = load_topology(topology)
    elif suffix not in STRUCTURE_SUFFIXES:
        known = ", ".join(COORDINATE_SUFFIXES + STRUCTURE_SUFFIXES)
        raise InputError(f"{path} is of a format that is not known; use one of {known}")
    pieces = None
    while True:
        with reading(path):
            if pieces is None:
                # All atoms of one frame: with atom_indices a file of more atoms would pass.
                first = next(mdtraj.iterload(str(path), chunk=1, **options), None)
                if first is not None and first.n_atoms != solute.file_atoms:
                    raise ValueError(f"{first.n_atoms} atoms, {solute.file_atoms} in {topology}")
                pieces = mdtraj.iterload(
                    str(path), chunk=chunk, atom_indices=solute.indices, **options
                )
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def _make_whole(piece: mdtraj.Trajectory, solute: Solute) -> None:
    """Undo the breaking of molecules, and of complexes, at the walls of a periodic box."""
    if piece.unitcell_lengths is None or not (piece.unitcell_lengths > 0).all():
        return
    tree = _bond_tree(
        solute.topology.n_atoms,
        solute.topology.bonds
        or [(solute.bead_atoms[i], solute.bead_atoms[j]) for i, j in solute.beads.bonds],
    )
    if not len(tree):
        return
    chains: dict[int, set[Any]] = {}
    for atom, residue in zip(piece.topology.atoms, solute.topology.atom_residues, strict=True):
        chains.setdefault(solute.topology.chains[residue], set()).add(atom)
    if len(chains) == 1:
        piece.make_molecules_whole(inplace=True, sorted_bonds=tree)
        return
    # Each chain is whole, and lies where its nearest neighbour among those before it does.
    piece.image_molecules(
        inplace=True,
        anchor_molecules=list(chains.values()),
        other_molecules=[],
        sorted_bonds=tree,
        make_whole=True,
    )


def _bond_tree(n_atoms: int, bonds: Sequence[tuple[int, int]]) -> Int32[np.ndarray, "bonds 2"]:
    """Return bonds so ordered that the first atom of each is placed by the bonds before it."""
    neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    tree: list[tuple[int, int]] = []
    seen: set[int] = set()
    for root in range(n_atoms):
        if root in seen:
            continue
        seen.add(root)
        queue = [root]
        for atom in queue:  # the list grows while it is walked
            for other in neighbours[atom]:
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
                    tree.append((atom, other))
    return np.array(tree, dtype=np.int32).reshape(-1, 2)


def _promised_frames(path: Path) -> int | None:
    """Return the frame count in the header of a DCD file: a cut one reads without an error."""
    if path.suffix.lower() != ".dcd":
        return None
    with path.open("rb") as file:
        head = file.read(12)
    order = "<" if head[:4] == struct.pack("<i", 84) else ">"
    return int(struct.unpack(order + "i", head[8:12])[0])


def save_trajectory(path: Path, pieces: Iterable[mdtraj.Trajectory]) -> None:
    """Write the pieces of a trajectory, which are asked for one after another.

    A format that is not in ``STREAMED_SUFFIXES`` takes one piece, the whole. The frame count is
    read back where a writer may fail silently.

    Raises:
        WorkError: the file did not reach the disk whole.
    """
    try:
        with silent_streams(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() in STREAMED_SUFFIXES:
                frames = _stream(path, pieces)
            else:
                (whole,) = pieces
                frames = whole.n_frames
                whole.save(str(path))
            written = frames
            if path.suffix.lower() in _C_SUFFIXES:
                with mdtraj.open(str(path)) as file:
                    written = len(file)
    except OSError as error:
        if error.errno is not None:
            raise
        raise WorkError(f"{path} could not be written ({error}); is the disk full?") from error
    except MDTRAJ_ERRORS as error:
        raise WorkError(f"{path} could not be written ({error}); is the disk full?") from error
    if written != frames:
        raise WorkError(
            f"{path} holds {written} of {frames} frames after writing; is the disk full?"
        )


def _stream(path: Path, pieces: Iterable[mdtraj.Trajectory]) -> int:
    """Write pieces as they come; return the number of their frames."""
    frames = 0
    with mdtraj.open(str(path), "w") as file:
        for piece in pieces:
            steps = np.arange(frames, frames + piece.n_frames)
            file.write(piece.xyz, time=piece.time, step=steps, box=piece.unitcell_vectors)
            frames += piece.n_frames
    return frames
