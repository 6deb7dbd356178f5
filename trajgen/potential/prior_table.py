"""The fitted priors as a table: a row for each term, or for terms with the same parameters."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from trajgen.potential.prior_fit import (
    DEFAULT_ANGLE_COSINE,
    DEFAULT_ANGLE_STIFFNESS,
    DEFAULT_BOND_NM,
    DEFAULT_BOND_STIFFNESS,
    DEFAULT_DIHEDRAL_AMPLITUDE,
    DEFAULT_DIHEDRAL_PHASE_RAD,
    DEFAULT_SIGMA_NM,
)
from trajgen.potential.priors import Priors

#: The unit of each parameter.
UNITS = {
    "bond": {"stiffness": "kJ/mol/nm²", "length": "nm"},
    "angle": {"stiffness": "kJ/mol", "cosine": ""},
    "dihedral": {"amplitude": "kJ/mol", "phase": "rad"},
    "repulsion": {"strength": "kJ/mol", "sigma": "nm"},
}

#: What a term has that was not fitted; of the repulsion σ alone is fitted, its strength is kT.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "bond": {"stiffness": DEFAULT_BOND_STIFFNESS, "length": DEFAULT_BOND_NM},
    "angle": {"stiffness": DEFAULT_ANGLE_STIFFNESS, "cosine": DEFAULT_ANGLE_COSINE},
    "dihedral": {
        "amplitude": list(DEFAULT_DIHEDRAL_AMPLITUDE),
        "phase": list(DEFAULT_DIHEDRAL_PHASE_RAD),
    },
    "repulsion": {"sigma": DEFAULT_SIGMA_NM},
}


def prior_table(priors: Priors) -> list[dict[str, Any]]:
    """Return a row for each set of terms that share their parameters.

    A row has ``term``, ``beads`` (a list of bead numbers for each of its terms), ``parameters``,
    ``units``, and ``origin``, ``fitted`` or ``default``.
    """
    rows: list[dict[str, Any]] = []
    for term, beads, parameters in _terms(priors):
        last = rows[-1] if rows else None
        if last is not None and (last["term"], last["parameters"]) == (term, parameters):
            last["beads"].append(beads)
            continue
        default = all(parameters[name] == value for name, value in _DEFAULTS[term].items())
        rows.append(
            {
                "term": term,
                "beads": [beads],
                "parameters": parameters,
                "units": UNITS[term],
                "origin": "default" if default else "fitted",
            }
        )
    return rows


def _terms(priors: Priors) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    kinds: list[tuple[str, Tensor, dict[str, Tensor]]] = [
        (
            "bond",
            priors.bond.pairs,
            {"stiffness": priors.bond.stiffness, "length": priors.bond.length_nm},
        ),
        (
            "angle",
            priors.angle.triples,
            {"stiffness": priors.angle.stiffness, "cosine": priors.angle.cosine},
        ),
        (
            "dihedral",
            priors.dihedral.quadruples,
            {"amplitude": priors.dihedral.amplitude, "phase": priors.dihedral.phase_rad},
        ),
        (
            "repulsion",
            priors.repulsion.pairs,
            {"strength": priors.repulsion.strength, "sigma": priors.repulsion.sigma_nm},
        ),
    ]
    for term, beads, values in kinds:
        columns = {name: value.tolist() for name, value in values.items()}
        for place, row in enumerate(beads.tolist()):
            yield term, row, {name: column[place] for name, column in columns.items()}
