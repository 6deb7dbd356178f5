"""The parts of the transformer: embeddings, attention over one axis, adaptive layer norm."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

#: Scores of queries and keys that one attention keeps in bfloat16 for the way back, at most.
_KEPT_SCORES = 2**25


def sinusoids(
    values: Float[Tensor, " *shape"], width: int, longest: float
) -> Float[Tensor, "*shape {width}"]:
    """Return sines and cosines of ``values`` at ``width / 2`` frequencies from 1 to 1/longest."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values[..., None] * torch.exp(-math.log(longest) * exponents)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


def turns(
    places: Float[Tensor, "batch length"], size: int
) -> tuple[Float[Tensor, "batch length half"], Float[Tensor, "batch length half"]]:
    """Return cosines and sines of angles that grow with the position, of rates 1 to 1/100."""
    half = size // 2
    rates = 100.0 ** (-torch.arange(half, dtype=torch.float32, device=places.device) / half)
    angles = places[..., None] * rates
    return torch.cos(angles), torch.sin(angles)


def rotate_by_position(
    x: Float[Tensor, "batch length *others size"],
    cosine: Float[Tensor, "batch length half"],
    sine: Float[Tensor, "batch length half"],
) -> Float[Tensor, "batch length *others size"]:
    """Turn pairs of channels by angles that grow with the position (rotary embedding).

    Scores of rotated queries and keys depend on the difference of positions (Su et al.,
    "RoFormer", 2021, equation 34).
    """
    ones = (1,) * (x.ndim - 3)
    shape = (*cosine.shape[:2], *ones, cosine.shape[2])
    cosine, sine = cosine.to(x.dtype).view(shape), sine.to(x.dtype).view(shape)
    first, second = x.chunk(2, dim=-1)
    turned = torch.addcmul(first * cosine, second, sine, value=-1)
    return torch.cat([turned, torch.addcmul(first * sine, second, cosine)], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale normalised features (adaptive layer norm)."""
    return torch.addcmul(shift, x, 1 + scale)


def zero_linear(width_in: int, width: int) -> nn.Linear:
    """Return a linear layer that begins as zero."""
    layer = nn.Linear(width_in, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def attend(
    query: Float[Tensor, "batch heads length size"],
    key: Float[Tensor, "batch heads length size"],
    value: Float[Tensor, "batch heads length size"],
    mask: Bool[Tensor, "batch 1 1 length"] | None = None,
) -> Float[Tensor, "batch heads length size"]:
    """Return the mean of the values by how much queries and keys agree, of those in the mask.

    The fused attention of torch, but for gradients in bfloat16 on a CPU: those of the fused one
    take several times as long there as those of two products and a softmax.
    """
    scores = query.shape[:-1].numel() * key.shape[-2]
    in_bf16 = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if not (in_bf16 and torch.is_grad_enabled() and scores <= _KEPT_SCORES):
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)
    agreement = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        agreement = agreement.masked_fill(~mask, -torch.inf)
    return agreement.softmax(dim=-1) @ value


class Attention(nn.Module):
    """Multi-head self-attention of the cells of windows, over one of their two axes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)

    def parts(
        self, x: Float[Tensor, "batch frames beads width"]
    ) -> tuple[Float[Tensor, "batch frames beads heads size"], ...]:
        """Return queries, keys and values."""
        return self.project_in(x).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)


class ResidueAttention(Attention):
    """Each residue attends to those of its frame."""

    def forward(
        self, x: Float[Tensor, "batch frames beads width"]
    ) -> Float[Tensor, "batch frames beads width"]:
        """Attend to all residues; what they are and where in the chain is in the features."""
        query, key, value = (part.flatten(0, 1).transpose(1, 2) for part in self.parts(x))
        mixed = attend(query, key, value)
        return self.project_out(mixed.transpose(1, 2).reshape(x.shape))


class FrameAttention(Attention):
    """Each residue attends to itself in the other frames.

    Residues lie beside heads, so that the features need not be put into another order.
    """

    def forward(
        self,
        x: Float[Tensor, "batch frames beads width"],
        cosine: Float[Tensor, "batch frames half"],
        sine: Float[Tensor, "batch frames half"],
        present: Bool[Tensor, "batch frames"] | None,
    ) -> Float[Tensor, "batch frames beads width"]:
        """Attend to the frames that are ``present`` (all without it), by their places in time."""
        query, key, value = self.parts(x)
        query, key = (rotate_by_position(part, cosine, sine) for part in (query, key))
        query, key, value = (part.flatten(2, 3).transpose(1, 2) for part in (query, key, value))
        mask = None if present is None else present[:, None, None, :]
        mixed = attend(query, key, value, mask)
        return self.project_out(mixed.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Attention over residues, attention over frames and a feed-forward part, each gated.

    Shift, scale and gate of each part come from the conditioning vector and begin at zero, so
    that the block begins as the identity (adaLN-zero; Peebles & Xie, "Scalable diffusion models
    with transformers", 2022, section 3.2).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.over_residues = ResidueAttention(width, heads)
        self.over_frames = FrameAttention(width, heads)
        # SiLU, since GELU takes longer on a CPU than the product before it.
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False),
            nn.SiLU(),
            nn.Linear(4 * width, width, bias=False),
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adapt = nn.Sequential(nn.SiLU(), zero_linear(width, 9 * width))

    def forward(
        self,
        x: Float[Tensor, "batch frames beads width"],
        condition: Float[Tensor, "batch width"],
        cosine: Float[Tensor, "batch frames half"],
        sine: Float[Tensor, "batch frames half"],
        present: Bool[Tensor, "batch frames"] | None,
    ) -> Float[Tensor, "batch frames beads width"]:
        """Update the features; absent frames are seen by no other frame."""
        parts = self.adapt(condition)[:, None, None, :].chunk(9, dim=-1)
        inner = modulate(self.norm(x), parts[0], parts[1])
        x = torch.addcmul(x, parts[2], self.over_residues(inner))
        inner = modulate(self.norm(x), parts[3], parts[4])
        x = torch.addcmul(x, parts[5], self.over_frames(inner, cosine, sine, present))
        inner = modulate(self.norm(x), parts[6], parts[7])
        return torch.addcmul(x, parts[8], self.feed_forward(inner))
