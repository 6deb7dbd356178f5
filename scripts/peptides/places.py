"""Where residues stand in peptides: ends are charged, lack a torsion, and move in other ways."""

from collections.abc import Sequence


def place_of(residue: int, length: int) -> str:
    """Return the place of a residue, counted from 0: at an end of the peptide, or inside."""
    if residue == 0:
        return "first"
    return "last" if residue == length - 1 else "inner"


def residue_places(names: Sequence[str]) -> set[tuple[str, str]]:
    """Return each residue (one letter) of peptides with the place that it stands at."""
    return {
        (letter, place_of(residue, len(name)))
        for name in names
        for residue, letter in enumerate(name)
    }
