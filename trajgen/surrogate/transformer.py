"""The network: the velocity of every token of a window, given the known cells.

With the target ``end_point`` what is called velocity here is the end point of each token's path.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from trajgen.geometry.frames import RigidFrames
from trajgen.residues import N_BEAD_TYPES, UNKNOWN_TYPE
from trajgen.settings import Settings
from trajgen.surrogate.key_frame import KeyFrameEncoder
from trajgen.surrogate.layers import Block, modulate, sinusoids, turns, zero_linear
from trajgen.surrogate.tokens import channel_count


@dataclass(frozen=True)
class Dimensions:
    """Width of the features, number of blocks, of heads and of key-frame encoder rounds."""

    width: int
    blocks: int
    heads: int
    encoder_rounds: int


DIMENSIONS = {
    "tiny": Dimensions(width=64, blocks=3, heads=4, encoder_rounds=2),
    "small": Dimensions(width=192, blocks=6, heads=6, encoder_rounds=3),
    "base": Dimensions(width=384, blocks=9, heads=6, encoder_rounds=4),
}
SizeName = Literal["tiny", "small", "base"]


class NetworkSettings(Settings):
    """The size of the network.

    Attributes:
        size: ``tiny`` (0.3 million parameters, for minutes on a laptop), ``small`` (6 million) or
            ``base`` (35 million, for a GPU).
    """

    size: SizeName = "small"


@dataclass(frozen=True)
class WindowInputs:
    """All that the network knows of a batch of windows besides the noisy tokens.

    Attributes:
        known_tokens: normalised tokens of the known cells, zero elsewhere.
        known: cells that are given.
        present: frames that exist; None where all do.
        places: time of each frame in lags.
        template_tokens: normalised tokens of the molecule's template, superposed on the
            reference: where a residue is when the molecule looks as it mostly does. Zero where
            that is not shown.
        reference: reference rigid frame of each residue.
        torsions: reference torsions of each residue, radian.
        own: whether that frame is the residue's own, and not borrowed.
        residue_types: bead type of each residue.
        hidden: residues of which the network is not told what they are.
        lag_ps: time between frames.
        temperature_K: temperature.
    """

    known_tokens: Float[Tensor, "batch frames beads channels"]
    known: Bool[Tensor, "batch frames beads"]
    present: Bool[Tensor, "batch frames"] | None
    places: Float[Tensor, "batch frames"]
    template_tokens: Float[Tensor, "batch beads channels"]
    reference: RigidFrames
    torsions: Float[Tensor, "batch beads torsions"]
    own: Bool[Tensor, "batch beads"]
    residue_types: Int[Tensor, "batch beads"]
    hidden: Bool[Tensor, "batch beads"]
    lag_ps: Float[Tensor, " batch"]
    temperature_K: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Prepared:
    """The parts of the network's answer that do not depend on flow time, computed once."""

    cells: Float[Tensor, "batch frames beads width"]
    condition: Float[Tensor, "batch width"]
    present: Bool[Tensor, "batch frames"] | None
    places: Float[Tensor, "batch frames"]


