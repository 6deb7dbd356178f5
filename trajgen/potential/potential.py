"""A fitted potential: priors plus the mean of its networks, of one molecule at one temperature."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trajgen.checkpoint import load_checkpoint, save_checkpoint
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.potential.committee import Committee, Disagreement, disagreement_of
from trajgen.potential.energy import energy_and_forces, evaluation_batch
from trajgen.potential.priors import Priors, PriorSettings
from trajgen.potential.schnet import CGSchNet, NetworkSettings
from trajgen.settings import Settings, parse_settings
from trajgen.units import thermal_energy

KIND = "potential"


class PotentialSettings(Settings):
    """What defines a potential beside its weights, as stored in ``settings.yaml``.

    Attributes:
        temperature_K: temperature of the data.
        priors: choices of the prior.
        network: sizes of each network.
        committee: networks whose mean is the energy; 0 is the priors alone.
        topology: the beads, as ``BeadTopology.to_dict`` writes them.
    """

    temperature_K: float
    priors: PriorSettings
    network: NetworkSettings
    committee: int = Field(default=1, ge=0)
    topology: dict[str, Any]


class Potential(nn.Module):
    """Energy and forces of coarse-grained frames.

    Attributes:
        topology: the beads.
        temperature_K: temperature of the data; the potential is a free energy and holds there.
        settings: what defines the potential beside its weights.
    """

    def __init__(self, settings: PotentialSettings, seed: int = 0) -> None:
        """Build a potential with zero priors and fresh weights drawn from ``seed``."""
        super().__init__()
        self.settings = settings
        self.topology = BeadTopology.from_dict(settings.topology)
        self.temperature_K = settings.temperature_K
        self.priors = Priors(self.topology, settings.priors)
        kT = thermal_energy(settings.temperature_K)
        self.network = Committee(self.topology, settings.network, kT, settings.committee, seed)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Potential":
        """Read a potential for evaluation, in float32.

        Raises:
            InputError: it is missing, of another kind or layout, or damaged.
        """
        return cls.read(path).to(device, torch.float32).requires_grad_(False).eval()

    @classmethod
    def read(cls, path: Path) -> "Potential":
        """Read a potential as it was fitted, to go on from: priors in float64, on the CPU.

        Raises:
            InputError: as for ``load``.
        """
        checkpoint = load_checkpoint(path, KIND)
        if not any(".twist." in name for name in checkpoint.weights):
            # Checkpoints older than the twist do not name it in their settings.
            checkpoint.settings.get("network", {}).setdefault("handed", False)
        settings = parse_settings(
            PotentialSettings, checkpoint.settings, str(path / "settings.yaml")
        )
        potential = cls(settings)
        try:
            potential.load_state_dict(_named_by_member(checkpoint.weights))
        except RuntimeError as error:
            raise InputError(
                f"checkpoint {path} is damaged: its weights do not fit its settings ({error})"
            ) from error
        return potential

    def save(self, path: Path, card: dict[str, Any]) -> None:
        """Write the potential as a checkpoint folder.

        Raises:
            InputError: ``path`` exists already.
        """
        settings = self.settings.model_dump(mode="json")
        save_checkpoint(path, KIND, self.state_dict(), settings, card)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.priors.bond.stiffness.device

    def forward(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the energy, kJ/mol; its offset means nothing."""
        return self.priors(positions_nm) + self.network(positions_nm)

    def energy(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
        """Return the energy without a graph, kJ/mol; its offset means nothing."""
        with torch.no_grad():
            return self(positions_nm)

    def energy_and_forces(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> tuple[Float[Tensor, " frames"], Float[Tensor, "frames beads 3"]]:
        """Return the energy, kJ/mol, and the forces, kJ/mol/nm."""
        return energy_and_forces(self, positions_nm)

    def member_networks(self) -> list[CGSchNet]:
        """Return the networks of the committee, with the weights of this potential, not copies."""
        return self.network.networks()

    def member_energies(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> Float[Tensor, "members frames"]:
        """Return the energy that each member gives with the priors, without a graph, kJ/mol."""
        parts = []
        with torch.no_grad():
            for part in self._parts(positions_nm):
                parts.append(self.priors(part) + self.network.member_energies(self._own(part)))
        return torch.cat(parts, dim=1)

    def member_forces(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> Float[Tensor, "members frames beads 3"]:
        """Return the forces that each member gives with the priors, kJ/mol/nm."""
        parts = []
        for part in self._parts(positions_nm):
            _, prior = energy_and_forces(self.priors, part)
            _, networks = energy_and_forces(self.network.member_energies, self._own(part))
            parts.append(prior + networks)
        return torch.cat(parts, dim=1)

    def disagreement(self, positions_nm: Float[Tensor, "frames beads 3"]) -> Disagreement:
        """Return how far the members' forces are apart in each frame, kJ/mol/nm."""
        return disagreement_of(self.member_forces(positions_nm))

    def _parts(self, positions_nm: Tensor) -> tuple[Tensor, ...]:
        """Return frames in parts, so that the memory that they take has a bound."""
        return positions_nm.split(
            evaluation_batch(positions_nm.shape[1], max(1, self.settings.committee))
        )

    def _own(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> Float[Tensor, "members frames beads 3"]:
        return positions_nm.expand(self.settings.committee, *positions_nm.shape)


def _named_by_member(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under today's names; checkpoints older than committees hold one member."""
    if "network.embedding" not in weights:
        return weights
    old, new = "network.", "network.members.0."
    return {
        new + name.removeprefix(old) if name.startswith(old) else name: value
        for name, value in weights.items()
    }
