"""Atom trajectories and structures through mdtraj, in chunks, the protein alone.

Positions come back in nm whatever the file holds. What is no protein (waters, ions, ligands) is
dropped with a message, and molecules broken at the walls of a periodic box are made whole.
"""

import logging
import os
import struct
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
from jaxtyping import Float32, Int32, Int64
from mdtraj.formats.psf import PSFError

from trajgen.data.cards import card_beside
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError, WorkError
from trajgen.residues import BEAD_TYPES, CAPS, standard_name

logger = logging.getLogger(__name__)

#: Formats without a topology of their own, and those that carry one.
COORDINATE_SUFFIXES = (".xtc", ".trr", ".dcd", ".nc")
STRUCTURE_SUFFIXES = (".pdb", ".h5")
#: Formats whose frames carry a time; the others count frames.
_TIMED_SUFFIXES = (".xtc", ".trr", ".nc", ".h5")

#: Steps that differ by a smaller share are the same step.
STEP_TOLERANCE = 1e-3

#: Formats written by C code, which does not notice that the last bytes found no room.
_C_SUFFIXES = (".xtc", ".trr", ".dcd")
#: Formats that are written piece by piece; the others want a whole trajectory.
STREAMED_SUFFIXES = (".xtc", ".trr")

#: What mdtraj raises on files that are cut, damaged, or not of the topology.
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    PSFError,
)
#: Frames that are read at a time.
CHUNK_FRAMES = 1000


@dataclass(frozen=True)
class Solute:
    """The protein in a trajectory's topology.

    Attributes:
        topology: its atoms.
        indices: where each atom stands in the file.
        file_atoms: the number of atoms in the file, solvent included.
        beads: the C-alpha beads.
        bead_atoms: index into ``topology`` of the atom each bead sits on.
    """

    topology: AtomTopology
    indices: Int64[np.ndarray, " atoms"]
    file_atoms: int
    beads: BeadTopology
    bead_atoms: tuple[int, ...]


def holds_topology(path: Path) -> bool:
    """Say whether a file of this name tells which atoms there are, beside their coordinates."""
    return path.suffix.lower() not in (*COORDINATE_SUFFIXES, ".npz", ".npy", ".safetensors", "")


def read_solute(topology: Path) -> Solute:
    """Read the protein of a topology file; all else is dropped with a message.

    Raises:
        InputError: the file cannot be read, or holds no protein.
    """
    return solute_of(_load_topology(topology), topology)


def solute_of(topology: mdtraj.Topology, source: Path) -> Solute:
    """Return the protein in an mdtraj topology; ``source`` names it in messages."""
    kept = [residue for residue in topology.residues if _is_protein(residue)]
    if not kept:
        raise InputError(f"{source} holds no amino acid; wanted is a protein or peptide")
    kept_ids = {residue.index for residue in kept}
    dropped = Counter(r.name for r in topology.residues if r.index not in kept_ids)
    if dropped:
        named = ", ".join(f"{name} {count}" for name, count in dropped.most_common(6))
        logger.info("%s: dropped %d residues that are no protein (%s)",
                    source, sum(dropped.values()), named)  # fmt: skip
    atoms = sorted((a for residue in kept for a in residue.atoms), key=lambda a: a.index)
    place = {atom.index: i for i, atom in enumerate(atoms)}
    row = {residue.index: i for i, residue in enumerate(kept)}
    pairs = [
        (place[a.index], place[b.index])
        for a, b in topology.bonds
        if a.index in place and b.index in place
    ]
    chains = {index: i for i, index in enumerate(dict.fromkeys(r.chain.index for r in kept))}
    solute = AtomTopology(
        names=tuple(atom.name for atom in atoms),
        elements=tuple(_element(atom) for atom in atoms),
        atom_residues=tuple(row[atom.residue.index] for atom in atoms),
        residues=tuple(residue.name for residue in kept),
        residue_numbers=tuple(int(residue.resSeq) for residue in kept),
        chains=tuple(chains[residue.chain.index] for residue in kept),
        bonds=tuple(sorted((min(pair), max(pair)) for pair in pairs)),
    )  # fmt: skip
    beads, bead_atoms = alpha_carbon_beads(solute)
    indices = np.array([atom.index for atom in atoms], dtype=np.int64)
    return Solute(solute, indices, topology.n_atoms, beads, bead_atoms)


