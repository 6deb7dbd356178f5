"""The parts of the transformer: embeddings, attention over one axis, adaptive layer norm."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def sinusoids(
    values: Float[Tensor, " *shape"], width: int, longest: float
) -> Float[Tensor, "*shape {width}"]:
    """Return sines and cosines of ``values`` at ``width / 2`` frequencies from 1 to 1/longest."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values[..., None] * torch.exp(-math.log(longest) * exponents)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


def rotate_by_position(
    x: Float[Tensor, "batch heads length size"], places: Float[Tensor, "batch length"]
) -> Float[Tensor, "batch heads length size"]:
    """Turn pairs of channels by angles that grow with the position (rotary embedding).

    Scores of rotated queries and keys depend on the difference of positions (Su et al.,
    "RoFormer", 2021, equation 34).
    """
    half = x.shape[-1] // 2
    rates = 100.0 ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angles = places[:, None, :, None] * rates
    cosine, sine = torch.cos(angles).to(x.dtype), torch.sin(angles).to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale normalised features (adaptive layer norm)."""
    return x * (1 + scale) + shift


def zero_linear(width_in: int, width: int) -> nn.Linear:
    """Return a linear layer that begins as zero."""
    layer = nn.Linear(width_in, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head self-attention over the second axis of (batch, length, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        places: Float[Tensor, "batch length"] | None = None,
        present: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Attend to the positions that are ``present``, and know their ``places``.

        Without places their order means nothing; without ``present`` all are.
        """
        batch, length, width = x.shape
        heads = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if places is not None:
            query, key = rotate_by_position(query, places), rotate_by_position(key, places)
        mask = None if present is None else present[:, None, None, :]
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.project_out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Attention over residues, attention over frames and a feed-forward part, each gated.

    Shift, scale and gate of each part come from the conditioning vector and begin at zero, so
    that the block begins as the identity (adaLN-zero; Peebles & Xie, "Scalable diffusion models
    with transformers", 2022, section 3.2).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.over_residues = Attention(width, heads)
        self.over_frames = Attention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adapt = nn.Sequential(nn.SiLU(), zero_linear(width, 9 * width))

    def forward(
        self,
        x: Float[Tensor, "batch frames beads width"],
        condition: Float[Tensor, "batch width"],
        places: Float[Tensor, "batch frames"],
        present: Bool[Tensor, "batch frames"] | None,
    ) -> Float[Tensor, "batch frames beads width"]:
        """Update the features; absent frames are seen by no other frame."""
        batch, frames, beads, width = x.shape
        parts = self.adapt(condition)[:, None, None, :].chunk(9, dim=-1)

        inner = modulate(self.norm(x), parts[0], parts[1]).reshape(batch * frames, beads, width)
        x = x + parts[2] * self.over_residues(inner).view(batch, frames, beads, width)

        inner = modulate(self.norm(x), parts[3], parts[4]).transpose(1, 2)
        of_bead = None if present is None else present.repeat_interleave(beads, dim=0)
        mixed = self.over_frames(
            inner.reshape(batch * beads, frames, width),
            places.repeat_interleave(beads, dim=0),
            of_bead,
        )
        x = x + parts[5] * mixed.view(batch, beads, frames, width).transpose(1, 2)

        return x + parts[8] * self.feed_forward(modulate(self.norm(x), parts[6], parts[7]))
