"""The fast path against its twin, the plain path in float64."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from potential_molecules import TEMPERATURE_K, grow_chains, make_frames
from torch import Tensor

from trajgen.errors import InputError
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.potential.prior_fit import fit_priors
from trajgen.potential.priors import PriorSettings
from trajgen.potential.schnet import NetworkSettings

#: Wanted of every frame: the norm of the error of its forces over the norm of its forces.
TOLERANCE = 1e-4
#: Forces of a network on a frame below this norm would say little, kJ/mol/nm.
LOUD = 100.0


def _make(
    sequence: str = "GYDPET", committee: int = 1, loudness: float = 30.0, **network: float
) -> Potential:
    frames = make_frames(sequence, 200, seed=3)
    sizes = {"blocks": 2, "features": 24, "radial_functions": 12, **network}
    settings = PotentialSettings(
        temperature_K=TEMPERATURE_K,
        priors=PriorSettings(),
        network=NetworkSettings(**sizes),
        committee=committee,
        topology=frames.topology.to_dict(),
    )
    potential = Potential(settings, seed=7)
    potential.priors = fit_priors(frames, TEMPERATURE_K, settings.priors).priors
    potential.double()
    with torch.no_grad():
        for name, weight in potential.named_parameters():
            if name.endswith("head_out.weight"):
                weight *= loudness
            if name.endswith("bias"):  # fresh ones are zero
                weight += 0.1 * torch.linspace(-1, 1, len(weight), dtype=torch.float64)
    return potential


@pytest.fixture
def make() -> Callable[..., Potential]:
    """Return a maker of potentials in float64 whose networks pull as hard as the priors."""
    return _make


def network_alone(potential: Potential) -> Potential:
    """Return a copy of a potential whose priors have no force."""
    alone = copy.deepcopy(potential)
    for prior in (alone.priors.bond, alone.priors.angle):
        prior.stiffness.zero_()
    alone.priors.dihedral.amplitude.zero_()
    alone.priors.repulsion.strength.zero_()
    return alone


def compare(potential: Potential, positions_nm: Tensor) -> tuple[Tensor, Tensor]:
    """Check energies, and return the norms of the error of the forces and of the forces."""
    positions_nm = positions_nm.float()
    energy, forces = FastPotential.build(potential).energy_and_forces(positions_nm)
    wanted_energy, wanted = potential.energy_and_forces(positions_nm.double())
    assert energy.dtype == forces.dtype == torch.float32
    torch.testing.assert_close(energy.double(), wanted_energy, rtol=TOLERANCE, atol=1e-2)
    return (forces - wanted).norm(dim=(1, 2)), wanted.norm(dim=(1, 2))


def agree(potential: Potential, positions_nm: Tensor) -> None:
    """Check energies and forces of every frame, of the whole potential and of the network alone.

    The priors of stretched and of crowded chains pull so hard that no error of the network would be
    seen beside them.
    """
    error, norm = compare(potential, positions_nm)
    assert (error < TOLERANCE * norm).all()
    if potential.settings.committee:
        error, norm = compare(network_alone(potential), positions_nm)
        assert (norm > LOUD).all()
        assert (error < TOLERANCE * norm).all()


@pytest.mark.parametrize("handed", [False, True])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_forces_and_energies_agree_on_random_chains(make, handed, blocks):
    agree(make(blocks=blocks, handed=handed), torch.from_numpy(grow_chains(70, 6, seed=11)))


@pytest.mark.parametrize("lower", [0.0, 0.25])
@pytest.mark.parametrize("features", [2, 7, 24])
def test_any_width_and_any_lower_cutoff(make, lower, features):
    agree(
        make(features=features, cutoff_lower_nm=lower, handed=True),
        torch.from_numpy(grow_chains(9, 6, seed=12)),
    )


@pytest.mark.parametrize("committee", [0, 1, 3])
def test_the_mean_of_a_committee_counts(make, committee):
    agree(make(committee=committee, handed=True), torch.from_numpy(grow_chains(9, 6, seed=13)))


@pytest.mark.parametrize("sequence", ["G", "GY", "GYD", "GYDP"])
def test_molecules_too_small_for_a_term(make, sequence):
    potential = make(sequence, handed=True)
    x = torch.from_numpy(grow_chains(5, len(sequence), seed=5)).float()
    energy, forces = FastPotential.build(potential).energy_and_forces(x)
    wanted_energy, wanted = potential.energy_and_forces(x.double())
    torch.testing.assert_close(energy.double(), wanted_energy, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(forces.double(), wanted, rtol=1e-4, atol=2e-2)


@pytest.mark.parametrize("handed", [False, True])
@pytest.mark.parametrize(("lower_nm", "upper_nm"), [(0.3, 1.2), (0.0, 1.5)])
def test_contact_and_both_ends_of_the_cutoff(make, lower_nm, upper_nm, handed):
    potential = make(handed=handed, cutoff_lower_nm=lower_nm, cutoff_nm=upper_nm)
    for distance_nm in (
        0.01, 0.1, 0.2999, 0.3, 0.3001, upper_nm - 1e-4, upper_nm, upper_nm + 1e-4, 3.0,
    ):  # fmt: skip
        one, half = (torch.from_numpy(grow_chains(4, 6, seed=14)) for _ in range(2))
        along = one[:, 5] - one[:, 0]
        along *= distance_nm / along.norm(dim=-1, keepdim=True)
        one[:, 5] = one[:, 0] + along  # one bead torn from its neighbour
        agree(potential, one)
        # Half of the chain moved as a whole: each half sees itself as before.
        half[:, 3:] += (half[:, 2] + along - half[:, 3])[:, None]
        agree(potential, half)


def test_straight_chains_and_those_nearly_straight(make):
    straight = torch.zeros(4, 6, 3, dtype=torch.float64)
    straight[:, :, 0] = 0.38 * torch.arange(6)
    straight[1, 2, 1], straight[2, 2, 1], straight[3, 3, 2] = 1e-6, 1e-3, 0.05
    potential = make(handed=True)
    agree(potential, straight)
    for term in ("bond", "angle", "repulsion"):  # what is left is the dihedrals alone
        prior = getattr(potential.priors, term)
        getattr(prior, "strength" if term == "repulsion" else "stiffness").zero_()
    potential.priors.dihedral.amplitude *= 10
    agree(potential, straight[2:])


_loud = cache(_make)


@given(st.integers(0, 10_000), st.floats(0.3, 3.0))
def test_random_clouds_of_beads(seed, size_nm):
    x = np.random.default_rng(seed).normal(scale=size_nm, size=(3, 6, 3))
    error, norm = compare(_loud(handed=True), torch.from_numpy(x))
    assert (error < TOLERANCE * norm).all()


@pytest.mark.parametrize("handed", [False, True])
@pytest.mark.parametrize("size_nm", [0.1, 0.2, 0.3, 0.4])
def test_the_network_alone_in_random_clouds_of_beads(size_nm, handed):
    x = np.random.default_rng(5).normal(scale=size_nm, size=(200, 6, 3))
    error, norm = compare(network_alone(_loud(handed=handed)), torch.from_numpy(x))
    assert norm.mean() > LOUD
    # Forces that cancel leave an error behind: it is small beside those of the other clouds.
    assert (error < TOLERANCE * norm.clamp_min(norm.mean())).all()


@pytest.mark.parametrize("handed", [False, True])
def test_real_frames_of_chignolin(make, shared_data: Path, handed):
    frames = np.load(shared_data / "chignolin_ca_forces" / "chignolin_ca_coords_first13000.npy")
    some = torch.from_numpy(frames[::500] / 10)  # angstrom
    agree(make("YYDPETGTWY", blocks=3, features=64, radial_functions=18, handed=handed), some)


def test_filters_that_training_made_sharper(make):
    """The knots of the tables stay where they are."""
    potential = make("YYDPETGTWY", features=64, radial_functions=18, handed=True)
    x = torch.from_numpy(grow_chains(16, 10, seed=16))
    _, plain = potential.energy_and_forces(x)
    (network,) = potential.member_networks()
    with torch.no_grad():
        network.basis.sharpness *= 4
    _, sharper = potential.energy_and_forces(x)
    assert (sharper - plain).norm() > 0.05 * plain.norm()
    agree(potential, x)


def test_chains_do_not_touch_each_other_and_a_broken_one_is_nan(make):
    fast = FastPotential.build(make(handed=True))
    x = torch.from_numpy(grow_chains(40, 6, seed=15)).float()
    broken = x.clone()
    broken[3, 2, 1] = torch.nan
    broken[17, 0] = torch.inf
    broken[18] *= 1e30
    broken[19, 1] = broken[19, 2]
    whole, forces = fast.energy_and_forces(x)
    energy, with_broken = fast.energy_and_forces(broken)
    assert energy[[3, 17]].isnan().all()
    assert with_broken[[3, 17]].isnan().all()
    assert not energy[18].abs() < 1e30
    others = [frame for frame in range(40) if frame not in (3, 17, 18, 19)]
    assert torch.equal(energy[others], whole[others])
    assert torch.equal(with_broken[others], forces[others])


def test_a_chain_does_not_depend_on_its_batch_nor_on_threads(make):
    fast = FastPotential.build(make(handed=True, features=64))
    x = torch.from_numpy(grow_chains(50, 6, seed=16)).float()
    energy, forces = fast.energy_and_forces(x)
    alone = [fast.energy_and_forces(x[n : n + 1]) for n in range(50)]
    torch.testing.assert_close(torch.cat([e for e, _ in alone]), energy, rtol=1e-6, atol=1e-5)
    difference = (torch.cat([f for _, f in alone]) - forces).norm(dim=(1, 2))
    assert (difference < 1e-6 * forces.norm(dim=(1, 2))).all()
    torch.set_num_threads(2)
    again = fast.energy_and_forces(x)
    assert torch.equal(again[0], energy)
    assert torch.equal(again[1], forces)


def test_no_frames_give_no_forces(make):
    energy, forces = FastPotential.build(make()).energy_and_forces(torch.zeros(0, 6, 3))
    assert energy.shape == (0,)
    assert forces.shape == (0, 6, 3)


def test_update_takes_new_weights_and_priors(make):
    potential = make(handed=True)
    fast = FastPotential.build(potential)
    x = torch.from_numpy(grow_chains(5, 6, seed=17)).float()
    _, before = fast.energy_and_forces(x)
    with torch.no_grad():
        for weight in potential.parameters():
            weight *= 1.1
    potential.priors.bond.stiffness *= 1.1
    assert torch.equal(fast.energy_and_forces(x)[1], before)
    fast.update(potential)
    assert (fast.energy_and_forces(x)[1] - before).norm() > 0.05 * before.norm()
    _, wanted = potential.energy_and_forces(x.double())
    assert (fast.energy_and_forces(x)[1] - wanted).norm() < TOLERANCE * wanted.norm()


def test_what_it_cannot_take_is_refused(make, no_shape_checks):
    fast = FastPotential.build(make())
    with pytest.raises(InputError, match=r"shape \(2, 5, 3\); wanted is \(frames, 6, 3\)"):
        fast.energy_and_forces(torch.zeros(2, 5, 3))
    with pytest.raises(InputError, match=r"takes torch\.float32 on the CPU"):
        fast.energy_and_forces(torch.zeros(2, 6, 3, dtype=torch.float64))
    with pytest.raises(InputError, match="potential has 4 beads"):
        fast.update(make("GYDP"))
