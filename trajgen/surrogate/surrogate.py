"""The trained surrogate: completes windows of a trajectory of which some cells are known."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor

from trajgen.checkpoint import load_checkpoint, save_checkpoint
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.settings import Settings, parse_settings
from trajgen.surrogate.bonds import project_bonds
from trajgen.surrogate.interpolant import PathName
from trajgen.surrogate.sampler import SamplerSettings, integrate
from trajgen.surrogate.tokens import (
    TokenScale,
    decode,
    encode,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.transformer import (
    DIMENSIONS,
    NetworkSettings,
    TrajectoryTransformer,
    WindowInputs,
)
from trajgen.surrogate.whitening import Springs, Whitening, whitening

KIND = "surrogate"


class SurrogateSettings(Settings):
    """What a surrogate is a model of.

    Attributes:
        lag_ps: time between the frames of a window.
        window_frames: frames of a window, the first one included.
        path: how noise turns into data.
        network: the size of the network.
    """

    lag_ps: float = Field(default=5.0, gt=0)
    window_frames: int = Field(default=16, ge=3)
    path: PathName = "linear"
    network: NetworkSettings = NetworkSettings()


@dataclass(frozen=True)
class Molecule:
    """What a surrogate knows of its molecule besides the weights of the network.

    Attributes:
        topology: the beads.
        temperature_K: temperature of the training data.
        template_nm: a typical conformation, the last resort for token references.
        springs: how stiff the molecule is.
        scale: mean and spread of each channel of whitened tokens.
        bond_range_nm: smallest and largest length of each bond in the training data.
    """

    topology: BeadTopology
    temperature_K: float
    template_nm: Float[Tensor, "beads 3"]
    springs: Springs
    scale: TokenScale
    bond_range_nm: Float[Tensor, "2 bonds"]

    @property
    def bonds(self) -> Int64[Tensor, "bonds 2"]:
        """Pairs of bonded beads, on the device of the template."""
        pairs = torch.tensor(self.topology.bonds, dtype=torch.int64).reshape(-1, 2)
        return pairs.to(self.template_nm.device)


@dataclass(frozen=True)
class EncodedWindows:
    """Windows as the network takes them.

    Attributes:
        tokens: whitened, normalised tokens; those of unknown cells mean something in training
            only.
        inputs: what the network is told besides noisy tokens.
        whitening: the change of variables from tokens in nm.
        aligned_nm: the frames, superposed on the reference conformation.
    """

    tokens: Float[Tensor, "batch frames beads channels"]
    inputs: WindowInputs
    whitening: Whitening
    aligned_nm: Float[Tensor, "batch frames beads 3"]


class Surrogate:
    """A trained network with the molecule that it is a model of."""

    def __init__(
        self, network: TrajectoryTransformer, settings: SurrogateSettings, molecule: Molecule
    ) -> None:
        self.network = network.eval()
        self.settings = settings
        self.molecule = molecule

    @property
    def topology(self) -> BeadTopology:
        """The beads."""
        return self.molecule.topology

    @property
    def lag_ps(self) -> float:
        """Time between frames, ps."""
        return self.settings.lag_ps

    @property
    def temperature_K(self) -> float:
        """Temperature of the training data, K."""
        return self.molecule.temperature_K

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.molecule.template_nm.device

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Surrogate":
        """Read a checkpoint that ``train_surrogate`` wrote.

        Raises:
            InputError: it is missing, damaged, or of another kind or layout.
        """
        checkpoint = load_checkpoint(path, KIND)
        values = dict(checkpoint.settings)
        try:
            topology = BeadTopology.from_dict(values.pop("topology"))
            temperature_K = values.pop("temperature_K")
            settings = parse_settings(SurrogateSettings, values, f"{path / 'settings.yaml'}")
            weights = {name: tensor.to(device) for name, tensor in checkpoint.weights.items()}
            springs = [weights.pop(f"springs.{field.name}") for field in fields(Springs)]
            molecule = Molecule(
                topology=topology,
                temperature_K=temperature_K,
                template_nm=weights.pop("molecule.template_nm"),
                springs=Springs(*springs),
                scale=TokenScale(weights.pop("molecule.mean"), weights.pop("molecule.std")),
                bond_range_nm=weights.pop("molecule.bond_range_nm"),
            )
            network = TrajectoryTransformer(DIMENSIONS[settings.network.size]).to(device)
            network.load_state_dict(
                {name.removeprefix("network."): tensor for name, tensor in weights.items()}
            )
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"checkpoint {path} is damaged: its weights do not fit its settings ({error}); "
                "train it again"
            ) from error
        return cls(network, settings, molecule)

    def save(self, path: Path, card: dict[str, Any]) -> None:
        """Write a checkpoint folder.

        Raises:
            InputError: ``path`` exists already.
        """
        weights = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        weights["molecule.template_nm"] = self.molecule.template_nm
        for field in fields(Springs):
            weights[f"springs.{field.name}"] = getattr(self.molecule.springs, field.name)
        weights["molecule.mean"] = self.molecule.scale.mean
        weights["molecule.std"] = self.molecule.scale.std
        weights["molecule.bond_range_nm"] = self.molecule.bond_range_nm
        settings = {
            **self.settings.model_dump(mode="json"),
            "temperature_K": self.temperature_K,
            "topology": self.topology.to_dict(),
        }
        save_checkpoint(path, KIND, weights, settings, card)

    @torch.no_grad()
    def complete(
        self,
        positions_nm: Float[Tensor, "batch frames beads 3"],
        known: Bool[Tensor, "batch frames beads"],
        noise: Float[Tensor, "batch frames beads channels"],
        settings: SamplerSettings,
    ) -> Float[Tensor, "batch frames beads 3"]:
        """Generate the unknown cells of windows.

        The result lies in the pose of the key frame, the first frame with a known cell: the key
        frame's known cells come back bit for bit, and those of a later frame as given, up to the
        superposition of that frame on the reference conformation.

        Args:
            positions_nm: the known cells; what stands in the others is not looked at, but must
                be finite.
            known: cells that are given.
            noise: standard normal numbers, on which alone the outcome depends besides.
            settings: how the ODE is solved.
        """
        windows = encode_windows(positions_nm, known, None, self.molecule, self.lag_ps)
        clean, unknown = windows.tokens, ~known[..., None]
        prepared = self.network.prepare(windows.inputs)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            # Known tokens stand still at their clean values.
            return self.network.velocity(x, t, prepared) * unknown

        tokens = integrate(velocity, torch.where(unknown, noise, clean), settings)
        coloured = windows.whitening.colour(self.molecule.scale.restore(tokens))
        decoded = decode(coloured, windows.whitening.reference)
        decoded = torch.where(unknown, decoded, windows.aligned_nm)
        molecule = self.molecule
        decoded = project_bonds(decoded, molecule.bonds, molecule.bond_range_nm, ~known)
        key = known.any(dim=2).int().argmax(dim=1)
        is_key = torch.arange(known.shape[1], device=known.device) == key[:, None]
        return torch.where(~unknown & is_key[:, :, None, None], positions_nm, decoded)


def encode_windows(
    positions_nm: Float[Tensor, "batch frames beads 3"],
    known: Bool[Tensor, "batch frames beads"],
    present: Bool[Tensor, "batch frames"] | None,
    molecule: Molecule,
    lag_ps: float,
) -> EncodedWindows:
    """Turn windows and their known cells into what the network takes, tokens normalised."""
    reference = reference_frames(positions_nm, known, molecule.template_nm)
    aligned = superpose_on_reference(positions_nm, known, reference)
    given = known if present is None else known | ~present[:, :, None]
    change = whitening(reference, molecule.springs, mobile=~given.all(dim=1))
    tokens = molecule.scale.normalise(change.whiten(encode(aligned, reference)))
    template = molecule.template_nm.expand(len(tokens), 1, -1, -1)
    template = superpose_on_reference(template, torch.zeros_like(known[:, :1]), reference)
    template_tokens = molecule.scale.normalise(change.whiten(encode(template, reference)))
    per_window = torch.ones(len(tokens), device=tokens.device)
    inputs = WindowInputs(
        known_tokens=torch.where(known[..., None], tokens, 0.0),
        known=known,
        present=present,
        template_tokens=template_tokens[:, 0],
        reference=reference.frames,
        own=reference.own,
        residue_types=torch.tensor(molecule.topology.types, device=tokens.device),
        lag_ps=lag_ps * per_window,
        temperature_K=molecule.temperature_K * per_window,
    )
    return EncodedWindows(tokens, inputs, change, aligned)
