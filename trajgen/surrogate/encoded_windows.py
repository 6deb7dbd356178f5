"""Windows of a molecule as the network takes them."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.surrogate.base_noise import BaseNoise, Relaxations
from trajgen.surrogate.bead_chain import BeadChain
from trajgen.surrogate.conditioning import TASKS
from trajgen.surrogate.resolutions import Resolution
from trajgen.surrogate.sampler import normal_log_density
from trajgen.surrogate.tokens import (
    Reference,
    TokenScale,
    channels_in_use,
    encode,
    known_channels,
    reference_frames,
    superpose_on_reference,
    template_shown,
)
from trajgen.surrogate.transformer import WindowInputs
from trajgen.surrogate.whitening import Whitening, whitening

Moved = TypeVar("Moved", TokenScale, Relaxations)


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
        relaxations: how noise goes on from frame to frame, likewise; None for white noise.
        tasks: what the training asked for.
        alone: whether it is the only molecule of the training.
    """

    resolution: Resolution
    template_nm: Float[Tensor, "sites 3"]
    chain: BeadChain | None
    lags_ps: tuple[float, float]
    temperatures_K: tuple[float, ...]
    scale: TokenScale
    relaxations: Relaxations | None = None
    tasks: tuple[str, ...] = TASKS
    alone: bool = True

    def to(self, device: torch.device) -> "Molecule":
        """Return it on a device."""
        return replace(
            self,
            resolution=self.resolution.to(device),
            template_nm=self.template_nm.to(device),
            scale=_moved(self.scale, device),
            relaxations=None if self.relaxations is None else _moved(self.relaxations, device),
            chain=None if self.chain is None else self.chain.to(device),
        )


def _moved(tensors: Moved, device: torch.device) -> Moved:
    """Return a record of tensors on a device."""
    return type(tensors)(*(getattr(tensors, field.name).to(device) for field in fields(tensors)))


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
        base: how noise goes on from frame to frame; None for white noise.
    """

    tokens: Float[Tensor, "batch frames beads channels"]
    used: Bool[Tensor, "batch beads channels"]
    inputs: WindowInputs
    elapsed_ps: Float[Tensor, "batch frames residues"]
    reference: Reference
    whitening: Whitening | None
    aligned_nm: Float[Tensor, "batch frames sites 3"]
    base: BaseNoise | None

    def noise(
        self, white: Float[Tensor, "batch frames beads channels"]
    ) -> Float[Tensor, "batch frames beads channels"]:
        """Return what the windows begin as at flow time zero, of standard normal numbers."""
        if self.base is None:
            return white
        return self.base.point(white, self.inputs.known, self.tokens)

    def noise_about_mean(
        self, white: Float[Tensor, "batch frames beads channels"]
    ) -> Float[Tensor, "batch frames beads channels"]:
        """Return such noise less its mean."""
        return white if self.base is None else self.base.about_mean(white, self.inputs.known)

    def noise_log_density(
        self, noise: Float[Tensor, "batch frames beads channels"]
    ) -> Float[Tensor, "batch frames beads channels"]:
        """Return what each number of such noise adds to the logarithm of its density."""
        if self.base is None:
            return normal_log_density(noise)
        return normal_log_density(self.base.whitened(noise)) - self.base.log_spread()


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

    elapsed_ps = time_since_key_frame(known, times.times_ps)[..., None]
    elapsed_ps = torch.where(reference.own[:, None], elapsed_ps, torch.inf)
    tokens = _normalised(aligned, elapsed_ps, reference, change, molecule)
    tokens = torch.where(known[..., None] & ~known_channels(known, resolution), 0.0, tokens)
    template = molecule.template_nm.expand(len(tokens), 1, -1, -1)
    nothing = torch.zeros_like(known[:, :1])
    template = superpose_on_reference(template, nothing, reference, resolution)
    hidden = torch.zeros_like(reference.own) if hidden is None else hidden
    shown = template_shown(reference.own, hidden, molecule.alone)
    at_any_time = torch.full_like(elapsed_ps[:, :1], torch.inf)
    typical = _normalised(template, at_any_time, reference, change, molecule)[:, 0]
    inputs = WindowInputs(
        known_tokens=torch.where(known[..., None], tokens, 0.0),
        known=known,
        present=present,
        places=times.times_ps / times.lag_ps[:, None],
        template_tokens=typical * shown[..., None],
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
    used = channels_in_use(resolution) | inputs.hidden[..., None]
    base = None
    if molecule.relaxations is not None:
        since_ps = times.times_ps - times.times_ps.gather(1, key_frames(known)[:, None])
        base = BaseNoise.of(molecule.relaxations, since_ps, known, present, reference.own)
    return EncodedWindows(tokens, used, inputs, elapsed_ps, reference, change, aligned, base)


def _normalised(
    sites_nm: Float[Tensor, "batch frames sites 3"],
    elapsed_ps: Float[Tensor, "batch frames residues"],
    reference: Reference,
    change: Whitening | None,
    molecule: Molecule,
) -> Float[Tensor, "batch frames residues channels"]:
    """Return the tokens of frames, whitened and in units of their spread."""
    tokens = encode(sites_nm, reference, molecule.resolution)
    if change is not None:
        tokens = change.whiten(tokens)
    # A torsion that no residue of the training has is constant: in units of its spread it would
    # be a thousand.
    used = channels_in_use(molecule.resolution)
    return molecule.scale.normalise(tokens, elapsed_ps, reference.borrowed) * used


def key_frames(known: Bool[Tensor, "batch frames beads"]) -> Int64[Tensor, " batch"]:
    """Return the first frame of each window of which something is known, or the first of all."""
    return known.any(dim=2).int().argmax(dim=1)


def time_since_key_frame(
    known: Bool[Tensor, "batch frames beads"], times_ps: Float[Tensor, "batch frames"]
) -> Float[Tensor, "batch frames"]:
    """Return the time between each frame and the first one of which something is known.

    It is infinite where nothing is.
    """
    elapsed = (times_ps - times_ps.gather(1, key_frames(known)[:, None])).abs()
    return torch.where(known.any(dim=2).any(dim=1, keepdim=True), elapsed, torch.inf)
