"""PULCHRA: backbone and side-chain heavy atoms from a trace of alpha carbons.

Rotkiewicz and Skolnick, J. Comput. Chem. 29, 1460 (2008). The Python package ``pulchra`` is used,
or the program of that name where one is on PATH. PULCHRA reads the geometry of four consecutive
beads and continues the trace in a straight line beyond its ends, where its local frame for the
side chain is not defined: the side chains of both terminal residues collapse into a line. The
chain is therefore continued by virtual glycines, which are dropped from the result.
"""

import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import mdtraj
import numpy as np
import torch
from jaxtyping import Float

from al.backmapping.completion import complete
from al.molecule.molecule import Molecule
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError, WorkError
from trajgen.geometry.internal import dihedrals
from trajgen.residues import THREE_LETTER

#: Virtual beads at each end: PULCHRA looks two beads back and one ahead.
_PADDING = 2
_BEAD_DISTANCE_NM = 0.38
_BEAD_ANGLE = np.deg2rad(110.0)
#: The torsion of an extended strand, for a chain of three beads, which has none.
_EXTENDED_TORSION = np.deg2rad(-170.0)

HeavyAtoms = dict[tuple[int, str], np.ndarray]


def rebuilt(
    beads_nm: Float[np.ndarray, "beads 3"], molecule: Molecule, timeout_s: float
) -> Float[np.ndarray, "atoms 3"]:
    """Return all atoms of a molecule (nm) around its alpha carbons, in the molecule's order.

    Heavy atoms come from PULCHRA; hydrogens, caps and the terminal oxygen, of which it builds
    none, from the local geometry of the molecule's first start structure.

    Raises:
        InputError: PULCHRA cannot rebuild this molecule.
        WorkError: PULCHRA failed on these coordinates.
    """
    topology = molecule.topology
    beads, alpha_carbons = alpha_carbon_beads(topology)
    heavy = reconstruct(beads_nm, beads, timeout_s)
    known = {}
    for bead, alpha in enumerate(alpha_carbons):
        residue = topology.atom_residues[alpha]
        for atom, (name, owner) in enumerate(
            zip(topology.names, topology.atom_residues, strict=True)
        ):
            if owner == residue and (bead, name) in heavy:
                known[atom] = heavy[bead, name]
    return complete(known, next(iter(molecule.starts.values())), topology)


def reconstruct(
    beads_nm: Float[np.ndarray, "beads 3"], topology: BeadTopology, timeout_s: float
) -> HeavyAtoms:
    """Return the position (nm) of each heavy atom that PULCHRA builds, by bead and atom name.

    The alpha carbons keep the positions given.

    Args:
        beads_nm: positions of the alpha carbons.
        topology: the beads; every chain is rebuilt by itself.
        timeout_s: time limit for the program on PATH; the Python package has none.

    Raises:
        InputError: a chain is too short, or has a residue that is none of the twenty.
        WorkError: PULCHRA failed on these coordinates.
    """
    if not can_rebuild(topology):
        raise InputError(
            f"PULCHRA cannot rebuild {topology.sequence}: it needs chains of at least three "
            "residues, all of the twenty amino acids; use backmapping method 'nearest'"
        )
    program = find_program()
    atoms: HeavyAtoms = {}
    for members in _chains(topology):
        sequence = "".join(topology.sequence[bead] for bead in members)
        trace = pad_trace(np.asarray(beads_nm, dtype=np.float64)[members])
        padded = "G" * _PADDING + sequence + "G" * _PADDING
        if program is not None:
            residues = _run_program(program, trace, padded, timeout_s)
        else:
            residues = _run_package(trace, padded)
        for bead, residue in zip(members, residues[_PADDING:-_PADDING], strict=True):
            atoms.update({(bead, name): position for name, position in residue.items()})
            atoms[bead, "CA"] = np.asarray(beads_nm[bead], dtype=np.float64)
    if not all(np.isfinite(position).all() for position in atoms.values()):
        raise WorkError("PULCHRA gave coordinates that are not finite")
    return atoms


def can_rebuild(topology: BeadTopology) -> bool:
    """Return whether PULCHRA knows all residues and every chain has at least three."""
    return "X" not in topology.sequence and all(len(c) >= 3 for c in _chains(topology))


