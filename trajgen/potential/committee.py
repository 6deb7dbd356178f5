"""A committee of networks: their mean is the energy, and their spread says where it is a guess.

The members are of one shape and differ by their first weights and by the order in which they see
the frames. Where they were taught they agree; where they were not, each continues in its own way
(query by committee: Seung, Opper and Sompolinsky, COLT 1992; for forces Zhang et al., Phys. Rev.
Materials 3, 023804 (2019)).
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from trajgen.data.topology import BeadTopology
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.schnet import CGSchNet, NetworkSettings
from trajgen.seeding import derive_seed

#: On a CPU members take turns beyond this many frames: one of them keeps it busy then, and products
#: batched over members are slower than plain ones. Below, and on a GPU, calls cost more than sums.
CPU_BATCHED_FRAMES = 4
#: Numbers in the largest tensor of a CPU pass without tables; much larger ones leave the cache, and
#: their memory is asked of the system anew each time. Frames beyond are worked on in turn.
CPU_TENSOR_SIZE = 2_000_000


class Committee(nn.Module):
    """Networks of one molecule whose mean is the energy; without any it is zero everywhere.

    The weights of each member are those of a plain network, so one member costs what a network
    costs. The pass of several is one call, batched over members where that is faster.
    """

    def __init__(
        self,
        topology: BeadTopology,
        settings: NetworkSettings,
        energy_scale: float,
        members: int,
        seed: int,
    ) -> None:
        """Build networks with fresh weights.

        Args:
            topology: the beads.
            settings: sizes of each network.
            energy_scale: what an output of one means, kJ/mol.
            members: networks.
            seed: base of the weights; member m draws from ``(seed, "member-weights", 0, m)``.
        """
        super().__init__()
        self.members = nn.ModuleList(
            CGSchNet(topology, settings, energy_scale, derive_seed(seed, "member-weights", 0, m))
            for m in range(members)
        )
        self._pair_numbers = topology.n_beads**2 * settings.features

    def forward(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the mean energy over members, kJ/mol."""
        if not self.members:
            return positions_nm.new_zeros(len(positions_nm))
        if len(self.members) == 1:
            return self._alone(self.members[0], positions_nm)
        everyone = positions_nm.expand(len(self.members), *positions_nm.shape)
        return self.member_energies(everyone).mean(dim=0)

    def member_energies(
        self, positions_nm: Float[Tensor, "members frames beads 3"], tabulated: bool = False
    ) -> Float[Tensor, "members frames"]:
        """Return the energy of each member at frames of its own, kJ/mol.

        Args:
            positions_nm: coordinates.
            tabulated: on a CPU, where members take turns, filters of many pairs come from tables,
                as in ``CGSchNet``.
        """
        members, frames = positions_nm.shape[:2]
        if not members:
            return positions_nm.new_zeros(members, frames)
        if members == 1 or (positions_nm.device.type == "cpu" and frames > CPU_BATCHED_FRAMES):
            return self.in_turn(positions_nm, tabulated)
        return self.batched(positions_nm)

    def in_turn(
        self, positions_nm: Float[Tensor, "members frames beads 3"], tabulated: bool
    ) -> Float[Tensor, "members frames"]:
        """Return what ``member_energies`` does, one member after another."""
        pairs = zip(self.members, positions_nm, strict=True)
        return torch.stack([self._alone(*each, tabulated) for each in pairs])

    def batched(
        self, positions_nm: Float[Tensor, "members frames beads 3"]
    ) -> Float[Tensor, "members frames"]:
        """Return what ``member_energies`` does, as one computation batched over members.

        Filters are computed for each pair, never taken from tables.
        """
        each = [dict(network.named_parameters()) for network in self.members]
        stacked = {name: torch.stack([own[name] for own in each]) for name in each[0]}
        shape = self.members[0]  # all but the weights is the same for every member

        def energy(weights: dict[str, Tensor], own_nm: Tensor) -> Tensor:
            return functional_call(shape, weights, (own_nm,))

        return vmap(energy)(stacked, positions_nm)

    def readout(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> Float[Tensor, "frames numbers"]:
        """Return what the mean energy is linear in, in units of its scale; members in a row."""
        each = [member.readout(positions_nm) for member in self.networks()]
        return torch.cat(each, dim=1) / len(each)

    def shift_readout(self, change: Float[Tensor, " numbers"]) -> None:
        """Add ``change · readout`` to the mean energy, in units of its scale."""
        members = self.networks()
        with torch.no_grad():
            for member, own in zip(members, change.chunk(len(members)), strict=True):
                member.head_out.weight += own.to(member.head_out.weight)

    def networks(self) -> list[CGSchNet]:
        """Return the members, with the weights of this committee, not copies."""
        return [member for member in self.members if isinstance(member, CGSchNet)]

    def _alone(
        self,
        network: nn.Module,
        positions_nm: Float[Tensor, "frames beads 3"],
        tabulated: bool = False,
    ) -> Float[Tensor, " frames"]:
        """Return the energy of one member.

        On a CPU without tables as many frames are worked on at once as suit its cache.
        """
        at_once = max(CPU_TENSOR_SIZE // self._pair_numbers, 1)
        if tabulated or positions_nm.device.type != "cpu" or len(positions_nm) <= at_once:
            return network(positions_nm, tabulated)
        return torch.cat([network(part_nm) for part_nm in positions_nm.split(at_once)])


class MemberPass(nn.Module):
    """What a step of training asks of the members, as a module, for what wraps such modules."""

    def __init__(self, committee: Committee) -> None:
        super().__init__()
        self.committee = committee

    def forward(
        self,
        positions_nm: Float[Tensor, "members frames beads 3"],
        compared_nm: Float[Tensor, "compared beads 3"] | None = None,
    ) -> tuple[Float[Tensor, "members frames beads 3"], Float[Tensor, "members compared"] | None]:
        """Return forces at frames of each member's own, and energies at frames common to all.

        Forces are in kJ/mol/nm, in training with a graph; energies in kJ/mol, None for no frames.
        """
        energy = partial(self.committee.member_energies, tabulated=True)
        _, forces = energy_and_forces(energy, positions_nm, create_graph=self.training)
        if compared_nm is None:
            return forces, None
        return forces, energy(compared_nm.expand(len(positions_nm), *compared_nm.shape))


@dataclass(frozen=True)
class Disagreement:
    """How far the members of a committee are apart in each frame.

    The spread of bead i is σᵢ = (⟨|Fᵢ - ⟨Fᵢ⟩|²⟩)^½, with the mean ⟨⟩ over members (Zhang et al.,
    Phys. Rev. Materials 3, 023804 (2019)). It is no error bar: members share data and shape, and
    may be wrong together.

    Attributes:
        rms: root mean square of σᵢ over beads, kJ/mol/nm; None where there is no committee.
        largest: largest σᵢ, the model deviation of DP-GEN, kJ/mol/nm; None like ``rms``.
        reason: why there is none, None where there is one.
    """

    rms: Float[Tensor, " frames"] | None
    largest: Float[Tensor, " frames"] | None
    reason: str | None = None


def disagreement_of(forces: Float[Tensor, "members frames beads 3"]) -> Disagreement:
    """Return the spread of the members' forces, kJ/mol/nm."""
    if len(forces) < 2:
        return Disagreement(
            None,
            None,
            f"the potential has {len(forces)} network, and a disagreement takes two or more; fit "
            "it with --set committee=4",
        )
    spread = (forces - forces.mean(dim=0)).square().sum(dim=-1).mean(dim=0)
    return Disagreement(spread.mean(dim=-1).sqrt(), spread.amax(dim=-1).sqrt())
