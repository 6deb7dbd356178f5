"""The residue alphabet: names, letters, bead types and the order that checkpoints rely on."""

from trajgen.errors import InputError

#: One-letter to three-letter names of the twenty amino acids, in the order of bead types.
THREE_LETTER = {
    "A": "ALA", "C": "CYS", "D": "ASP", "E": "GLU", "F": "PHE",
    "G": "GLY", "H": "HIS", "I": "ILE", "K": "LYS", "L": "LEU",
    "M": "MET", "N": "ASN", "P": "PRO", "Q": "GLN", "R": "ARG",
    "S": "SER", "T": "THR", "V": "VAL", "W": "TRP", "Y": "TYR",
}  # fmt: skip
ONE_LETTER = {three: one for one, three in THREE_LETTER.items()}

#: Names that force fields and databases give to protonation states and variants.
VARIANTS = {
    "ASH": "ASP", "GLH": "GLU", "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "HSD": "HIS",
    "HSE": "HIS", "HSP": "HIS", "LYN": "LYS", "CYX": "CYS", "CYM": "CYS", "MSE": "MET",
}  # fmt: skip

#: Capping groups: residues without a C-alpha atom, hence without a bead.
CAPS = ("ACE", "NME")

#: Bead type 0 is "unknown"; the twenty amino acids follow in alphabetical order of their letter.
UNKNOWN_TYPE = 0
BEAD_TYPES = {three: number for number, three in enumerate(THREE_LETTER.values(), start=1)}
N_BEAD_TYPES = len(BEAD_TYPES) + 1


def parse_sequence(sequence: str) -> tuple[str, ...]:
    """Turn one-letter codes into three-letter names.

    Raises:
        InputError: the sequence is empty or has a letter that is no amino acid.
    """
    if not sequence:
        raise InputError("sequence is empty; give one-letter codes such as GYDPETGTWG")
    if sequence.islower():
        raise InputError(
            f"sequence '{sequence}' is in small letters; write it as '{sequence.upper()}'"
        )
    for position, letter in enumerate(sequence, start=1):
        if letter not in THREE_LETTER:
            known = "".join(THREE_LETTER)
            raise InputError(
                f"sequence '{sequence}' has '{letter}' at position {position}, "
                f"which is no amino acid; known letters: {known}"
            )
    return tuple(THREE_LETTER[letter] for letter in sequence)


def standard_name(name: str) -> str:
    """Return the standard three-letter name of a residue (variants folded, others unchanged)."""
    return VARIANTS.get(name, name)


def bead_type(name: str) -> int:
    """Return the bead type of a residue name; 0 where it is not one of the twenty."""
    return BEAD_TYPES.get(standard_name(name), UNKNOWN_TYPE)