def find_program() -> Path | None:
    """Return the PULCHRA program on PATH, or None.

    The Python package installs a command of the same name; that one is not meant.
    """
    found = shutil.which("pulchra")
    if found is None or b"pulchra.cli" in Path(found).read_bytes():
        return None
    return Path(found)


def _chains(topology: BeadTopology) -> list[list[int]]:
    return [
        [bead for bead, owner in enumerate(topology.chains) if owner == chain]
        for chain in sorted(set(topology.chains))
    ]


def pad_trace(beads_nm: Float[np.ndarray, "beads 3"]) -> Float[np.ndarray, "padded 3"]:
    """Continue a trace of at least three beads by two virtual beads at each end.

    They keep the torsion of the last four beads of that end, so that they go on as the chain does.
    """
    tail = _continue(beads_nm)
    head = _continue(beads_nm[::-1])[::-1]
    return np.concatenate([head, beads_nm, tail])


def _continue(beads: np.ndarray) -> np.ndarray:
    torsion = _torsion(beads[-4:].copy()) if len(beads) > 3 else _EXTENDED_TORSION
    chain = list(beads[-3:])
    for _ in range(_PADDING):
        a, b, c = chain[-3:]
        axis = _unit(c - b)
        normal = _unit(np.cross(b - a, axis))
        chain.append(
            c
            + _BEAD_DISTANCE_NM
            * (
                -np.cos(_BEAD_ANGLE) * axis
                + np.sin(_BEAD_ANGLE) * np.cos(torsion) * np.cross(normal, axis)
                + np.sin(_BEAD_ANGLE) * np.sin(torsion) * normal
            )
        )
    return np.array(chain[3:])


def _torsion(beads: np.ndarray) -> float:
    return float(dihedrals(torch.from_numpy(beads), torch.tensor([[0, 1, 2, 3]])))


def _unit(vector: np.ndarray) -> np.ndarray:
    # Three beads in a line have no normal; the zero vector then leaves the chain straight.
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _run_package(trace_nm: np.ndarray, sequence: str) -> list[dict[str, np.ndarray]]:
    from pulchra import Pulchra  # late: half a second of tables that other methods do not need

    try:
        with warnings.catch_warnings():
            # The virtual beads at the very ends are the collapsed ones; they are dropped.
            warnings.simplefilter("ignore", UserWarning)
            # The trace is left as it is: minimisation with restraints mends it better afterwards.
            model = Pulchra(ca_optimize=False).reconstruct_coords(10.0 * trace_nm, sequence)
    except (ValueError, ArithmeticError, IndexError) as error:
        raise WorkError(f"PULCHRA failed ({error})") from error
    return [
        {atom.name.strip(): 0.1 * np.asarray(atom.coords) for atom in residue.atoms}
        for residue in model.residues
    ]


def _run_program(
    program: Path, trace_nm: np.ndarray, sequence: str, timeout_s: float
) -> list[dict[str, np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "trace.pdb"), Path(folder, "trace.rebuilt.pdb")
        _trace(trace_nm, sequence).save_pdb(str(source))
        try:
            # -c: the trace is left as it is.
            subprocess.run(
                [str(program), "-c", source.name],
                cwd=folder,
                check=True,
                timeout=timeout_s,
                capture_output=True,
            )
        except subprocess.TimeoutExpired as error:
            raise WorkError(f"{program} did not end within {timeout_s:g} s") from error
        except (subprocess.CalledProcessError, OSError) as error:
            raise WorkError(f"{program} failed ({error})") from error
        if not result.is_file():
            raise WorkError(f"{program} wrote no {result.name}")
        rebuilt = mdtraj.load_pdb(str(result), standard_names=False)
    residues = [
        {atom.name: rebuilt.xyz[0, atom.index].astype(np.float64) for atom in residue.atoms}
        for residue in rebuilt.topology.residues
    ]
    if len(residues) != len(sequence):
        raise WorkError(f"{program} wrote {len(residues)} residues instead of {len(sequence)}")
    return residues


def _trace(trace_nm: np.ndarray, sequence: str) -> mdtraj.Trajectory:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for number, letter in enumerate(sequence, start=1):
        residue = topology.add_residue(THREE_LETTER[letter], chain, resSeq=number)
        topology.add_atom("CA", mdtraj.element.carbon, residue)
    return mdtraj.Trajectory(trace_nm[None], topology)
