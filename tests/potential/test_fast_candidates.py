"""Pairs of large chains: neighbour lists against all pairs, and how they age."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from potential_molecules import TEMPERATURE_K
from scipy.spatial import cKDTree

from trajgen.data.topology import BeadTopology
from trajgen.potential.fast.candidates import DENSE_BEADS, SKIN_NM, NeighbourLists, neighbour_pairs
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.potential.priors import PriorSettings
from trajgen.potential.schnet import NetworkSettings
from trajgen.residues import THREE_LETTER


def walk(n_beads: int, seed: int) -> np.ndarray:
    """Return a compact chain on a lattice, shaken: neighbours at 0.38 nm, none on another."""
    side = round(n_beads ** (1 / 3)) + 1
    rows = np.array(
        [
            (x, y if x % 2 == 0 else side - 1 - y, z if (x * side + y) % 2 == 0 else side - 1 - z)
            for x in range(side)
            for y in range(side)
            for z in range(side)
        ]
    )[:n_beads]
    shake = np.random.default_rng(seed).uniform(-0.02, 0.02, (n_beads, 3))
    return (0.38 * rows + shake).astype(np.float32)


def bar(n_beads: int) -> np.ndarray:
    """Return a bar of 5 by 5 beads, at the density of proteins: only its length grows."""
    rows = np.stack(np.unravel_index(np.arange(n_beads), (n_beads // 25 + 1, 5, 5)), axis=1)
    return (0.5 * rows[None]).astype(np.float32)


def large_potential(n_beads: int, handed: bool = False) -> Potential:
    residues = list(THREE_LETTER.values())
    topology = BeadTopology.from_residues([residues[n % 20] for n in range(n_beads)])
    settings = PotentialSettings(
        temperature_K=TEMPERATURE_K,
        priors=PriorSettings(),
        network=NetworkSettings(blocks=2, features=8, radial_functions=8, handed=handed),
        topology=topology.to_dict(),
    )
    potential = Potential(settings, seed=5).double()
    potential.priors.repulsion.strength += 3.0
    potential.priors.repulsion.sigma_nm += 0.4
    return potential


@given(st.integers(1, 60), st.floats(0.05, 4.0), st.floats(0.2, 2.0), st.integers(0, 1000))
def test_lists_hold_exactly_the_pairs_within_reach(beads, spread, reach, seed):
    generator = np.random.default_rng(seed)
    x = (generator.normal(size=(beads, 3)) * spread * [1, 0.3, 3]).astype(np.float32)
    apart = np.linalg.norm(x[:, None].astype(float) - x[None], axis=-1)
    clear = np.abs(apart - reach) > 1e-5
    pairs = neighbour_pairs(x, reach)
    wanted = np.stack(np.nonzero(np.triu(apart < reach, 1)), axis=1)
    if clear.all():
        np.testing.assert_array_equal(pairs, wanted)  # the order is that of the beads
    tree = cKDTree(x.astype(float)).query_pairs(reach)
    assert not {pair for pair in tree ^ {tuple(p) for p in pairs.tolist()} if clear[pair]}


def test_coincident_beads_and_huge_extents_have_lists():
    x = np.zeros((5, 3), np.float32)
    assert len(neighbour_pairs(x, 1.0)) == 10
    x[3, 1] = 1e30
    assert len(neighbour_pairs(x, 1.0)) == 6
    x[2, 0] = np.nan
    assert len(neighbour_pairs(x, 1.0)) == 0


def test_a_list_is_kept_until_a_bead_has_moved_by_half_the_skin():
    lists = NeighbourLists(cutoff_nm=1.0, strengths=np.zeros((300, 300), np.float32))
    x = np.stack([walk(300, 1), walk(300, 2)])
    first = lists.find(x)
    near = x.copy()
    near[0, 7, 1] += 0.49 * SKIN_NM
    assert lists.find(near) is first
    far = x.copy()
    far[0, 7, 1] += 0.51 * SKIN_NM
    second = lists.find(far)
    assert second is not first
    begin, end = second.bounds[1]
    np.testing.assert_array_equal(second.pairs[begin:end], first.pairs[slice(*first.bounds[1])])


def test_each_pair_of_a_list_has_its_strength():
    strengths = np.triu(np.random.default_rng(1).random((300, 300)), 1).astype(np.float32)
    found = NeighbourLists(1.0, strengths).find(np.stack([walk(300, 1), walk(300, 2)]))
    np.testing.assert_array_equal(found.strengths, strengths[found.pairs[:, 0], found.pairs[:, 1]])
    assert len(found.strengths) == found.bounds[-1, 1]


def test_the_pairs_of_large_chains_grow_with_their_beads():
    def pairs(n_beads: int) -> int:
        fast = FastPotential.build(large_potential(n_beads))
        lists = fast._candidates
        assert isinstance(lists, NeighbourLists)
        return len(lists.find(bar(n_beads)).pairs)

    # All pairs would be four times as many.
    assert pairs(1000) / pairs(500) < 2.2


@pytest.mark.parametrize("handed", [False, True])
def test_large_chains_agree_with_the_plain_path(handed):
    n = DENSE_BEADS + 40
    potential = large_potential(n, handed)
    x = torch.from_numpy(np.stack([walk(n, 3), walk(n, 4)]))
    energy, forces = FastPotential.build(potential).energy_and_forces(x)
    wanted_energy, wanted = potential.energy_and_forces(x.double())
    error = (forces - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
    assert error.max() < 1e-4
    torch.testing.assert_close(energy.double(), wanted_energy, rtol=1e-4, atol=1e-2)


def test_what_comes_out_does_not_depend_on_the_age_of_the_lists():
    n = DENSE_BEADS + 40
    potential = large_potential(n)
    used, fresh = FastPotential.build(potential), FastPotential.build(potential)
    x = torch.from_numpy(walk(n, 3)[None])
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        used.energy_and_forces(x)
        x = x + 0.01 * torch.randn(x.shape, generator=generator)
    energy, forces = used.energy_and_forces(x)
    wanted_energy, wanted = fresh.energy_and_forces(x)
    aged, new = (len(fast._candidates.find(x.numpy()).pairs) for fast in (used, fresh))
    assert aged != new
    assert torch.equal(energy, wanted_energy)
    assert torch.equal(forces, wanted)


def test_a_broken_large_chain_does_not_touch_the_others():
    n = DENSE_BEADS + 4
    fast = FastPotential.build(large_potential(n))
    x = torch.from_numpy(np.stack([walk(n, 3), walk(n, 4)]))
    energy, forces = fast.energy_and_forces(x)
    broken = x.clone()
    broken[0, 5] = torch.nan
    for _ in range(2):
        energy_too, forces_too = fast.energy_and_forces(broken)
        assert energy_too[0].isnan()
        assert torch.equal(energy_too[1], energy[1])
        assert torch.equal(forces_too[1], forces[1])
