"""The heavy atoms of a protein from a PDB file: what is mended, dropped and refused.

Missing side-chain atoms and terminal oxygens are added (PDBFixer), known modified residues become
their standard parent with a message, all chains and disulfides stay; waters, ions and ligands are
dropped with a message. A missing stretch of the chain is never invented: it is refused, and the
error names the place.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from pdbfixer import PDBFixer

from al.molecule.structure import Structure
from trajgen.errors import InputError
from trajgen.residues import CAPS, THREE_LETTER

logger = logging.getLogger(__name__)

_STANDARD = frozenset(THREE_LETTER.values())
#: A peptide bond is 0.133 nm; beyond this distance between C and N the chain is broken.
_LONGEST_PEPTIDE_BOND_NM = 0.2
_SEED = 1


def read_structure(path: Path) -> Structure:
    """Read and mend a PDB file.

    Raises:
        InputError: the file is missing, is no PDB file, holds no protein, has a chain break, or
            has a residue of the chain that is not known.
    """
    fixer = _open(path)
    _replace_known(fixer, path)
    _refuse_unknown(fixer, path)
    _drop_others(fixer, path)
    _refuse_chain_breaks(fixer, path)
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    _report_missing(fixer, path)
    fixer.addMissingAtoms(seed=_SEED)
    modeller = app.Modeller(fixer.topology, fixer.positions)
    # Names and places of hydrogens differ from file to file; all are added anew.
    modeller.delete([a for a in modeller.topology.atoms() if a.element == app.element.hydrogen])
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    return Structure(modeller.topology, positions - positions.mean(axis=0))


def _open(path: Path) -> PDBFixer:
    if path.is_dir():
        raise InputError(f"PDB file {path} is a folder; name a file in it")
    if not path.is_file():
        raise InputError(f"PDB file {path} is missing")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no PDB file: it holds bytes that are no text") from error
    lines = text.splitlines()
    if not any(line.startswith(("ATOM  ", "HETATM")) for line in lines):
        raise InputError(f"{path} is no PDB file: no line begins with ATOM or HETATM")
    models = sum(line.startswith("MODEL ") for line in lines)
    if models > 1:
        logger.info("%s holds %d models; the first is taken", path, models)
    alternates = {
        line[16] for line in lines if line.startswith(("ATOM", "HETATM")) and line[16:17].strip()
    }
    if alternates:
        logger.info(
            "%s has alternate locations %s; one is taken for each atom",
            path, ", ".join(sorted(alternates)),
        )  # fmt: skip
    try:
        with path.open(encoding="utf-8") as file:
            return PDBFixer(pdbfile=file, platform=openmm.Platform.getPlatformByName("Reference"))
    except Exception as error:  # PDBFixer raises bare Exception
        raise InputError(f"{path} cannot be read as a PDB file: {error}") from error


def _replace_known(fixer: PDBFixer, path: Path) -> None:
    fixer.findNonstandardResidues()
    for residue, standard in fixer.nonstandardResidues:
        logger.warning("%s: %s becomes its standard parent %s", path, _label(residue), standard)
    fixer.replaceNonstandardResidues()


def _refuse_unknown(fixer: PDBFixer, path: Path) -> None:
    known = _STANDARD | set(CAPS)
    unknown = [
        residue
        for residue in fixer.topology.residues()
        if residue.name not in known and {"N", "CA", "C"} <= {atom.name for atom in residue.atoms()}
    ]
    if unknown:
        raise InputError(
            f"{path}: {_label(unknown[0])} is an amino acid that is not known; replace it by one "
            "of the twenty standard ones in the file"
        )


def _drop_others(fixer: PDBFixer, path: Path) -> None:
    kept = _STANDARD | set(CAPS)
    dropped = [residue for residue in fixer.topology.residues() if residue.name not in kept]
    if dropped:
        counts = Counter(residue.name for residue in dropped)
        text = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        logger.warning("%s: dropped what is no protein (waters, ions, ligands): %s", path, text)
        modeller = app.Modeller(fixer.topology, fixer.positions)
        modeller.delete(dropped)
        fixer.topology, fixer.positions = modeller.topology, modeller.positions
    if not any(residue.name in _STANDARD for residue in fixer.topology.residues()):
        raise InputError(f"{path} holds no protein; give a PDB file with amino acids")


def _refuse_chain_breaks(fixer: PDBFixer, path: Path) -> None:
    positions = np.array(fixer.positions.value_in_unit(unit.nanometer))
    for residue, names in _backbones(fixer.topology):
        missing = [name for name in ("N", "CA", "C") if name not in names]
        if residue.name in _STANDARD and missing:
            raise InputError(
                f"{path}: {_label(residue)} lacks its backbone atom {missing[0]}; complete the "
                "chain (by loop modelling, say) before building"
            )
    for chain in fixer.topology.chains():
        for (before, atoms), (after, next_atoms) in pairwise(_backbones(chain)):
            distance = np.linalg.norm(positions[next_atoms["N"]] - positions[atoms["C"]])
            if distance > _LONGEST_PEPTIDE_BOND_NM:
                raise InputError(
                    f"{path}: chain {chain.id} is broken between {_label(before)} and "
                    f"{_label(after)} (C and N are {distance:.2f} nm apart); add the missing "
                    "residues (by loop modelling, say), or name the parts as chains of their own"
                )


def _backbones(
    part: app.Topology | app.topology.Chain,
) -> Iterator[tuple[app.topology.Residue, dict[str, int]]]:
    for residue in part.residues():
        yield residue, {atom.name: atom.index for atom in residue.atoms()}


def _report_missing(fixer: PDBFixer, path: Path) -> None:
    for residue, atoms in fixer.missingAtoms.items():
        logger.info("%s: added %s to %s", path, " ".join(a.name for a in atoms), _label(residue))
    for residue, names in fixer.missingTerminals.items():
        logger.info("%s: added %s to %s", path, " ".join(names), _label(residue))


def _label(residue: app.topology.Residue) -> str:
    return f"{residue.name}{residue.id.strip()}{residue.insertionCode.strip()}"
