"""Tokens of C-alpha beads: encode and decode side by side.

A bead's rigid frame comes from three consecutive beads. Its token is the frame as seen from a
reference frame: a translation and a rotation in the continuous six-number form. Every frame of a
window is superposed on the reference conformation first, so tokens do not change when any frame
is rotated or translated. Positions decode from the translations alone; a mirror image has other
tokens, since superposition and rigid frames keep handedness.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trajgen.errors import InputError
from trajgen.geometry.frames import RigidFrames, chain_frames
from trajgen.geometry.rotations import rotation_to_6d
from trajgen.geometry.superposition import superpose, superposed

#: The layout of a token; nothing else in the program counts its channels.
TRANSLATION = slice(0, 3)
ROTATION = slice(3, 9)
TOKEN_CHANNELS = 9

MIN_BEADS = 3
#: Three points fix a pose; a frame with fewer known beads is placed by other beads.
POSE_BEADS = 3


@dataclass(frozen=True)
class Reference:
    """What the tokens of a window are relative to.

    Attributes:
        positions_nm: the reference conformation, in the pose of the key frame (the first frame
            with a known bead), or of the template where no bead is known.
        frames: reference rigid frame of each residue.
        own: whether that frame is the residue's own, and not borrowed.
    """

    positions_nm: Float[Tensor, "batch beads 3"]
    frames: RigidFrames
    own: Bool[Tensor, "batch beads"]


@dataclass(frozen=True)
class TokenScale:
    """Mean and standard deviation of each channel, measured on the training data."""

    mean: Float[Tensor, " channels"]
    std: Float[Tensor, " channels"]

    @classmethod
    def measure(cls, tokens: Float[Tensor, "cells channels"]) -> "TokenScale":
        """Measure the scale of tokens; a channel that never changes gets a small spread."""
        return cls(tokens.mean(dim=0), tokens.std(dim=0).clamp(min=1e-3))

    def normalise(
        self, tokens: Float[Tensor, "*cells channels"]
    ) -> Float[Tensor, "*cells channels"]:
        """Return tokens of zero mean and unit spread."""
        return (tokens - self.mean) / self.std

    def restore(self, tokens: Float[Tensor, "*cells channels"]) -> Float[Tensor, "*cells channels"]:
        """Undo ``normalise``."""
        return tokens * self.std + self.mean


def reference_frames(
    positions_nm: Float[Tensor, "batch frames beads 3"],
    known: Bool[Tensor, "batch frames beads"],
    template_nm: Float[Tensor, "beads 3"],
) -> Reference:
    """Choose the reference frame of each residue of each window from its known cells.

    A residue's own first known frame; else the frame of the nearest known residue along the
    chain; else, in a window where nothing is known, the residue's frame in the template. Unknown
    beads that a known bead's rigid frame needs are filled in from the template, placed on the
    known beads. The reference does not depend on the positions of unknown cells, which must only
    be finite.

    Raises:
        InputError: fewer than three beads, of which no rigid frame can be made.
    """
    beads = positions_nm.shape[2]
    if beads < MIN_BEADS:
        raise InputError(
            f"the molecule has {beads} beads; the surrogate makes rigid frames of three "
            f"consecutive beads and needs at least {MIN_BEADS}"
        )
    own = known.any(dim=1)
    first = known.int().argmax(dim=1)
    key = known.any(dim=2).int().argmax(dim=1)
    if bool((own & (first != key[:, None])).any()):
        positions_nm = _in_pose_of_key_frame(positions_nm, known, key, template_nm)
    index = first[:, None, :, None].expand(-1, 1, -1, 3)
    conformation = positions_nm.gather(1, index).squeeze(1)
    if not bool(own.all()):
        conformation = _filled_from_template(conformation, own, template_nm)
    rigid = chain_frames(conformation)
    lender = _nearest_own(own)
    rows = torch.arange(len(own), device=own.device)[:, None]
    return Reference(conformation, rigid[rows, lender], own)


def superpose_on_reference(
    positions_nm: Float[Tensor, "batch frames beads 3"],
    known: Bool[Tensor, "batch frames beads"],
    reference: Reference,
) -> Float[Tensor, "batch frames beads 3"]:
    """Superpose every frame on the reference conformation by a proper rotation.

    The weights are the known beads of the frame where at least three are; else the residues that
    have a reference frame of their own; else all.
    """
    own = reference.own[:, None, :]
    own = own | (own.sum(dim=-1, keepdim=True) < POSE_BEADS)
    weights = torch.where(known.sum(dim=-1, keepdim=True) >= POSE_BEADS, known, own)
    target = reference.positions_nm[:, None].expand_as(positions_nm)
    return superposed(positions_nm, target, weights.to(positions_nm.dtype))


def encode(
    aligned_nm: Float[Tensor, "batch frames beads 3"], reference: Reference
) -> Float[Tensor, "batch frames beads channels"]:
    """Turn frames that are superposed on the reference into tokens (nm, not normalised)."""
    rigid = chain_frames(aligned_nm)
    relative = reference.frames[:, None].invert().compose(rigid)
    return torch.cat([relative.origins, rotation_to_6d(relative.rotations)], dim=-1)


def decode(
    tokens: Float[Tensor, "batch frames beads channels"], reference: Reference
) -> Float[Tensor, "batch frames beads 3"]:
    """Turn tokens (nm, not normalised) into positions in the pose of the reference."""
    return reference.frames[:, None].apply(tokens[..., TRANSLATION])


def _in_pose_of_key_frame(
    positions_nm: Tensor, known: Tensor, key: Tensor, template_nm: Tensor
) -> Tensor:
    """Move frames into the key frame's pose, by way of the template on which all are placed."""
    weights = known | ~known.any(dim=-1, keepdim=True)
    target = template_nm.expand_as(positions_nm)
    to_template = superpose(positions_nm, target, weights.to(positions_nm.dtype))
    rows = torch.arange(len(key), device=key.device)
    on_template = to_template[..., None].apply(positions_nm)
    moved = to_template[rows, key][:, None, None].invert().apply(on_template)
    is_key = torch.arange(positions_nm.shape[1], device=key.device) == key[:, None]
    return torch.where(is_key[:, :, None, None], positions_nm, moved)


def _filled_from_template(conformation: Tensor, own: Tensor, template_nm: Tensor) -> Tensor:
    """Fill residues that are never known from the template, placed on those that are."""
    some = own.any(dim=-1, keepdim=True)
    template = template_nm.expand_as(conformation)
    weights = (own | ~some).to(conformation.dtype)
    placed = superposed(template, conformation, weights)
    filled = torch.where(some[..., None], placed, template)
    return torch.where(own[..., None], conformation, filled)


def _nearest_own(own: Tensor) -> Tensor:
    """Return for each residue the nearest one with a frame of its own (itself where none has)."""
    place = torch.arange(own.shape[1], device=own.device)
    separation = (place[:, None] - place[None, :]).abs().expand(len(own), -1, -1)
    separation = torch.where(own[:, None, :], separation, own.shape[1])
    nearest = separation.argmin(dim=-1)
    return torch.where(own.any(dim=-1, keepdim=True), nearest, place)
