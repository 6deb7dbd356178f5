"""Generated chains as files that open in PyMOL, VMD, mdtraj and MDAnalysis.

``.npz`` and ``.safetensors`` hold all chains in one array. The formats of mdtraj get one file a
chain where there are several (``GEN_000.xtc``, ``GEN_001.xtc``, …), each of its frames alive at
their times, with one topology (``GEN.pdb``; of beads C-alpha atoms and CONECT records) beside them.
``GEN.json`` says how they were made, and on which clock the numbers of their times are:
``time_step_ps``, ``time_step_cg_ps`` of coarse-grained dynamics, or none. ``GEN_lost.npz`` has the
last good frames of chains that failed, where they are known, in the form of a file of starts; where
no chain lived to see a frame, it and ``GEN.json`` are all that is written.

Positions that lie in a file stay there: ``.npz``, ``.xtc`` and ``.trr`` take them in small pieces,
the other formats of mdtraj a chain at a time, ``.safetensors`` all at once.
"""

import json
import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
from jaxtyping import Float

from trajgen.data.frame_files import save_rollouts
from trajgen.data.mapping import bead_topology
from trajgen.data.records import Rollouts
from trajgen.data.structures import COORDINATE_SUFFIXES, STRUCTURE_SUFFIXES
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.data.trajectories import STREAMED_SUFFIXES, save_trajectory
from trajgen.errors import InputError, WorkError
from trajgen.files import refuse_existing, whole_file

logger = logging.getLogger(__name__)

#: Formats that hold all chains in one file.
_ARRAY_SUFFIXES = (".npz", ".safetensors")
#: Most frames that are handed at once to a writer that takes pieces.
PIECE_FRAMES = 1000


def prepare_output(path: Path, chains: int, topology: AtomTopology | BeadTopology) -> list[Path]:
    """Return the files that ``write_rollouts`` may write, checked before the long work begins.

    Raises:
        InputError: an unknown suffix, atoms in a file for beads, a name that is taken, or a folder
            without permission.
    """
    suffix = path.suffix.lower()
    known = (".npz", *COORDINATE_SUFFIXES, *STRUCTURE_SUFFIXES, ".safetensors")
    if suffix not in known:
        raise InputError(f"--out {path} is of no format that is known; use {', '.join(known)}")
    if suffix == ".npz" and isinstance(topology, AtomTopology):
        raise InputError(f"--out {path} cannot hold atoms; use {', '.join(known[1:])}")
    files = _trajectory_files(path, chains)
    if suffix in COORDINATE_SUFFIXES:
        files.append(path.with_suffix(".pdb"))
    files += [_lost_file(path), path.with_suffix(".json")]
    for file in files:
        refuse_existing(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):  # raises PermissionError now, not hours later
        return files


def write_rollouts(path: Path, rollouts: Rollouts, provenance: dict[str, Any]) -> list[Path]:
    """Write generated chains, their topology and their provenance; all of them or none.

    Args:
        path: the suffix chooses the format: npz, xtc, trr, dcd, nc, h5 or pdb.
        rollouts: the chains.
        provenance: JSON-able values: checkpoint hash, seed, lag, evaluations and so on.

    Returns:
        The files written.

    Raises:
        InputError: a name that is taken, an unknown suffix, or atoms in a file for beads.
        WorkError: no chain was alive in any frame, and nothing more is known of them; or the files
            did not reach the disk.
    """
    if not rollouts.alive.any() and not rollouts.losses:
        raise WorkError(f"no chain was alive in any frame; {path} is not written")
    trajectories = _trajectory_files(path, len(rollouts.alive))
    files = _files_of(path, rollouts, trajectories)
    with ExitStack() as stack:
        # The stack renames in reverse: the provenance appears last, when all else is there.
        temporary = {file: stack.enter_context(whole_file(file)) for file in reversed(files)}
        card = {**_card(rollouts), "files": [file.name for file in files[:-1]], **provenance}
        text = json.dumps(card, indent=2, allow_nan=False)
        temporary[path.with_suffix(".json")].write_text(text + "\n", encoding="utf-8")
        if path.suffix.lower() not in _ARRAY_SUFFIXES:
            _write_chains(trajectories, temporary, rollouts)
        elif path in temporary:
            write = _write_npz if path.suffix.lower() == ".npz" else save_rollouts
            write(temporary[path], rollouts)
        if path.with_suffix(".pdb") in temporary and path.suffix.lower() in COORDINATE_SUFFIXES:
            chain, frame = np.unravel_index(rollouts.alive.argmax(), rollouts.alive.shape)
            write_structure(
                temporary[path.with_suffix(".pdb")],
                rollouts.topology,
                rollouts.positions_nm[chain, frame],
            )
        if rollouts.losses:
            _write_lost(temporary[_lost_file(path)], rollouts)
    for file in files:
        logger.info("wrote %s", file)
    return files


def write_structure(
    path: Path,
    topology: BeadTopology | AtomTopology,
    positions_nm: Float[np.ndarray, "sites 3"],
) -> None:
    """Write one frame as a PDB file: atoms, or beads as C-alpha atoms with CONECT records."""
    write_pdb(path, topology, positions_nm[None])


def write_pdb(
    path: Path,
    topology: BeadTopology | AtomTopology,
    positions_nm: Float[np.ndarray, "frames sites 3"],
    times_ps: Float[np.ndarray, " frames"] | None = None,
) -> None:
    """Write frames as the models of a PDB file; beads are C-alpha atoms with CONECT records."""
    made = mdtraj_topology(topology)
    save_trajectory(path, [mdtraj.Trajectory(positions_nm, made, time=times_ps)])
    if isinstance(topology, BeadTopology):
        _add_bonds(path, topology)


