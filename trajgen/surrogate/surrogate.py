"""The trained surrogate: completes windows of a trajectory of which some cells are known."""

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.device import products_in, require_compiler
from trajgen.settings import Settings
from trajgen.surrogate.bead_chain import BeadChain
from trajgen.surrogate.conditioning import TASKS
from trajgen.surrogate.interpolant import PathName, TargetName, velocity_to
from trajgen.surrogate.resolutions import Resolution
from trajgen.surrogate.sampler import SamplerSettings, integrate, log_density
from trajgen.surrogate.tokens import (
    BOND_LENGTH,
    Reference,
    TokenScale,
    channel_count,
    channels_in_use,
    decode,
    encode,
    known_channels,
    reference_frames,
    superpose_on_reference,
    template_shown,
)
from trajgen.surrogate.transformer import (
    NetworkSettings,
    Prepared,
    TrajectoryTransformer,
    WindowInputs,
)
from trajgen.surrogate.whitening import Whitening, whitening


class SurrogateSettings(Settings):
    """What a surrogate is a model of.

    Attributes:
        resolution: ``ca`` for C-alpha beads; ``heavy`` for all atoms but hydrogens, of a dataset
            that holds atoms.
        shortest_lag_ps: shortest time between the frames of a window; None for that of the data.
        longest_lag_ps: longest one; None for the longest of which a trajectory holds two windows.
            Between them lags are drawn evenly in their logarithm.
        window_frames: frames of a window, the first one included.
        path: how noise turns into data.
        target: what the network says of a noisy window: its velocity, or the end point of its path.
        network: the size of the network.
    """

    resolution: Literal["ca", "heavy"] = "ca"
    shortest_lag_ps: float | None = Field(default=None, gt=0)
    longest_lag_ps: float | None = Field(default=None, gt=0)
    window_frames: int = Field(default=16, ge=3)
    path: PathName = "linear"
    target: TargetName = "velocity"
    network: NetworkSettings = NetworkSettings()

    @model_validator(mode="after")
    def _rising(self) -> "SurrogateSettings":
        shortest, longest = self.shortest_lag_ps, self.longest_lag_ps
        if shortest is not None and longest is not None and shortest > longest:
            raise ValueError(f"shortest_lag_ps {shortest:g} is above longest_lag_ps {longest:g}")
        return self


@dataclass(frozen=True)
class Molecule:
    """What a surrogate knows of its molecule besides the weights of the network.

    Attributes:
        resolution: the sites, and how they hang on residues.
        template_nm: a typical conformation, the last resort for token references.
        chain: how stiff a molecule of beads is; None for heavy atoms, whose geometry is fixed.
        lags_ps: shortest and longest lag of the training.
        temperatures_K: temperatures of the training data, rising.
        scale: mean and spread of each channel of tokens, over all molecules of the training.
        tasks: what the training asked for.
        alone: whether it is the only molecule of the training.
    """

    resolution: Resolution
    template_nm: Float[Tensor, "sites 3"]
    chain: BeadChain | None
    lags_ps: tuple[float, float]
    temperatures_K: tuple[float, ...]
    scale: TokenScale
    tasks: tuple[str, ...] = TASKS
    alone: bool = True

    def to(self, device: torch.device) -> "Molecule":
        """Return it on a device."""
        return replace(
            self,
            resolution=self.resolution.to(device),
            template_nm=self.template_nm.to(device),
            scale=TokenScale(*(getattr(self.scale, f.name).to(device) for f in fields(TokenScale))),
            chain=None if self.chain is None else self.chain.to(device),
        )


@dataclass(frozen=True)
class WindowTimes:
    """When the frames of windows are, and at which temperature.

    Attributes:
        times_ps: time of each frame since the first.
        lag_ps: the time between neighbours that most of them have.
        temperature_K: temperature.
    """

    times_ps: Float[Tensor, "batch frames"]
    lag_ps: Float[Tensor, " batch"]
    temperature_K: Float[Tensor, " batch"]

    @classmethod
    def even(
        cls, windows: int, frames: int, lag_ps: float, temperature_K: float, device: torch.device
    ) -> "WindowTimes":
        """Return those of frames one lag apart."""
        times = lag_ps * torch.arange(frames, device=device, dtype=torch.float32)
        ones = torch.ones(windows, device=device)
        return cls(times.expand(windows, -1), lag_ps * ones, temperature_K * ones)

    def to(self, device: torch.device) -> "WindowTimes":
        """Return them on a device."""
        return WindowTimes(
            self.times_ps.to(device), self.lag_ps.to(device), self.temperature_K.to(device)
        )


