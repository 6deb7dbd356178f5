"""Laws of the energy: symmetries, forces as minus its gradient, locality."""

import numpy as np
import pytest
import torch
from potential_molecules import grow_chains
from scipy.spatial.transform import Rotation

from trajgen.data.topology import BeadTopology
from trajgen.geometry.internal import dihedrals
from trajgen.potential.committee import MemberPass
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.priors import (
    REPULSION_RANGE_NM,
    Priors,
    PriorSettings,
    find_terms,
    fourier_energy,
    repulsion_energy,
)
from trajgen.residues import parse_sequence


def test_energy_is_invariant_and_forces_turn_with_the_chain(make_potential, chains):
    potential = make_potential()
    rotation = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    moved = chains @ rotation.T + torch.tensor([1.0, -2.0, 0.5])
    energy, forces = potential.energy_and_forces(chains)
    moved_energy, moved_forces = potential.energy_and_forces(moved)
    torch.testing.assert_close(moved_energy, energy, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(moved_forces, forces @ rotation.T, rtol=1e-8, atol=1e-7)


def test_forces_and_torques_add_up_to_nothing(make_potential, chains):
    _, forces = make_potential().energy_and_forces(chains)
    torques = torch.linalg.cross(chains, forces).sum(dim=1)
    assert forces.abs().max() > 1
    torch.testing.assert_close(forces.sum(dim=1), torch.zeros(5, 3).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(torques, torch.zeros(5, 3).double(), rtol=0, atol=1e-8)


def test_mirror_image_differs_by_the_dihedral_prior_and_the_twist(make_potential, chains):
    potential = make_potential(handed=False)
    mirrored = chains * torch.tensor([1.0, 1.0, -1.0])
    priors = potential.priors
    handed = make_potential().network
    assert (handed(mirrored) - handed(chains)).abs().min() > 1e-3
    for term in (priors.bond, priors.angle, priors.repulsion, potential.network):
        torch.testing.assert_close(term(mirrored), term(chains), rtol=1e-10, atol=1e-10)
    difference = potential(mirrored) - potential(chains)
    torch.testing.assert_close(difference, priors.dihedral(mirrored) - priors.dihedral(chains))
    assert difference.abs().min() > 0.1  # a thousandth of kT is what no chirality would give


@pytest.mark.parametrize("part", ["bond", "angle", "dihedral", "repulsion", "network"])
def test_forces_are_minus_the_gradient(make_potential, chains, part):
    potential = make_potential()
    term = potential.network if part == "network" else getattr(potential.priors, part)
    x = chains[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(term, (x,), eps=1e-6, atol=1e-4, rtol=1e-5)


def test_energy_and_forces_agree_with_finite_differences(make_potential, chains):
    potential = make_potential()
    _, forces = potential.energy_and_forces(chains[:1])
    step = 1e-5
    for bead, axis in np.ndindex(6, 3):
        shift = torch.zeros_like(chains[:1])
        shift[0, bead, axis] = step
        slope = (potential.energy(chains[:1] + shift) - potential.energy(chains[:1] - shift)).item()
        expected = -slope / (2 * step)
        assert forces[0, bead, axis].item() == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_training_forces_can_be_differentiated_for_every_weight(make_potential, chains):
    potential = make_potential()
    loss = MemberPass(potential.network).train()(chains[None])[0].square().mean()
    loss.backward()
    for name, weight in potential.network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_forces_outside_training_hold_no_graph(make_potential, chains):
    energy, forces = energy_and_forces(make_potential(), chains)
    assert not energy.requires_grad
    assert not forces.requires_grad


def test_frames_of_a_batch_do_not_touch_each_other(make_potential, chains):
    potential = make_potential()
    broken = chains.clone()
    broken[1] = torch.nan
    whole, forces = potential.energy_and_forces(chains)
    with_nan, forces_with_nan = potential.energy_and_forces(broken)
    others = [0, 2, 3, 4]
    assert torch.equal(with_nan[others], whole[others])
    assert torch.equal(forces_with_nan[others], forces[others])


def test_terms_of_a_chain_are_its_consecutive_beads():
    topology = BeadTopology.from_residues(parse_sequence("GYDPE"))
    terms = find_terms(topology, excluded_neighbours=2)
    assert terms.pairs.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert terms.triples.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert terms.quadruples.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert terms.repelling.tolist() == [[0, 3], [0, 4], [1, 4]]


def test_no_bonded_term_joins_two_chains_but_they_repel():
    topology = BeadTopology(
        names=("CA",) * 4,
        residues=("GLY",) * 4,
        residue_numbers=(1, 2, 1, 2),
        chains=(0, 0, 1, 1),
        bonds=((0, 1), (2, 3)),
    )
    terms = find_terms(topology, excluded_neighbours=2)
    assert terms.triples.shape == (0, 3)
    assert terms.quadruples.shape == (0, 4)
    assert terms.repelling.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


@pytest.mark.parametrize("sequence", ["G", "GY", "GYD", "GYDP"])
def test_molecules_too_small_for_a_term_have_an_energy(make_potential, sequence):
    potential = make_potential(sequence)
    x = torch.from_numpy(grow_chains(3, len(sequence), seed=5))
    energy, forces = potential.energy_and_forces(x)
    assert energy.shape == (3,)
    assert forces.isfinite().all()


def test_chain_is_held_and_beads_do_not_overlap(make_potential, chains):
    priors = make_potential().priors
    stretched = chains.clone()
    stretched[:, -1] += 2 * (
        stretched[:, -1] - stretched[:, -2]
    )  # the last bond three times as long
    assert (priors(stretched) - priors(chains)).min() > 1_000
    pairs = priors.repulsion.pairs
    at_contact = priors.repulsion.sigma_nm[0]
    line = torch.zeros(1, 6, 3).double()
    line[0, :, 0] = torch.arange(6) * 10.0
    near, touching = line.clone(), line.clone()
    near[0, pairs[0, 1]] = near[0, pairs[0, 0]] + torch.tensor([0.0, 0.5, 0.0]) * at_contact
    touching[0, pairs[0, 1]] = touching[0, pairs[0, 0]] + torch.tensor([0.0, 1.0, 0.0]) * at_contact
    ratio = priors.repulsion(near) / priors.repulsion(touching)
    assert ratio.item() == pytest.approx(64, rel=5e-3)
    kT = 8.31446261815324e-3 * 350
    assert priors.repulsion(touching).item() == pytest.approx(kT, rel=5e-3)


def test_the_repulsion_is_a_sixth_power_that_ends_with_its_force():
    sigma_nm = torch.tensor([0.5]).double()

    def energy(r_nm: float) -> tuple[float, float]:
        r = torch.tensor([[r_nm]], dtype=torch.float64, requires_grad=True)
        value = repulsion_energy(r, torch.ones(1).double(), sigma_nm)
        (slope,) = torch.autograd.grad(value.sum(), r)
        return value.item(), slope.item()

    for r_nm in (0.2, 0.35, 0.5, 0.8, 1.2):
        value, slope = energy(r_nm)
        assert value == pytest.approx((0.5 / r_nm) ** 6, abs=1e-3)
        assert slope == pytest.approx(-6 * (0.5 / r_nm) ** 6 / r_nm, abs=1e-3)
    # Both come to zero: the energy as the square of what is left, its slope in proportion to it.
    for left_nm in (1e-2, 1e-3, 1e-4):
        value, slope = energy(REPULSION_RANGE_NM - left_nm)
        assert 0 < value < 0.02 * left_nm**2
        assert 0 < -slope < 0.02 * left_nm
    for beyond_nm in (REPULSION_RANGE_NM, 3.0, 1e6):
        assert energy(beyond_nm) == (0.0, 0.0)


def test_fresh_priors_are_zero():
    topology = BeadTopology.from_residues(parse_sequence("GYDPET"))
    assert Priors(topology, PriorSettings())(torch.rand(2, 6, 3).double()).abs().max() == 0


def nearly_straight(off_line: float) -> torch.Tensor:
    """Return a chain of which three beads lie on a line but for an angle, radian."""
    bend = torch.tensor(off_line, dtype=torch.float64)
    steps = torch.tensor([[1.0, 0, 0], [0.3, 0.9, 0], [0.3, 0.9, 0], [0.2, 0.4, 0.9]]).double()
    steps[2] += bend * torch.tensor([0.9, -0.3, 0.4]).double()
    steps = 0.38 * steps / steps.norm(dim=1, keepdim=True)
    return torch.cat([torch.zeros(1, 3).double(), steps.cumsum(dim=0)])[None]


def test_no_dihedral_kicks_beads_on_a_line(make_potential):
    dihedral = make_potential("GYDPE").priors.dihedral
    dihedral.amplitude += 10.0
    forces = [
        energy_and_forces(dihedral, nearly_straight(off_line))[1].norm(dim=-1).max()
        for off_line in (0.3, 0.1, 1e-2, 1e-3, 1e-5, 0.0)
    ]
    assert max(forces) < 500  # kJ/mol/nm; without damping 10 kJ/mol / (0.38 nm 1e-5)
    assert forces[3] < 0.1 * forces[0]
    assert forces[-1] < 1e-20


def test_dihedrals_away_from_a_line_are_plain_fourier_series(make_potential):
    dihedral = make_potential("GYDPE").priors.dihedral
    chain = nearly_straight(1.2)
    angle = dihedrals(chain, dihedral.quadruples)
    plain = fourier_energy(angle, dihedral.amplitude, dihedral.phase_rad)
    torch.testing.assert_close(dihedral(chain), plain)
