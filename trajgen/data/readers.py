"""Files that others wrote, as bead records: arrays, trajectories, structures and starts.

Positions come back in nm whatever the file holds. A file that is cut, damaged or of another
molecule raises InputError.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Int64

from trajgen.data.records import BeadFrames, alive_segments
from trajgen.data.structures import read_solute, read_structure, require_file
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError
from trajgen.files import values_of
from trajgen.residues import parse_sequence, standard_name
from trajgen.units import force_factor, length_factor

#: Median distance of bonded beads outside of which the units of an array must be wrong, nm.
PLAUSIBLE_BOND_NM = (0.1, 1.0)


def load_array(path: Path) -> np.ndarray:
    """Map a ``.npy`` file into memory; nothing in it is ever unpickled.

    Raises:
        InputError: the file is missing, cut, or not a plain array.
    """
    require_file(path)
    _require_numpy(path, b"\x93NUMPY", "numpy.save")
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as a NumPy array ({error}); write it with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(f"{path} is no array of numbers; write one with numpy.save")
    return array


def read_bead_arrays(
    coords: Path,
    sequence: str,
    length_unit: str,
    energy_unit: str | None = None,
    forces: Path | None = None,
    weights: Path | None = None,
    segments: Path | None = None,
    time_step_ps: float | None = None,
) -> BeadFrames:
    """Read C-alpha beads from ``.npy`` arrays.

    Args:
        coords: coordinates (frames, beads, 3).
        sequence: one-letter codes, one for each bead.
        length_unit: ``nm`` or ``angstrom``, of the coordinates and in the forces.
        energy_unit: ``kJ/mol`` or ``kcal/mol``, of the forces.
        forces: mapped forces (frames, beads, 3) in energy unit per length unit.
        weights: statistical weight of each frame.
        segments: whole number of the trajectory that each frame belongs to.
        time_step_ps: time between consecutive frames of a segment, None where there is none.

    Raises:
        InputError: arrays that do not fit each other, a NaN, an unknown unit or residue.
    """
    topology = BeadTopology.from_residues(parse_sequence(sequence))
    array = load_array(coords)
    if array.ndim != 3 or array.shape[1:] != (topology.n_beads, 3):
        raise InputError(
            f"{coords} has shape {array.shape}; wanted is (frames, {topology.n_beads}, 3) for the "
            f"{topology.n_beads} residues of sequence {sequence}"
        )
    scaled_forces = None
    if forces is not None:
        if energy_unit is None:
            raise InputError("forces are given without an energy unit; add --energy-unit")
        scaled_forces = _scaled(load_array(forces), force_factor(energy_unit, length_unit))
    with _naming(coords):
        frames = BeadFrames(
            topology=topology,
            positions_nm=_scaled(array, length_factor(length_unit)),
            segments=read_segments(segments, len(array), time_step_ps),
            time_step_ps=time_step_ps,
            forces=scaled_forces,
            weights=read_weights(weights),
        )
    _require_plausible_bonds(frames, f"{coords} in {length_unit}")
    return frames


def read_weights(path: Path | None) -> np.ndarray | None:
    """Read the weight of each frame; None stays None."""
    if path is None:
        return None
    weights = np.array(load_array(path), dtype=np.float64)
    if not weights.sum() > 0:
        raise InputError(f"{path}: the weights add up to {weights.sum()}; wanted is more than 0")
    return weights


def read_segments(
    path: Path | None, n_frames: int, time_step_ps: float | None
) -> Int64[np.ndarray, " frames"]:
    """Read the segment of each frame; without a file all frames are one segment.

    Raises:
        InputError: ids that are no whole numbers, or, where frames have a time step, an id that
            comes back after another (its frames would be taken for consecutive ones).
    """
    if path is None:
        return np.zeros(n_frames, dtype=np.int64)
    segments = load_array(path)
    if segments.ndim != 1 or segments.dtype.kind not in "iu":
        raise InputError(
            f"{path} has shape {segments.shape} and type {segments.dtype}; wanted are whole "
            f"numbers of shape ({n_frames},)"
        )
    ids = segments.astype(np.int64)
    starts = ids[np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))]
    if time_step_ps is not None and len(np.unique(starts)) < len(starts):
        raise InputError(
            f"{path}: a segment id comes back after another one, but with a time step the frames "
            "of a segment must be consecutive; number each stretch of frames anew"
        )
    return ids


def read_bead_structure(path: Path, topology: BeadTopology) -> Float32[np.ndarray, "beads 3"]:
    """Read the bead positions (nm) of a structure file, all-atom or C-alpha only.

    Raises:
        InputError: it cannot be read, or is of other residues than ``topology``.
    """
    solute, xyz = read_structure(path)
    topology.require_same(solute.beads, "the model", str(path))
    return np.ascontiguousarray(xyz[list(solute.bead_atoms)])


def read_sites(path: Path, topology: BeadTopology | AtomTopology) -> Float32[np.ndarray, "sites 3"]:
    """Read what a model of ``topology`` moves (nm) of a structure file: beads, or heavy atoms.

    Atoms are found by residue and name, so their order does not matter, and hydrogens may be there.

    Raises:
        InputError: the file cannot be read, is of other residues than ``topology``, or lacks atoms.
    """
    if isinstance(topology, BeadTopology):
        return read_bead_structure(path, topology)
    solute, xyz = read_structure(path)
    return np.ascontiguousarray(xyz[places_of(topology, solute.topology, path)])


def places_of(
    wanted: AtomTopology, given: AtomTopology, path: Path
) -> Int64[np.ndarray, " wanted_atoms"]:
    """Return the index of each wanted atom among those of a file.

    Raises:
        InputError: the file is of other residues, or lacks atoms.
    """
    mine, theirs = (tuple(map(standard_name, t.residues)) for t in (wanted, given))
    if mine != theirs:
        raise InputError(
            f"the model is of {' '.join(mine)}, but {path} is of {' '.join(theirs)}; give a "
            "structure of the same molecule, with the same caps"
        )
    there = {place: i for i, place in enumerate(zip(given.atom_residues, given.names, strict=True))}
    places = list(zip(wanted.atom_residues, wanted.names, strict=True))
    missing = [place for place in places if place not in there]
    if missing:
        named = ", ".join(f"{name} of {mine[r]}{wanted.residue_numbers[r]}" for r, name in missing)
        raise InputError(f"{path} lacks atoms of the model: {named}; give a whole structure")
    return np.array([there[place] for place in places], dtype=np.int64)


def read_starts(path: Path, topology: BeadTopology) -> Float32[np.ndarray, "chains beads 3"]:
    """Read starting positions: of a structure file, or from the array ``positions`` of an ``.npz``.

    The latter holds chains x beads x 3 numbers, nm.

    Raises:
        InputError: it cannot be read, or does not fit ``topology``.
    """
    if path.suffix.lower() != ".npz":
        return read_bead_structure(path, topology)[None]
    arrays = _load_npz(path)
    own = _stored_topology(arrays, path)
    if own is not None:
        topology.require_same(own, "the model", str(path))
    positions = arrays["positions"]
    if positions.ndim != 3 or positions.shape[1:] != (topology.n_beads, 3) or not len(positions):
        raise InputError(
            f"{path}: positions have shape {positions.shape}; wanted is (chains, "
            f"{topology.n_beads}, 3), one start for each chain"
        )
    if not np.isfinite(positions).all():
        raise InputError(f"{path}: positions have a NaN or infinity; starts must be finite")
    return positions.astype(np.float32)


def read_npz_frames(path: Path, topology: Path | BeadTopology | None) -> tuple[BeadFrames, int]:
    """Return the frames that are alive, and the number of those that are not.

    Raises:
        InputError: the file cannot be read, or does not fit ``topology``.
    """
    arrays = _load_npz(path)
    beads = _beads_of(arrays, topology, path)
    positions = arrays["positions"].astype(np.float32)
    if positions.ndim == 3:  # starts: frames that have nothing to do with each other
        with _naming(path):
            frames = BeadFrames(beads, positions, np.arange(len(positions), dtype=np.int64))
        return frames, 0
    if positions.ndim != 4:
        raise InputError(
            f"{path}: positions have shape {positions.shape}; wanted is (chains, frames, beads, 3)"
        )
    alive = np.asarray(arrays.get("alive", np.isfinite(positions).all(axis=(2, 3))))
    if alive.shape != positions.shape[:2] or alive.dtype != bool:
        raise InputError(f"{path}: alive has shape {alive.shape}; wanted is {positions.shape[:2]}")
    lost = int((~alive).sum())
    step_ps = _stored_step(arrays, path)
    with _naming(path):
        frames = BeadFrames(
            topology=beads,
            positions_nm=positions[alive],
            segments=alive_segments(alive),
            time_step_ps=step_ps,
        )
    return frames, lost


def _beads_of(
    arrays: dict[str, np.ndarray], topology: Path | BeadTopology | None, path: Path
) -> BeadTopology:
    """Return the molecule that an ``.npz`` file names itself, or else the one that is given."""
    own = _stored_topology(arrays, path)
    if own is not None:
        return own
    if isinstance(topology, BeadTopology):
        return topology
    if topology is not None:
        return read_solute(topology).beads
    raise InputError(f"{path} does not name its molecule; add --topology STRUCTURE.pdb")


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    require_file(path)
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path} is no .npz file; wanted is one with the array 'positions'")
    _require_numpy(path, b"PK", "numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read as .npz ({error}); write it again") from error
    if "positions" not in arrays:
        raise InputError(f"{path} has no array 'positions', only {', '.join(arrays) or 'nothing'}")
    if arrays["positions"].dtype.kind not in "fiu":
        raise InputError(f"{path}: positions are of type {arrays['positions'].dtype}, no numbers")
    return arrays


def _stored_topology(arrays: dict[str, np.ndarray], path: Path) -> BeadTopology | None:
    """Return the molecule that an ``.npz`` file names, None where it names none."""
    if "topology" not in arrays:
        return None
    with values_of(f"{path}: topology", "leave that array out, or write the file again"):
        return BeadTopology.from_dict(json.loads(str(arrays["topology"])))


def _stored_step(arrays: dict[str, np.ndarray], path: Path) -> float | None:
    """Return the time step in an ``.npz`` file, ps, None where it has none."""
    step = arrays.get("time_step_ps")
    if step is None:
        return None
    if step.size != 1 or step.dtype.kind not in "fiu" or not np.isfinite(step).all():
        raise InputError(
            f"{path}: time_step_ps is an array of shape {step.shape} and type {step.dtype}; wanted "
            "is one finite number, or no such array where frames have no order in time"
        )
    return float(step.item())


def _require_numpy(path: Path, magic: bytes, writer: str) -> None:
    """Refuse what NumPy would take for a pickle, and advise to unpickle."""
    with path.open("rb") as file:
        if file.read(len(magic)) != magic:
            raise InputError(f"{path} is not in NumPy's own format; write it with {writer}")


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    return (np.asarray(array, dtype=np.float64) * factor).astype(np.float32)


def _require_plausible_bonds(frames: BeadFrames, what: str) -> None:
    pairs = np.array(frames.topology.bonds, dtype=np.int64).reshape(-1, 2)
    if len(pairs) == 0 or frames.n_frames == 0:
        return
    bonds = frames.positions_nm[:, pairs[:, 0]] - frames.positions_nm[:, pairs[:, 1]]
    median = float(np.median(np.linalg.norm(bonds, axis=-1)))
    low, high = PLAUSIBLE_BOND_NM
    if not low <= median <= high:
        raise InputError(
            f"{what}: the median distance of bonded beads is {median:.3g} nm, where C-alpha beads "
            "lie 0.38 nm apart; check --length-unit and that the residues are in order"
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the file before what a record says about its content."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
