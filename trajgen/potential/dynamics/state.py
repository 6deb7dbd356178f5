"""All that a step of dynamics changes."""

from dataclasses import dataclass, fields

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Replicas between two steps: chains, and within a chain its temperatures.

    Attributes:
        positions_nm: coordinates; those before it broke of a replica that did.
        carried: what the integrator carries from step to step.
        forces: at the positions, kJ/mol/nm.
        energies: at the positions, kJ/mol.
        alive: whether a replica is whole.
        steps_alive: steps that it came through.
        longest_bond_nm: longest bond after the last step of a replica that is whole, and in the
            step that broke it of one that is not.
    """

    positions_nm: Float[Tensor, "replicas beads 3"]
    carried: Float[Tensor, "replicas beads 3"]
    forces: Float[Tensor, "replicas beads 3"]
    energies: Float[Tensor, " replicas"]
    alive: Bool[Tensor, " replicas"]
    steps_alive: Int[Tensor, " replicas"]
    longest_bond_nm: Float[Tensor, " replicas"]

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
