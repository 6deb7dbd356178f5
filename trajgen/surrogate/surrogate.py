"""The trained surrogate: completes windows of a trajectory of which some cells are known."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.device import products_in, require_compiler
from trajgen.settings import Settings
from trajgen.surrogate.base_noise import BaseName
from trajgen.surrogate.encoded_windows import (
    EncodedWindows,
    Molecule,
    WindowTimes,
    encode_windows,
)
from trajgen.surrogate.interpolant import PathName, TargetName, renewed_point, velocity_to
from trajgen.surrogate.sampler import SamplerSettings, integrate, log_density
from trajgen.surrogate.tokens import (
    BOND_LENGTH,
    channel_count,
    decode,
)
from trajgen.surrogate.transformer import (
    NetworkSettings,
    Prepared,
    TrajectoryTransformer,
)

#: Gives standard normal numbers for all cells of windows, other ones at every call.
Draw = Callable[[], Float[Tensor, "batch frames residues channels"]]


class SurrogateSettings(Settings):
    """What a surrogate is a model of.

    Attributes:
        resolution: ``ca`` for C-alpha beads; ``heavy`` for all atoms but hydrogens, of a dataset
            that holds atoms.
        shortest_lag_ps: shortest time between the frames of a window; None for that of the data.
        longest_lag_ps: longest one; None for the longest of which a trajectory holds two windows.
            Between them lags are drawn evenly in their logarithm.
        window_frames: frames of a window, the first one included.
        base: the noise that data are made of: ``correlated``, a Gaussian process over the frames of
            a window that goes as far in a time as the molecule does, given the known frames; or
            ``white``, another in each frame.
        path: how noise turns into data.
        target: what the network says of a noisy window: its velocity, or the end point of its path.
        network: the size of the network.
    """

    resolution: Literal["ca", "heavy"] = "ca"
    shortest_lag_ps: float | None = Field(default=None, gt=0)
    longest_lag_ps: float | None = Field(default=None, gt=0)
    window_frames: int = Field(default=16, ge=3)
    base: BaseName = "correlated"
    path: PathName = "linear"
    target: TargetName = "velocity"
    network: NetworkSettings = NetworkSettings()

    @model_validator(mode="after")
    def _rising(self) -> "SurrogateSettings":
        shortest, longest = self.shortest_lag_ps, self.longest_lag_ps
        if shortest is not None and longest is not None and shortest > longest:
            raise ValueError(f"shortest_lag_ps {shortest:g} is above longest_lag_ps {longest:g}")
        return self


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
        draw: Draw,
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
            draw: gives standard normal numbers, on which alone the outcome depends besides; called
                once, and once for each restart.
            settings: how the ODE is solved.
        """
        molecule = self.molecule
        windows = encode_windows(positions_nm, known, None, times, molecule)
        tokens, _ = self._generate(windows, known, draw, settings)
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
        draw: Draw,
        settings: SamplerSettings,
    ) -> Float[Tensor, "batch residues types"]:
        """Generate the unknown cells of windows, and say what their residues look like.

        Args:
            positions_nm: the known cells; what stands in the others must be finite.
            known: cells that are given.
            times: when the frames are.
            hidden: residues of which the network is not told what they are.
            draw: gives standard normal numbers, on which alone the outcome depends besides; called
                once, and once for each restart.
            settings: how the ODE is solved.

        Returns:
            Logarithms of the chance of each residue type, up to a constant.
        """
        windows = encode_windows(positions_nm, known, None, times, self.molecule, hidden)
        tokens, prepared = self._generate(windows, known, draw, settings)
        return self.network.answer(tokens, tokens.new_ones(len(tokens)), prepared)[1]

    def _generate(
        self, windows: EncodedWindows, known: Tensor, draw: Draw, settings: SamplerSettings
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

        white = draw()
        noise = windows.noise(white)
        mean = noise - windows.noise_about_mean(white)

        def renew(x: Tensor, t: Tensor, earlier: Tensor) -> Tensor:
            fresh = windows.noise_about_mean(draw())
            renewed = renewed_point(self.settings.path, x, t, earlier, mean, fresh)
            return torch.where(unknown, renewed, x)

        start = torch.where(unknown, noise, windows.tokens)

        known_at_end = self.settings.target == "velocity"
        return integrate(velocity, start, settings, known_at_end, renew), prepared

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
        probes: int,
        generator: torch.Generator,
        settings: SamplerSettings,
    ) -> Float[Tensor, "probes batch"]:
        """Return ln p of the unknown cells of windows, given the known ones, in normalised tokens.

        Numbers of windows with the same mask, times and known cells can be compared.

        Args:
            positions_nm: whole windows.
            known: cells that are given.
            times: when the frames are.
            probes: estimates of each density, by random signs.
            generator: of the signs, on the CPU.
            settings: how the ODE is solved.
        """
        windows = encode_windows(positions_nm, known, None, times, self.molecule)
        counted = ~known[..., None] & windows.used[:, None]
        prepared = self.network.prepare(windows.inputs)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self._velocity(self.network.velocity(x, t, prepared), x, t) * counted

        known_at_end = self.settings.target == "velocity"
        return log_density(
            velocity,
            windows.tokens,
            counted,
            probes,
            generator,
            settings,
            known_at_end,
            windows.noise_log_density,
        )
