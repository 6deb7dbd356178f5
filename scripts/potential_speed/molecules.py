"""Molecules that are timed: chains that are made up, and weights that are random."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trajgen.data.topology import BeadTopology
from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.potential.priors import PriorSettings
from trajgen.potential.schnet import NetworkSettings
from trajgen.residues import parse_sequence
from trajgen.units import thermal_energy

TEMPERATURE_K = 350.0
CHIGNOLIN = parse_sequence("YYDPETGTWY")


def make_potential(residues: tuple[str, ...], **sizes: Any) -> Potential:
    """Return a potential with plausible priors and random weights, in float32.

    It sees distances alone where nothing else is said, as the rivals do.
    """
    settings = PotentialSettings(
        temperature_K=TEMPERATURE_K,
        priors=PriorSettings(),
        network=NetworkSettings(**{"blocks": 3, "features": 128, "handed": False, **sizes}),
        topology=BeadTopology.from_residues(residues).to_dict(),
    )
    potential = Potential(settings, seed=1)
    priors, kT = potential.priors, thermal_energy(TEMPERATURE_K)
    priors.bond.stiffness += 2e4
    priors.bond.length_nm += 0.38
    priors.angle.stiffness += 10 * kT
    priors.dihedral.amplitude += kT
    priors.repulsion.strength += kT
    priors.repulsion.sigma_nm += 0.4
    return potential.float().requires_grad_(False)


def make_chains(chains: int, beads: int, seed: int) -> Tensor:
    """Return helices up to 10 beads, else compact rows of beads as dense as a protein, nm."""
    number = np.arange(beads)
    if beads <= 10:
        turn = 1.75 * number
        chain = np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * number], axis=1)
    else:
        side = round((beads * 0.38 / 0.6) ** (1 / 3) * 0.6 / 0.38)
        row, along = np.divmod(number, side)
        layer, across = np.divmod(row, max(round(side * 0.38 / 0.6), 1))
        back = row % 2 == 1
        chain = np.stack(
            [0.6 * layer, 0.6 * across, 0.38 * np.where(back, side - 1 - along, along)]
        )
        chain = chain.T
    shake = np.random.default_rng(seed).normal(scale=0.01, size=(chains, beads, 3))
    return torch.from_numpy((chain + shake).astype(np.float32))
