"""Two chains that a disulfide joins, as a PDB file."""

from pathlib import Path

import numpy as np
from openmm import app, unit

from al.molecule.peptide import build_peptide, extended_backbone
from al.molecule.settings import CapSettings
from al.molecule.structure import atom_topology


def write_bridged_dimer(path: Path) -> Path:
    """Write GCG twice, the sulfurs 0.205 nm apart."""
    chain = build_peptide("GCG", extended_backbone("GCG"), CapSettings())
    first, names = chain.positions_nm, atom_topology(chain.topology).names
    sulfur, beta = first[names.index("SG")], first[names.index("CB")]
    # The second chain is the first turned by 180 degrees about an axis beside SG, at right angles
    # to CB-SG.
    out = (sulfur - beta) / np.linalg.norm(sulfur - beta)
    across = np.cross(out, first[names.index("CA")] - beta)
    across /= np.linalg.norm(across)
    centre = sulfur + 0.1025 * out
    relative = first - centre
    second = centre + 2 * np.outer(relative @ across, across) - relative
    modeller = app.Modeller(chain.topology, first * unit.nanometer)
    modeller.add(chain.topology, second * unit.nanometer)
    with path.open("w") as file:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, file)
    return path
