"""Torsions drawn by residue and place: the right pools, and what their distances are of."""

import numpy as np
import pytest
from peptides.context_free import Term, context_free_scores, pool_for, shown_torsions
from peptides.forward import evaluation_settings
from toy_peptide import wobbling_peptide

from trajgen.analysis.evaluate import Reference, read_reference
from trajgen.data.records import AtomFrames
from trajgen.errors import InputError

FRAMES = 2000


def dynamics(name: str, seed: int) -> AtomFrames:
    topology, positions_nm = wobbling_peptide(FRAMES, seed, memory=0.1, sequence=name)
    return AtomFrames(topology, positions_nm, np.zeros(FRAMES, np.int64), 1.0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return read_reference(dynamics("GYDP", 0), evaluation_settings(1.0, 10.0), 0)


def test_pools_are_of_residue_and_place_where_training_shows_them() -> None:
    first, inner, last = (np.full(3, value) for value in (0.1, 0.2, 0.3))
    other = np.full(3, 0.4)
    shown = [
        (Term("psi", "Y", "first"), first),
        (Term("psi", "Y", "inner"), inner),
        (Term("phi", "Y", "last"), last),
        (Term("psi", "D", "inner"), other),
    ]
    pool, of_place = pool_for(Term("psi", "Y", "inner"), [*shown, shown[1]])
    assert (pool.tolist(), of_place) == ([0.2] * 6, True)
    pool, of_place = pool_for(Term("psi", "D", "first"), shown)
    assert (pool.tolist(), of_place) == ([0.4] * 3, False)  # of D, at another place
    pool, of_place = pool_for(Term("phi", "G", "last"), shown)
    assert (pool.tolist(), of_place) == ([0.3] * 3, False)  # of another residue, at the place
    with pytest.raises(InputError, match="no peptide of --train has chi1 of W"):
        pool_for(Term("chi1", "W", "inner"), shown)


def test_each_torsion_is_shown_with_its_residue_and_place() -> None:
    terms = [term for term, _ in shown_torsions("GYDP", dynamics("GYDP", 1))]
    assert Term("psi", "G", "first") in terms
    assert Term("phi", "P", "last") in terms
    assert {term.residue for term in terms if term.torsion == "chi2"} == set("YDP")
    assert not any(term.torsion == "phi" and term.place == "first" for term in terms)


def test_independent_torsions_of_the_same_residues_lie_at_the_floor(reference: Reference) -> None:
    """Here a torsion depends on nothing but itself, so that nothing is lost without context."""
    found = context_free_scores("GYDP", reference, shown_torsions("GYDP", dynamics("GYDP", 1)), 0)
    assert found["frames"] == FRAMES
    assert found["torsions_of_other_places"] == 0
    columns = {name for name in found if name.startswith("jensen_shannon")}
    numbers = {f"jensen_shannon_{kind}" for kind in ("torsions", "backbone", "side_chain")}
    assert columns == numbers | {f"{name}_interval" for name in numbers}
    for name in numbers:
        assert 0 < found[name] < 0.12  # as two independent sets of so many frames


def test_other_residues_are_farther_off(reference: Reference) -> None:
    shown = shown_torsions("GYDP", dynamics("GYDP", 1))
    turned = [(term, np.angle(np.exp(1j * (angles + 1.0)))) for term, angles in shown]
    found = context_free_scores("GYDP", reference, turned, 0)
    assert found["jensen_shannon_torsions"] > 0.5
