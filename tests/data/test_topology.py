"""Topologies survive YAML and JSON, and say what differs."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError
from trajgen.residues import THREE_LETTER, parse_sequence


@given(st.text(alphabet=sorted(THREE_LETTER), min_size=1, max_size=30))
def test_a_sequence_comes_back(sequence: str) -> None:
    beads = BeadTopology.from_residues(parse_sequence(sequence))
    assert beads.sequence == sequence
    assert BeadTopology.from_dict(json.loads(json.dumps(beads.to_dict()))) == beads
    assert len(beads.bonds) == len(sequence) - 1


@pytest.mark.parametrize(
    ("sequence", "said"),
    [("GYB", "'B' at position 3"), ("", "empty"), ("gy", "in small letters; write it as 'GY'")],
)
def test_an_unknown_letter_is_named_with_its_place(sequence: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_sequence(sequence)


def test_protonation_states_are_the_same_molecule_and_others_are_not() -> None:
    mine = BeadTopology.from_residues(("HIE", "GLY"))
    mine.require_same(BeadTopology.from_residues(("HIS", "GLY")), "the model", "x.pdb")
    with pytest.raises(InputError, match=r"the model is of HG .* x\.pdb is of HA"):
        mine.require_same(BeadTopology.from_residues(("HIS", "ALA")), "the model", "x.pdb")
    with pytest.raises(InputError, match="other chains"):
        mine.require_same(replace(mine, chains=(0, 1), bonds=()), "the model", "x.pdb")


def test_atom_topology_comes_back_and_finds_its_atoms() -> None:
    atoms = AtomTopology(
        names=("N", "CA", "CA"),
        elements=("N", "C", "C"),
        atom_residues=(0, 0, 1),
        residues=("GLY", "ALA"),
        residue_numbers=(3, 4),
        chains=(0, 0),
        bonds=((0, 1), (1, 2)),
    )
    assert AtomTopology.from_dict(json.loads(json.dumps(atoms.to_dict()))) == atoms
    assert atoms.index(1, "CA") == 2
    assert atoms.index(1, "CB") is None


def test_fields_that_do_not_fit_are_refused() -> None:
    beads = BeadTopology.from_residues(("GLY", "ALA"))
    with pytest.raises(InputError, match="different lengths"):
        replace(beads, chains=(0,))
    with pytest.raises(InputError, match=r"bond \(0, 2\)"):
        replace(beads, bonds=((0, 2),))