class TrajectoryTransformer(nn.Module):
    """Transformer over residues and frames, conditioned on flow time, lag and temperature."""

    def __init__(self, dimensions: Dimensions, torsions: int) -> None:
        """Build a network for residues with so many torsions."""
        super().__init__()
        width, channels = dimensions.width, channel_count(torsions)
        self.dimensions = dimensions
        self.width = width
        self.residue_type = nn.Embedding(N_BEAD_TYPES, width)
        self.encoder = KeyFrameEncoder(width, dimensions.encoder_rounds)
        self.noisy_in = nn.Linear(channels, width)
        self.known_in = nn.Linear(channels, width)
        self.template_in = nn.Linear(channels, width)
        self.torsions_in = nn.Linear(2 * torsions, width, bias=False) if torsions else None
        self.known_mask = nn.Embedding(2, width)
        self.surroundings = _two_layers(2 * width, width)
        self.flow_time = _two_layers(width, width)
        self.blocks = nn.ModuleList(
            Block(width, dimensions.heads) for _ in range(dimensions.blocks)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adapt_out = nn.Sequential(nn.SiLU(), zero_linear(width, 2 * width))
        self.project_out = zero_linear(width, channels)
        self.types_out = zero_linear(width, N_BEAD_TYPES)

    def forward(
        self,
        x: Float[Tensor, "batch frames beads channels"],
        t: Float[Tensor, " batch"],
        window: WindowInputs,
    ) -> tuple[Float[Tensor, "batch frames beads channels"], Float[Tensor, "batch beads types"]]:
        """Return the velocity at the noisy tokens ``x`` and flow times ``t``, and residue types.

        The latter are logarithms of how likely each type is, up to a constant; see ``answer``.
        """
        return self.answer(x, t, self.prepare(window))

    def prepare(self, window: WindowInputs) -> Prepared:
        """Compute what does not depend on flow time: once a window, not once an evaluation."""
        beads = window.residue_types.shape[1]
        place = sinusoids(
            torch.arange(beads, device=window.known.device).float(), self.width, longest=1000.0
        )
        told = ~window.hidden[..., None]
        types = torch.where(window.hidden, UNKNOWN_TYPE, window.residue_types)
        residues = self.residue_type(types) + place
        residues = residues + self.template_in(window.template_tokens)
        if self.torsions_in is not None:
            angles = torch.cat([window.torsions.sin(), window.torsions.cos()], dim=-1)
            residues = residues + self.torsions_in(angles * told)
        key_frame = self.encoder(residues, window.reference, window.own)
        known = self.known_in(window.known_tokens) + self.known_mask(window.known.long())
        # A factor of 10 in lag moves the phase by 23; 10 K move it by 1.
        lag = sinusoids(10 * torch.log(window.lag_ps), self.width, longest=1000.0)
        temperature = sinusoids(0.1 * window.temperature_K, self.width, longest=1000.0)
        condition = self.surroundings(torch.cat([lag, temperature], dim=-1))
        return Prepared(known + key_frame[:, None], condition, window.present, window.places)

    def velocity(
        self,
        x: Float[Tensor, "batch frames beads channels"],
        t: Float[Tensor, " batch"],
        prepared: Prepared,
    ) -> Float[Tensor, "batch frames beads channels"]:
        """Return the velocity at ``x`` and ``t`` for windows that are prepared already."""
        return self._velocity(*self._features(x, t, prepared))

    def answer(
        self,
        x: Float[Tensor, "batch frames beads channels"],
        t: Float[Tensor, " batch"],
        prepared: Prepared,
    ) -> tuple[Float[Tensor, "batch frames beads channels"], Float[Tensor, "batch beads types"]]:
        """Return the velocity, and what residues look like: logarithms of chances of each type.

        The latter are up to a constant, and mean something for hidden residues and clean tokens.
        """
        features, condition = self._features(x, t, prepared)
        types = self.types_out(_mean_over_frames(features, prepared.present))
        return self._velocity(features, condition), types

    def _features(
        self,
        x: Float[Tensor, "batch frames beads channels"],
        t: Float[Tensor, " batch"],
        prepared: Prepared,
    ) -> tuple[Float[Tensor, "batch frames beads width"], Float[Tensor, "batch width"]]:
        """Return normalised features of all cells, and the conditioning vector."""
        flow_time = self.flow_time(sinusoids(100 * t.float(), self.width, longest=1000.0))
        condition = prepared.condition + flow_time
        features = self.noisy_in(x) + prepared.cells
        cosine, sine = turns(prepared.places, self.width // self.dimensions.heads)
        for block in self.blocks:
            features = block(features, condition, cosine, sine, prepared.present)
        return self.norm(features), condition

    def _velocity(
        self,
        features: Float[Tensor, "batch frames beads width"],
        condition: Float[Tensor, "batch width"],
    ) -> Float[Tensor, "batch frames beads channels"]:
        shift, scale = self.adapt_out(condition)[:, None, None, :].chunk(2, dim=-1)
        return self.project_out(modulate(features, shift, scale))


def _mean_over_frames(
    features: Float[Tensor, "batch frames beads width"],
    present: Bool[Tensor, "batch frames"] | None,
) -> Float[Tensor, "batch beads width"]:
    if present is None:
        return features.mean(dim=1)
    shares = present / present.sum(dim=1, keepdim=True)
    return (features * shares[:, :, None, None]).sum(dim=1)


def _two_layers(width_in: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width))
