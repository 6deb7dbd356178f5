"""One step of all replicas, in which nothing waits for the device."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajgen.potential.dynamics.containment import LONGEST_BOND_NM, longest_bonds
from trajgen.potential.dynamics.force_field import EnergiesAndForces
from trajgen.potential.dynamics.integrators import Integrator
from trajgen.potential.dynamics.state import State


class Step:
    """What moves the replicas on by one step: forces, an integrator, and what stops broken ones.

    All of it are operations on tensors whose shapes never change, and none asks what a tensor
    holds. So the device is never waited for, and a step can be recorded (``recorded_step.py``).
    """

    def __init__(
        self,
        force_field: EnergiesAndForces,
        bonds: Int[Tensor, "bonds 2"],
        integrator: Integrator,
    ) -> None:
        self.force_field, self.bonds, self.integrator = force_field, bonds, integrator

    def begin(
        self,
        positions_nm: Float[Tensor, "replicas beads 3"],
        noise: Float[Tensor, "replicas beads 3"],
    ) -> State:
        """Return replicas before the first step, standard normal noise for what they carry."""
        energies, forces = self.force_field(positions_nm)
        alive = torch.ones(len(positions_nm), dtype=torch.bool, device=positions_nm.device)
        return State(
            positions_nm=positions_nm,
            carried=self.integrator.begin(noise),
            forces=forces,
            energies=energies,
            alive=alive,
            steps_alive=torch.zeros_like(alive, dtype=torch.int64),
            longest_bond_nm=longest_bonds(positions_nm, self.bonds),
        )

    @torch.no_grad()
    def __call__(self, state: State, noise: Float[Tensor, "replicas beads 3"]) -> State:
        """Return the replicas one step later."""
        positions_nm, carried = self.integrator.move(
            state.positions_nm, state.carried, state.forces, noise
        )
        longest_nm = longest_bonds(positions_nm, self.bonds)
        alive = state.alive & (longest_nm <= LONGEST_BOND_NM)  # false where it is NaN
        positions_nm = torch.where(alive[:, None, None], positions_nm, state.positions_nm)
        energies, forces = self.force_field(positions_nm)
        return State(
            positions_nm=positions_nm,
            carried=self.integrator.kick(carried, forces),
            forces=forces,
            energies=energies,
            alive=alive,
            steps_alive=state.steps_alive + alive,
            longest_bond_nm=torch.where(state.alive, longest_nm, state.longest_bond_nm),
        )