def mdtraj_topology(topology: BeadTopology | AtomTopology) -> mdtraj.Topology:
    """Return a topology as mdtraj's; beads are carbon atoms ``CA``, one a residue."""
    made = mdtraj.Topology()
    chains = {chain: made.add_chain() for chain in sorted(set(topology.chains))}
    residues = [
        made.add_residue(name, chains[chain], resSeq=number)
        for name, number, chain in zip(
            topology.residues, topology.residue_numbers, topology.chains, strict=True
        )
    ]
    places, elements = tuple(range(topology.n_sites)), ("C",) * topology.n_sites
    if isinstance(topology, AtomTopology):
        places, elements = topology.atom_residues, topology.elements
    atoms = [
        made.add_atom(name, mdtraj.element.Element.getBySymbol(element), residues[place])
        for name, element, place in zip(topology.names, elements, places, strict=True)
    ]
    for i, j in topology.bonds:
        made.add_bond(atoms[i], atoms[j])
    return made


def _files_of(path: Path, rollouts: Rollouts, trajectories: list[Path]) -> list[Path]:
    """Return the files that there is something to write to, the card last."""
    files = prepare_output(path, len(rollouts.alive), rollouts.topology)
    if not rollouts.losses:
        files.remove(_lost_file(path))
    if not rollouts.alive.any():
        return [_lost_file(path), path.with_suffix(".json")]
    if path.suffix.lower() in _ARRAY_SUFFIXES:
        return files
    chains = zip(trajectories, rollouts.alive, strict=True)
    empty = [file for file, alive in chains if not alive.any()]
    if empty:
        logger.warning(
            "%d of %d files are not written, since their chains failed before the first frame: %s",
            len(empty),
            len(trajectories),
            ", ".join(file.name for file in empty[:3]) + (", …" if len(empty) > 3 else ""),
        )
    left_out = set(empty)
    return [file for file in files if file not in left_out]


def _trajectory_files(path: Path, chains: int) -> list[Path]:
    if path.suffix.lower() in _ARRAY_SUFFIXES or chains == 1:
        return [path]
    digits = max(3, len(str(chains - 1)))
    return [path.with_stem(f"{path.stem}_{chain:0{digits}d}") for chain in range(chains)]


def _lost_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}_lost.npz")


def _write_npz(path: Path, rollouts: Rollouts) -> None:
    steps: Any = {name: np.float64(step) for name, step in _time_step(rollouts).items()}
    np.savez(
        path,
        positions=rollouts.positions_nm,
        alive=rollouts.alive,
        topology=np.array(json.dumps(rollouts.topology.to_dict())),
        **steps,
    )


def _write_lost(path: Path, rollouts: Rollouts) -> None:
    lost = [(loss.chain, frame) for loss in rollouts.losses for frame in loss.last_frames_nm]
    np.savez(
        path,
        positions=np.stack([frame for _, frame in lost]),
        chain=np.array([chain for chain, _ in lost]),
        topology=np.array(json.dumps(rollouts.topology.to_dict())),
    )


def _time_step(rollouts: Rollouts) -> dict[str, float]:
    """Return the time between frames under the name of its clock."""
    steps = {
        "time_step_ps": rollouts.time_step_ps,
        "time_step_cg_ps": rollouts.time_step_cg_ps,
    }
    return {name: step for name, step in steps.items() if step is not None}


def _write_chains(files: list[Path], temporary: dict[Path, Path], rollouts: Rollouts) -> None:
    topology = mdtraj_topology(rollouts.topology)
    step = next(iter(_time_step(rollouts).values()), 1.0)
    for chain, file in enumerate(files):
        if file in temporary:
            alive = np.flatnonzero(rollouts.alive[chain])
            if file.suffix.lower() == ".pdb":
                kept = rollouts.positions_nm[chain, alive]
                write_pdb(temporary[file], rollouts.topology, kept, alive * step)
            else:
                streamed = file.suffix.lower() in STREAMED_SUFFIXES
                count = -(-len(alive) // PIECE_FRAMES) if streamed else 1
                pieces = (
                    mdtraj.Trajectory(rollouts.positions_nm[chain, part], topology, part * step)
                    for part in np.array_split(alive, count)
                )
                save_trajectory(temporary[file], pieces)


def _add_bonds(path: Path, topology: BeadTopology) -> None:
    """Add CONECT records: viewers draw no bond of 0.38 nm by themselves, and mdtraj writes none."""
    lines = path.read_text(encoding="ascii").splitlines()
    serials = [line[6:11] for line in lines if line.startswith("ATOM")][: topology.n_beads]
    bonded: list[list[int]] = [[] for _ in serials]
    for i, j in topology.bonds:
        bonded[i].append(j)
        bonded[j].append(i)
    records = [
        "CONECT" + serial + "".join(serials[other] for other in others)
        for serial, others in zip(serials, bonded, strict=True)
        if others
    ]
    body = [line for line in lines if line.strip() != "END"]
    path.write_text("\n".join([*body, *records, "END", ""]), encoding="ascii")


def _card(rollouts: Rollouts) -> dict[str, Any]:
    chains, frames = rollouts.alive.shape
    return {
        "sequence": bead_topology(rollouts.topology).sequence,
        "chains": chains,
        "frames": frames,
        "frames_alive": rollouts.alive.sum(axis=1).tolist(),
        **_time_step(rollouts),
    }
