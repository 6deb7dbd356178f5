"""Chains that the fast path moves have the ensemble of the plain path, network included."""

import copy

import numpy as np
import pytest
import torch
from dynamics_fields import K_B
from potential_molecules import TEMPERATURE_K, make_frames, without_network

from trajgen.geometry.internal import dihedrals
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.dynamics.temperature import stretching
from trajgen.potential.potential import Potential

KT = K_B * TEMPERATURE_K


def loud(potential: Potential) -> Potential:
    """Return a potential whose network pulls about as hard as the priors."""
    with torch.no_grad():
        for name, weight in potential.named_parameters():
            if name.endswith("head_out.weight"):
                weight *= 60
    return potential


def sampled(potential: Potential, chains: int, steps: int, friction_per_ps: float) -> np.ndarray:
    """Return the frames of the second half of a run at the usual step, by the fast path."""
    settings = SimulationSettings(steps=steps, save_every=25, friction_per_ps=friction_per_ps)
    starts = make_frames(potential.topology.sequence, chains, seed=3).positions_nm
    rollouts = simulate(copy.deepcopy(potential).float(), starts, settings, seed=4)
    assert rollouts.alive.all()
    return rollouts.positions_nm[:, settings.n_frames // 2 :]


def test_a_bond_has_the_boltzmann_density_of_priors_and_network(make_potential):
    potential = loud(make_potential("GY"))
    r0 = potential.priors.bond.length_nm.item()
    r = np.linspace(r0 - 0.06, r0 + 0.06, 2_001)
    grid = torch.zeros(len(r), 2, 3, dtype=torch.float64)
    grid[:, 1, 0] = torch.from_numpy(r)
    means = []
    for energy in (potential.energy, without_network(potential).energy):
        u = energy(grid).numpy()
        density = r**2 * np.exp(-(u - u.min()) / KT)
        mean = np.average(r, weights=density)
        means.append((mean, np.average((r - mean) ** 2, weights=density)))
    (mean, variance), (without, _) = means
    bonds = np.linalg.norm(np.diff(sampled(potential, 1_000, 600, 20.0), axis=2), axis=-1)
    error = (variance / bonds.size) ** 0.5
    assert abs(without - mean) > 20 * error  # the network is heard
    assert bonds.mean() == pytest.approx(mean, abs=4 * error)
    assert bonds.var() == pytest.approx(variance, rel=0.05)


def mean_and_error(samples: torch.Tensor, chains: int) -> tuple[float, float]:
    """Return a mean and its error; chains are independent of each other."""
    means = samples.reshape(chains, -1).mean(dim=1)
    return means.mean().item(), means.std().item() / chains**0.5


def test_bonds_and_torsions_have_the_temperature_by_the_forces_of_priors_and_network(
    make_potential,
):
    """For any coordinate q and function g, ⟨g ∂U/∂q⟩ = kT ⟨∂g/∂q⟩, here of torsions and g = sin q.

    A torsion turns all beads beyond its middle bond, so that of the priors dihedrals and repulsion
    alone are beside the network.
    """
    potential = loud(make_potential())
    frames_nm = sampled(potential, 256, 1_500, 4.0)
    chains, beads = len(frames_nm), potential.topology.n_beads
    x = torch.from_numpy(frames_nm.reshape(-1, beads, 3)).double()
    _, forces = potential.energy_and_forces(x)  # in float64, by the plain path
    _, of_priors = without_network(potential).energy_and_forces(x)

    bond = potential.priors.bond
    energies, degrees = stretching(x, forces, bond.pairs, bond.length_nm)
    off, error = mean_and_error(energies - KT * degrees, chains)
    assert abs(off) < 4 * error < 0.1 * KT * degrees.mean().item()

    loudest = 0.0
    torsions = dihedrals(x, potential.priors.dihedral.quadruples)
    for place, (_, j, k, m) in enumerate(potential.priors.dihedral.quadruples.tolist()):
        axis = (x[:, k] - x[:, j]) / (x[:, k] - x[:, j]).norm(dim=-1, keepdim=True)
        turned = torch.linalg.cross(
            axis[:, None].expand(-1, beads - m, -1), x[:, m:] - x[:, k : k + 1]
        )
        found = []
        for by in (forces, of_priors):
            slope = -(by[:, m:] * turned).sum(dim=(1, 2))
            q = torsions[:, place]
            found.append(mean_and_error(slope * q.sin() - KT * q.cos(), chains))
        (off, error), (without, _) = found
        assert abs(off) < 4 * error < 0.3 * KT
        loudest = max(loudest, abs(without) / error)
    assert loudest > 12  # the network is heard