def read_structure(path: Path) -> tuple[Solute, Float32[np.ndarray, "atoms 3"]]:
    """Read the protein of a structure file and its positions (nm), of the first model.

    Raises:
        InputError: the file cannot be read, or holds no protein.
    """
    require_file(path)
    if path.suffix.lower() in COORDINATE_SUFFIXES:
        raise InputError(f"{path} is no structure file; give a PDB file of one frame")
    with _reading(path):
        structure = mdtraj.load(str(path))
    _add_disulfides(structure, path)
    if structure.n_frames > 1:
        logger.info("%s has %d models; the first is used", path, structure.n_frames)
    solute = solute_of(structure.topology, path)
    positions = structure.xyz[0, solute.indices].astype(np.float32)
    if not np.isfinite(positions).all():
        raise InputError(f"{path} has a coordinate that is no number; mend the file")
    return solute, positions


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


def require_file(path: Path) -> None:
    """Raise InputError where ``path`` is no file."""
    if not path.is_file():
        raise InputError(f"{path} is missing or is no file; check the name")


def _load_topology(path: Path) -> mdtraj.Topology:
    require_file(path)
    with _reading(path):
        if path.suffix.lower() != ".gro":
            return mdtraj.load_topology(str(path))
        structure = mdtraj.load(str(path))
    _add_disulfides(structure, path)
    return structure.topology


def _add_disulfides(structure: mdtraj.Trajectory, path: Path) -> None:
    """Find the disulfides of a ``.gro`` file; its reader leaves them out, that of PDB does not."""
    if path.suffix.lower() == ".gro":
        for residue in structure.topology.residues:
            if residue.name == "CYX":
                residue.name = "CYS"
        structure.topology.create_disulfide_bonds(structure.xyz[0])


def _iterate_mdtraj(
    path: Path, topology: Path, solute: Solute, chunk: int
) -> Iterator[mdtraj.Trajectory]:
    require_file(path)
    suffix = path.suffix.lower()
    options: dict[str, Any] = {}
    if suffix in COORDINATE_SUFFIXES:
        options["top"] = _load_topology(topology)
    elif suffix not in STRUCTURE_SUFFIXES:
        known = ", ".join(COORDINATE_SUFFIXES + STRUCTURE_SUFFIXES)
        raise InputError(f"{path} is of a format that is not known; use one of {known}")
    pieces = None
    while True:
        with _reading(path):
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


def _is_protein(residue: Any) -> bool:
    if standard_name(residue.name) in BEAD_TYPES or residue.name in CAPS:
        return True
    return {"N", "CA", "C"} <= {atom.name for atom in residue.atoms}


def _element(atom: Any) -> str:
    # Readers that guess the element by name take a C-alpha for calcium.
    if atom.name == "CA":
        return "C"
    return atom.element.symbol if atom.element is not None else "X"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what mdtraj raises into InputError, and keep its C code off the terminal."""
    try:
        with _silent_streams(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _READ_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read ({reason}); it may be cut, damaged or not of the topology given"
        ) from error


@contextmanager
def _silent_streams() -> Iterator[None]:
    # The DCD and XDR plugins write to the C streams, which would break --json output.
    saved = [os.dup(stream) for stream in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(null, stream)
        yield
    finally:
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def save_trajectory(path: Path, pieces: Iterable[mdtraj.Trajectory]) -> None:
    """Write the pieces of a trajectory, which are asked for one after another.

    A format that is not in ``STREAMED_SUFFIXES`` takes one piece, the whole. The frame count is
    read back where a writer may fail silently.

    Raises:
        WorkError: the file did not reach the disk whole.
    """
    try:
        with _silent_streams(), warnings.catch_warnings():
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
    except _READ_ERRORS as error:
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
