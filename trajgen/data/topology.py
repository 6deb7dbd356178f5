"""What a molecule is: its residues, its atoms, its beads; plain values that JSON and YAML hold."""

from dataclasses import dataclass
from typing import Any

from trajgen.errors import InputError
from trajgen.residues import ONE_LETTER, bead_type, standard_name


@dataclass(frozen=True)
class BeadTopology:
    """The beads of a molecule.

    Attributes:
        names: a name for each bead, ``CA`` for C-alpha beads.
        residues: three-letter residue name of each bead.
        residue_numbers: residue number of each bead, as in the structure file.
        chains: chain index of each bead, counted from 0.
        bonds: pairs of bead indices, smaller first.
    """

    names: tuple[str, ...]
    residues: tuple[str, ...]
    residue_numbers: tuple[int, ...]
    chains: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        lengths = {len(self.residues), len(self.residue_numbers), len(self.chains)}
        if lengths != {len(self.names)}:
            raise InputError(f"bead topology has fields of different lengths: {sorted(lengths)}")
        for i, j in self.bonds:
            if not 0 <= i < j < len(self.names):
                raise InputError(f"bead bond ({i}, {j}) does not fit {len(self.names)} beads")

    @classmethod
    def from_residues(cls, residues: tuple[str, ...] | list[str]) -> "BeadTopology":
        """Return one chain of C-alpha beads, bonded in sequence."""
        n = len(residues)
        return cls(
            names=("CA",) * n,
            residues=tuple(residues),
            residue_numbers=tuple(range(1, n + 1)),
            chains=(0,) * n,
            bonds=tuple((i, i + 1) for i in range(n - 1)),
        )

    @property
    def n_beads(self) -> int:
        """The number of beads."""
        return len(self.names)

    @property
    def n_sites(self) -> int:
        """The number of places that a frame holds: beads."""
        return self.n_beads

    @property
    def types(self) -> tuple[int, ...]:
        """The bead type of each bead (see ``trajgen.residues``)."""
        return tuple(bead_type(name) for name in self.residues)

    @property
    def sequence(self) -> str:
        """One-letter codes, X for a residue that is none of the twenty."""
        return "".join(ONE_LETTER.get(standard_name(name), "X") for name in self.residues)

    def require_same(self, other: "BeadTopology", mine: str, theirs: str) -> None:
        """Raise InputError unless ``other`` has the same beads; the texts name both sides."""
        same = (self.names, self.types, self.chains, self.bonds) == (
            other.names,
            other.types,
            other.chains,
            other.bonds,
        )
        if same:
            return
        if self.sequence == other.sequence:
            difference = "they have the same residues, but other chains, bonds or bead names"
        else:
            difference = "use files of the same molecule"
        raise InputError(
            f"{mine} is of {self.sequence} ({self.n_beads} beads), but {theirs} is of "
            f"{other.sequence} ({other.n_beads} beads); {difference}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for YAML and JSON."""
        return {
            "names": " ".join(self.names),
            "residues": " ".join(self.residues),
            "residue_numbers": list(self.residue_numbers),
            "chains": list(self.chains),
            "bonds": [list(bond) for bond in self.bonds],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BeadTopology":
        """Read what ``to_dict`` wrote."""
        return cls(
            names=tuple(values["names"].split()),
            residues=tuple(values["residues"].split()),
            residue_numbers=tuple(values["residue_numbers"]),
            chains=tuple(values["chains"]),
            bonds=tuple((i, j) for i, j in values["bonds"]),
        )


@dataclass(frozen=True)
class AtomTopology:
    """The atoms of a solute, in the order of its files.

    Attributes:
        names: atom names.
        elements: element symbols.
        atom_residues: index into ``residues`` for each atom.
        residues: three-letter residue names, caps included.
        residue_numbers: residue number of each residue.
        chains: chain index of each residue.
        bonds: pairs of atom indices.
    """

    names: tuple[str, ...]
    elements: tuple[str, ...]
    atom_residues: tuple[int, ...]
    residues: tuple[str, ...]
    residue_numbers: tuple[int, ...]
    chains: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.elements) == len(self.atom_residues):
            raise InputError("atom topology has names, elements and residues of different lengths")
        if not len(self.residues) == len(self.residue_numbers) == len(self.chains):
            raise InputError("atom topology has residue fields of different lengths")

    @property
    def n_atoms(self) -> int:
        """The number of atoms."""
        return len(self.names)

    @property
    def n_sites(self) -> int:
        """The number of places that a frame holds: atoms."""
        return self.n_atoms

    def index(self, residue: int, name: str) -> int | None:
        """Return the index of the atom ``name`` of residue ``residue``, or None."""
        for atom, (own_name, own_residue) in enumerate(
            zip(self.names, self.atom_residues, strict=True)
        ):
            if own_residue == residue and own_name == name:
                return atom
        return None

    def without_hydrogens(self) -> tuple["AtomTopology", tuple[int, ...]]:
        """Return the topology of all other atoms, and their indices in this one."""
        kept = tuple(i for i, element in enumerate(self.elements) if element not in ("H", "D"))
        place = {atom: number for number, atom in enumerate(kept)}
        bonds = [(place[a], place[b]) for a, b in self.bonds if a in place and b in place]
        heavy = AtomTopology(
            names=tuple(self.names[i] for i in kept),
            elements=tuple(self.elements[i] for i in kept),
            atom_residues=tuple(self.atom_residues[i] for i in kept),
            residues=self.residues,
            residue_numbers=self.residue_numbers,
            chains=self.chains,
            bonds=tuple(bonds),
        )
        return heavy, kept

    def require_same(self, other: "AtomTopology", mine: str, theirs: str) -> None:
        """Raise InputError unless ``other`` has the same atoms; the texts name both sides."""
        parts = ("residues", "chains", "atom_residues", "names")
        for part in parts:
            if getattr(self, part) != getattr(other, part):
                raise InputError(
                    f"{mine} has {self.n_atoms} atoms in {len(self.residues)} residues and "
                    f"{theirs} has {other.n_atoms} in {len(other.residues)}; their {part} "
                    "differ; use files with the same atoms in the same order"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for YAML and JSON."""
        return {
            "names": " ".join(self.names),
            "elements": " ".join(self.elements),
            "atom_residues": list(self.atom_residues),
            "residues": " ".join(self.residues),
            "residue_numbers": list(self.residue_numbers),
            "chains": list(self.chains),
            "bonds": [list(bond) for bond in self.bonds],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AtomTopology":
        """Read what ``to_dict`` wrote."""
        return cls(
            names=tuple(values["names"].split()),
            elements=tuple(values["elements"].split()),
            atom_residues=tuple(values["atom_residues"]),
            residues=tuple(values["residues"].split()),
            residue_numbers=tuple(values["residue_numbers"]),
            chains=tuple(values["chains"]),
            bonds=tuple((i, j) for i, j in values["bonds"]),
        )


def topology_from_dict(values: dict[str, Any]) -> BeadTopology | AtomTopology:
    """Read what ``to_dict`` of either topology wrote."""
    if "atom_residues" in values:
        return AtomTopology.from_dict(values)
    return BeadTopology.from_dict(values)