@dataclass(frozen=True)
class EncodedWindows:
    """Windows as the network takes them.

    Attributes:
        tokens: whitened, normalised tokens, zero where a channel of a known cell depends on an
            unknown one, and in channels that a residue does not use; those of unknown cells mean
            something in training only.
        used: channels that each residue uses; all of them where its type is hidden.
        inputs: what the network is told besides noisy tokens.
        elapsed_ps: time of each cell since the key frame; infinite where its residue is not in it.
        reference: what tokens are relative to.
        whitening: the change of variables from tokens in nm, for a molecule of beads.
        aligned_nm: the frames, superposed on the reference conformation.
    """

    tokens: Float[Tensor, "batch frames beads channels"]
    used: Bool[Tensor, "batch beads channels"]
    inputs: WindowInputs
    elapsed_ps: Float[Tensor, "batch frames residues"]
    reference: Reference
    whitening: Whitening | None
    aligned_nm: Float[Tensor, "batch frames sites 3"]


class Surrogate:
    """A trained network with a molecule that it completes windows of."""

    def __init__(
        self, network: TrajectoryTransformer, settings: SurrogateSettings, molecule: Molecule
    ) -> None:
        self.network = network.eval()
        self.settings = settings
        self.molecule = molecule
        self._compiled = torch.compile(network.velocity)  # at its first call, if ever

    @property
    def beads(self) -> BeadTopology:
        """The residues, as C-alpha beads."""
        return self.molecule.resolution.beads

    @property
    def topology(self) -> BeadTopology | AtomTopology:
        """What a frame holds: beads, or heavy atoms."""
        return self.molecule.resolution.topology

    @property
    def channels(self) -> int:
        """The channels of a token."""
        return channel_count(self.molecule.resolution.has_torsion.shape[1])

    @property
    def lags_ps(self) -> tuple[float, float]:
        """Shortest and longest time between frames, ps."""
        return self.molecule.lags_ps

    @property
    def temperatures_K(self) -> tuple[float, ...]:
        """Temperatures of the training data, K."""
        return self.molecule.temperatures_K

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.molecule.template_nm.device

    @torch.no_grad()
    def complete(
        self,
        positions_nm: Float[Tensor, "batch frames sites 3"],
        known: Bool[Tensor, "batch frames residues"],
        times: WindowTimes,
        noise: Float[Tensor, "batch frames residues channels"],
        settings: SamplerSettings,
    ) -> Float[Tensor, "batch frames sites 3"]:
        """Generate the unknown cells of windows.

        The result lies in the pose of the key frame, the first frame with a known cell: the key
        frame's known cells come back bit for bit, and those of a later frame as given, up to the
        superposition of that frame on the reference conformation.

        Args:
            positions_nm: the known cells; what stands in the others is not looked at, but must
                be finite.
            known: cells that are given.
            times: when the frames are.
            noise: standard normal numbers, on which alone the outcome depends besides.
            settings: how the ODE is solved.
        """
        molecule = self.molecule
        windows = encode_windows(positions_nm, known, None, times, molecule)
        tokens, _ = self._generate(windows, known, noise, settings)
        tokens = molecule.scale.restore(tokens, windows.elapsed_ps, windows.reference.borrowed)
        if windows.whitening is not None:
            tokens = windows.whitening.colour(tokens)
        decoded = decode(tokens, windows.reference, molecule.resolution, known)
        decoded = molecule.resolution.untangled(decoded, known)
        given = known[..., molecule.resolution.site_residues]
        decoded = torch.where(given[..., None], windows.aligned_nm, decoded)
        if molecule.chain is not None:
            decoded = molecule.chain.mended(decoded, tokens[..., BOND_LENGTH], ~given)
        key = known.any(dim=2).int().argmax(dim=1)
        is_key = torch.arange(known.shape[1], device=known.device) == key[:, None]
        return torch.where((given & is_key[:, :, None])[..., None], positions_nm, decoded)

    @torch.no_grad()
    def residue_types(
        self,
        positions_nm: Float[Tensor, "batch frames sites 3"],
        known: Bool[Tensor, "batch frames residues"],
        times: WindowTimes,
        hidden: Bool[Tensor, "batch residues"],
        noise: Float[Tensor, "batch frames residues channels"],
        settings: SamplerSettings,
    ) -> Float[Tensor, "batch residues types"]:
        """Generate the unknown cells of windows, and say what their residues look like.

        Args:
            positions_nm: the known cells; what stands in the others must be finite.
            known: cells that are given.
            times: when the frames are.
            hidden: residues of which the network is not told what they are.
            noise: standard normal numbers, on which alone the outcome depends besides.
            settings: how the ODE is solved.

        Returns:
            Logarithms of the chance of each residue type, up to a constant.
        """
        windows = encode_windows(positions_nm, known, None, times, self.molecule, hidden)
        tokens, prepared = self._generate(windows, known, noise, settings)
        return self.network.answer(tokens, tokens.new_ones(len(tokens)), prepared)[1]

    def _generate(
        self, windows: EncodedWindows, known: Tensor, noise: Tensor, settings: SamplerSettings
    ) -> tuple[Tensor, Prepared]:
        """Return the tokens of windows, and what the network made of the known ones."""
        prepared = self.network.prepare(windows.inputs)
        unknown = ~known[..., None] & windows.used[:, None]
        network = self.network.velocity
        if settings.compile:
            require_compiler(self.device)
            network = self._compiled

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            with products_in(settings.precision, self.device):
                found = network(x, t, prepared)
            # Known tokens stand still at their clean values, and what is not used at zero.
            return self._velocity(found.float(), x, t) * unknown

        start = torch.where(unknown, noise, windows.tokens)
        known_at_end = self.settings.target == "velocity"
        return integrate(velocity, start, settings, known_at_end), prepared

    def _velocity(self, answer: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at noisy tokens, of what the network says of them."""
        if self.settings.target == "velocity":
            return answer
        return velocity_to(answer, self.settings.path, x, t)

    @torch.no_grad()
    def log_likelihood(
        self,
        positions_nm: Float[Tensor, "batch frames sites 3"],
        known: Bool[Tensor, "batch frames residues"],
        times: WindowTimes,
        probe: Float[Tensor, "batch frames residues channels"],
        settings: SamplerSettings,
    ) -> Float[Tensor, " batch"]:
        """Return ln p of the unknown cells of windows, given the known ones, in normalised tokens.

        Numbers of windows with the same mask, times and known cells can be compared.

        Args:
            positions_nm: whole windows.
            known: cells that are given.
            times: when the frames are.
            probe: random signs, which the estimate of the density depends on.
            settings: how the ODE is solved.
        """
        windows = encode_windows(positions_nm, known, None, times, self.molecule)
        counted = ~known[..., None] & windows.used[:, None]
        prepared = self.network.prepare(windows.inputs)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self._velocity(self.network.velocity(x, t, prepared), x, t) * counted

        known_at_end = self.settings.target == "velocity"
        return log_density(velocity, windows.tokens, counted, probe, settings, known_at_end)


def encode_windows(
    positions_nm: Float[Tensor, "batch frames sites 3"],
    known: Bool[Tensor, "batch frames residues"],
    present: Bool[Tensor, "batch frames"] | None,
    times: WindowTimes,
    molecule: Molecule,
    hidden: Bool[Tensor, "batch residues"] | None = None,
) -> EncodedWindows:
    """Turn windows and their known cells into what the network takes, tokens normalised.

    Args:
        positions_nm: windows.
        known: cells that are given.
        present: frames that exist; None for all.
        times: when the frames are.
        molecule: what is known of the molecule.
        hidden: residues of which the network is not told what they are; None for none.
    """
    resolution = molecule.resolution
    reference = reference_frames(positions_nm, known, molecule.template_nm, resolution, hidden)
    aligned = superpose_on_reference(positions_nm, known, reference, resolution)
    given = known if present is None else known | ~present[:, :, None]
    change = None
    if molecule.chain is not None:
        change = whitening(reference, molecule.chain.springs, mobile=~given.all(dim=1))

    in_use = channels_in_use(resolution)

    def normalised(sites_nm: Tensor, elapsed_ps: Tensor) -> Tensor:
        tokens = encode(sites_nm, reference, resolution)
        if change is not None:
            tokens = change.whiten(tokens)
        # A torsion that no residue of the training has is constant: in units of its spread it
        # would be a thousand.
        return molecule.scale.normalise(tokens, elapsed_ps, reference.borrowed) * in_use

    elapsed_ps = time_since_key_frame(known, times.times_ps)[..., None]
    elapsed_ps = torch.where(reference.own[:, None], elapsed_ps, torch.inf)
    tokens = normalised(aligned, elapsed_ps)
    tokens = torch.where(known[..., None] & ~known_channels(known, resolution), 0.0, tokens)
    template = molecule.template_nm.expand(len(tokens), 1, -1, -1)
    nothing = torch.zeros_like(known[:, :1])
    template = superpose_on_reference(template, nothing, reference, resolution)
    hidden = torch.zeros_like(reference.own) if hidden is None else hidden
    shown = template_shown(reference.own, hidden, molecule.alone)
    at_any_time = torch.full_like(elapsed_ps[:, :1], torch.inf)
    inputs = WindowInputs(
        known_tokens=torch.where(known[..., None], tokens, 0.0),
        known=known,
        present=present,
        places=times.times_ps / times.lag_ps[:, None],
        template_tokens=normalised(template, at_any_time)[:, 0] * shown[..., None],
        reference=reference.frames,
        torsions=reference.torsions,
        own=reference.own,
        residue_types=torch.tensor(resolution.beads.types, device=tokens.device).expand(
            len(tokens), -1
        ),
        hidden=hidden,
        lag_ps=times.lag_ps,
        temperature_K=times.temperature_K,
    )
    used = in_use | inputs.hidden[..., None]
    return EncodedWindows(tokens, used, inputs, elapsed_ps, reference, change, aligned)


def time_since_key_frame(
    known: Bool[Tensor, "batch frames beads"], times_ps: Float[Tensor, "batch frames"]
) -> Float[Tensor, "batch frames"]:
    """Return the time between each frame and the first one of which something is known.

    It is infinite where nothing is.
    """
    some = known.any(dim=2)
    key = some.int().argmax(dim=1, keepdim=True)
    elapsed = (times_ps - times_ps.gather(1, key)).abs()
    return torch.where(some.any(dim=1, keepdim=True), elapsed, torch.inf)
