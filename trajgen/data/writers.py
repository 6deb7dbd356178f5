"""Generated chains as files that open in PyMOL, VMD, mdtraj and MDAnalysis.

``.npz`` holds all chains in one array. The formats of mdtraj get one file a chain where there are
several (``GEN_000.xtc``, ``GEN_001.xtc``, …), each cut at its last frame alive, with one topology
(``GEN.pdb``, C-alpha atoms and CONECT records) beside them. ``GEN.json`` says how they were made.
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

from trajgen.data.records import Rollouts
from trajgen.data.topology import BeadTopology
from trajgen.data.trajectories import COORDINATE_SUFFIXES, STRUCTURE_SUFFIXES, save_trajectory
from trajgen.errors import InputError, WorkError
from trajgen.files import refuse_existing, whole_file

logger = logging.getLogger(__name__)


def prepare_output(path: Path, chains: int) -> list[Path]:
    """Return the files that ``write_rollouts`` will write, checked before the long work begins.

    Raises:
        InputError: an unknown suffix, a name that is taken, or a folder without permission.
    """
    suffix = path.suffix.lower()
    known = (".npz", *COORDINATE_SUFFIXES, *STRUCTURE_SUFFIXES)
    if suffix not in known:
        raise InputError(f"--out {path} is of no format that is known; use {', '.join(known)}")
    files = _trajectory_files(path, chains)
    if suffix in COORDINATE_SUFFIXES:
        files.append(path.with_suffix(".pdb"))
    files.append(path.with_suffix(".json"))
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
        InputError: a name that is taken, or an unknown suffix.
        WorkError: the files did not reach the disk.
    """
    alive = [bool(chain.any()) for chain in rollouts.alive]
    if not any(alive):
        raise WorkError(f"no chain was alive in any frame; {path} is not written")
    trajectories = _trajectory_files(path, len(alive))
    files = prepare_output(path, len(alive))
    if path.suffix.lower() != ".npz":
        empty = [file for file, lives in zip(trajectories, alive, strict=True) if not lives]
        for file in empty:
            logger.warning("%s is not written: its chain failed before the first frame", file)
            files.remove(file)
    with ExitStack() as stack:
        # The stack renames in reverse: the provenance appears last, when all else is there.
        temporary = {file: stack.enter_context(whole_file(file)) for file in reversed(files)}
        card = {**_card(rollouts), "files": [file.name for file in files[:-1]], **provenance}
        text = json.dumps(card, indent=2, allow_nan=False)
        temporary[path.with_suffix(".json")].write_text(text + "\n", encoding="utf-8")
        if path.suffix.lower() == ".npz":
            _write_npz(temporary[path], rollouts)
        else:
            _write_chains(trajectories, temporary, rollouts)
        if path.suffix.lower() in COORDINATE_SUFFIXES:
            chain, frame = np.argwhere(rollouts.alive)[0]
            write_structure(
                temporary[path.with_suffix(".pdb")],
                rollouts.topology,
                rollouts.positions_nm[chain, frame],
            )
    for file in files:
        logger.info("wrote %s", file)
    return files


def write_structure(
    path: Path, topology: BeadTopology, positions_nm: Float[np.ndarray, "beads 3"]
) -> None:
    """Write one frame of beads as a PDB file with C-alpha atoms and CONECT records."""
    save_trajectory(path, mdtraj.Trajectory(positions_nm[None], mdtraj_topology(topology)))
    _add_bonds(path, topology)


def mdtraj_topology(beads: BeadTopology) -> mdtraj.Topology:
    """Return the beads as an mdtraj topology: one carbon atom ``CA`` a residue, bonded."""
    topology = mdtraj.Topology()
    chains = {chain: topology.add_chain() for chain in sorted(set(beads.chains))}
    atoms = []
    for name, residue, number, chain in zip(
        beads.names, beads.residues, beads.residue_numbers, beads.chains, strict=True
    ):
        place = topology.add_residue(residue, chains[chain], resSeq=number)
        atoms.append(topology.add_atom(name, mdtraj.element.carbon, place))
    for i, j in beads.bonds:
        topology.add_bond(atoms[i], atoms[j])
    return topology


def _trajectory_files(path: Path, chains: int) -> list[Path]:
    if path.suffix.lower() == ".npz" or chains == 1:
        return [path]
    digits = max(3, len(str(chains - 1)))
    return [path.with_stem(f"{path.stem}_{chain:0{digits}d}") for chain in range(chains)]


def _write_npz(path: Path, rollouts: Rollouts) -> None:
    np.savez(
        path,
        positions=rollouts.positions_nm,
        alive=rollouts.alive,
        time_step_ps=np.float64(rollouts.time_step_ps),
        topology=np.array(json.dumps(rollouts.topology.to_dict())),
    )


def _write_chains(files: list[Path], temporary: dict[Path, Path], rollouts: Rollouts) -> None:
    topology = mdtraj_topology(rollouts.topology)
    for chain, file in enumerate(files):
        if file in temporary:
            kept = rollouts.positions_nm[chain, rollouts.alive[chain]]
            times = np.arange(len(kept)) * rollouts.time_step_ps
            save_trajectory(temporary[file], mdtraj.Trajectory(kept, topology, time=times))
            if file.suffix.lower() == ".pdb":
                _add_bonds(temporary[file], rollouts.topology)


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
        "sequence": rollouts.topology.sequence,
        "chains": chains,
        "frames": frames,
        "frames_alive": rollouts.alive.sum(axis=1).tolist(),
        "time_step_ps": rollouts.time_step_ps,
    }
