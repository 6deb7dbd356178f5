"""What is measured of a chain of beads: its springs, and the range of its bonds."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.surrogate.bonds import project_bonds
from trajgen.surrogate.whitening import Springs


@dataclass(frozen=True)
class BeadChain:
    """How stiff a molecule of beads is.

    Attributes:
        springs: between neighbours, and between second neighbours.
        bonds: pairs of bonded beads.
        bond_range_nm: smallest and largest length of each bond in the training data.
    """

    springs: Springs
    bonds: Int64[Tensor, "bonds 2"]
    bond_range_nm: Float[Tensor, "2 bonds"]

    def mended(
        self,
        positions_nm: Float[Tensor, "*frames beads 3"],
        lengths_nm: Float[Tensor, "*frames beads"],
        mobile: Bool[Tensor, "*frames beads"],
    ) -> Float[Tensor, "*frames beads 3"]:
        """Return chains with bonds of given lengths, brought into the range of the data, nm.

        Args:
            positions_nm: chains.
            lengths_nm: length of the bond of each bead to the one before.
            mobile: beads that may move.
        """
        shortest, longest = self.bond_range_nm
        wanted = lengths_nm[..., self.bonds.amax(dim=1)].clamp(shortest, longest)
        return project_bonds(positions_nm, self.bonds, wanted, mobile)

    def to(self, device: torch.device) -> "BeadChain":
        """Return it on a device."""
        return BeadChain.restore({name: t.to(device) for name, t in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it."""
        springs = {f"springs.{f.name}": getattr(self.springs, f.name) for f in fields(Springs)}
        return {**springs, "bonds": self.bonds, "bond_range_nm": self.bond_range_nm}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> "BeadChain":
        """Read back what ``tensors`` gave.

        Raises:
            KeyError: something is missing.
        """
        springs = Springs(*(tensors[f"springs.{field.name}"] for field in fields(Springs)))
        return cls(springs, tensors["bonds"], tensors["bond_range_nm"])
