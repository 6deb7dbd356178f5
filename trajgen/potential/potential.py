"""A fitted potential: priors plus network, of one molecule at one temperature."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trajgen.checkpoint import load_checkpoint, save_checkpoint
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.potential.energy import energy_and_forces
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
        network: sizes of the network.
        topology: the beads, as ``BeadTopology.to_dict`` writes them.
    """

    temperature_K: float
    priors: PriorSettings
    network: NetworkSettings
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
        self.network = CGSchNet(self.topology, settings.network, kT, seed)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Potential":
        """Read a potential for evaluation, in float32.

        Raises:
            InputError: it is missing, of another kind or layout, or damaged.
        """
        checkpoint = load_checkpoint(path, KIND)
        settings = parse_settings(
            PotentialSettings, checkpoint.settings, str(path / "settings.yaml")
        )
        potential = cls(settings)
        try:
            potential.load_state_dict(checkpoint.weights)
        except RuntimeError as error:
            raise InputError(
                f"checkpoint {path} is damaged: its weights do not fit its settings ({error})"
            ) from error
        return potential.to(device, torch.float32).requires_grad_(False).eval()

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
        return self.network.embedding.device

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
