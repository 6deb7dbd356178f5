"""The key-frame encoder: what the reference conformation looks like, for each residue.

Its input are distances and relative rigid frames only, which no rotation or translation of the
molecule changes. It does not depend on flow time: it runs once a window.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from trajgen.geometry.frames import RigidFrames

DISTANCE_KERNELS = 24
LONGEST_NM = 2.4
#: Spread of the first weights of pairs; what residues look like to each other then counts as much
#: in a message as what they are.
PAIR_WEIGHTS = 0.4
#: Kernels of the distance, then the relative translation (3) and the relative rotation (9).
PAIR_CHANNELS = DISTANCE_KERNELS + 3 + 9


def pair_features(frames: RigidFrames) -> Float[Tensor, "batch beads beads channels"]:
    """Describe every residue j as residue i sees it from its own rigid frame.

    The distance is spread over Gaussian kernels from 0 to ``LONGEST_NM``; the translation is in
    units of 1 nm.
    """
    rotations, origins = frames.rotations, frames.origins
    offset = origins[:, None, :, :] - origins[:, :, None, :]
    translation = torch.einsum("biyx,bijy->bijx", rotations, offset)
    rotation = torch.einsum("biyx,bjyz->bijxz", rotations, rotations)
    centres = torch.linspace(0, LONGEST_NM, DISTANCE_KERNELS, device=offset.device)
    spacing = LONGEST_NM / (DISTANCE_KERNELS - 1)
    distance = offset.norm(dim=-1, keepdim=True)
    kernels = torch.exp(-0.5 * ((distance - centres) / spacing) ** 2)
    return torch.cat([kernels, translation, rotation.flatten(-2)], dim=-1)


class KeyFrameEncoder(nn.Module):
    """Rounds of message passing between all residues of the reference conformation."""

    def __init__(self, width: int, rounds: int) -> None:
        super().__init__()
        self.own = nn.Embedding(2, width)
        self.pairs = nn.ModuleList(_pair_layer(width) for _ in range(rounds))
        self.ends = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(rounds))
        self.updates = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(rounds)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        residues: Float[Tensor, "batch beads width"],
        frames: RigidFrames,
        own: Bool[Tensor, "batch beads"],
    ) -> Float[Tensor, "batch beads width"]:
        """Return features of the residues in their surroundings.

        Args:
            residues: embedded residue types and places.
            frames: reference rigid frame of each residue.
            own: whether that frame is the residue's own, and not borrowed.
        """
        features = pair_features(frames)
        x = residues + self.own(own.long())
        for pair, end, update in zip(self.pairs, self.ends, self.updates, strict=True):
            receiver, sender = end(self.norm(x)).chunk(2, dim=-1)
            messages = pair(features) + receiver[:, :, None] + sender[:, None, :]
            x = x + update(nn.functional.silu(messages).mean(dim=2))
        return self.norm(x)


def _pair_layer(width: int) -> nn.Linear:
    layer = nn.Linear(PAIR_CHANNELS, width)
    nn.init.normal_(layer.weight, std=PAIR_WEIGHTS)
    return layer
