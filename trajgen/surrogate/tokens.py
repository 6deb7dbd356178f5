"""Tokens of residues: encode and decode side by side.

The token of a residue is its rigid frame as seen from a reference frame, a translation and a
rotation in the continuous six-number form, and what frames alone do not say well: of atoms how far
the sine and the cosine of each torsion are from those in the reference, of beads the length of the
bond to the bead before, which is all but rigid and nearly independent of everything else. A torsion
is not told by the angle it has turned: rotamers are at the same angles wherever it began, and so
are the differences of sines but for a shift. Every frame of a window is
superposed on the reference conformation first, so tokens do not change when any frame is rotated or
translated; a mirror image has other tokens, since superposition and rigid frames keep handedness.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trajgen.geometry.frames import RigidFrames
from trajgen.geometry.rotations import rotation_from_6d, rotation_to_6d
from trajgen.geometry.superposition import superpose, superposed
from trajgen.surrogate.resolutions import Resolution

#: The layout of a token; nothing else in the program counts its channels. Of atoms the torsions
#: follow, all sines before all cosines; of beads, which have none, the bond length.
TRANSLATION = slice(0, 3)
ROTATION = slice(3, 9)
FRAME_CHANNELS = 9
BOND_LENGTH = 9
#: Cosines of the rotation since the key frame: one there, and never above.
COSINES = (3, 7)

#: No channel has a smaller spread, as if it never changed.
SMALLEST_SPREAD = 1e-3
#: Three points fix a pose; a frame with fewer known sites is placed by other sites.
POSE_SITES = 3


@dataclass(frozen=True)
class Reference:
    """What the tokens of a window are relative to.

    Attributes:
        positions_nm: the reference conformation, in the pose of the key frame (the first frame
            of which something is known), or of the template where nothing is.
        frames: reference rigid frame of each residue.
        torsions: reference torsions of each residue, radian.
        own: whether both are the residue's own, and not borrowed or the template's.
        borrowed: whether the frame is another residue's.
    """

    positions_nm: Float[Tensor, "batch sites 3"]
    frames: RigidFrames
    torsions: Float[Tensor, "batch residues torsions"]
    own: Bool[Tensor, "batch residues"]
    borrowed: Bool[Tensor, "batch residues"]


def channel_count(torsions: int) -> int:
    """Return the channels of a token of a residue with so many torsions; beads have none."""
    return FRAME_CHANNELS + (2 * torsions or 1)


def channels_in_use(resolution: Resolution) -> Bool[Tensor, "residues channels"]:
    """Return the channels of each residue that mean something: torsions that it has not do not."""
    inner = resolution.inner_in_use
    return torch.cat([inner.new_ones(len(inner), FRAME_CHANNELS), inner], dim=1)


def channels_that_change(resolution: Resolution) -> Bool[Tensor, " channels"]:
    """Return the channels that are zero in the key frame, and then go one way or another."""
    changes = torch.ones(channel_count(resolution.has_torsion.shape[1]), dtype=torch.bool)
    changes[list(COSINES)] = False
    if not resolution.has_torsion.shape[1]:
        changes[BOND_LENGTH] = False
    return changes


def known_channels(
    known: Bool[Tensor, "*windows residues"], resolution: Resolution
) -> Bool[Tensor, "*windows residues channels"]:
    """Return the channels of known cells that follow from known cells alone.

    Beside an unknown residue, the rotation of a bead, the length of its bond and the torsions about
    the peptide bond also depend on where that one is.
    """
    own = known[..., None]
    rotation = own & known[..., resolution.rotation_needs].all(dim=-1, keepdim=True)
    inner = own & known[..., resolution.inner_needs].all(dim=-1)
    sizes = (TRANSLATION.stop, ROTATION.stop - ROTATION.start)
    frame = [x.expand(*known.shape, n) for x, n in zip((own, rotation), sizes, strict=True)]
    return torch.cat([*frame, inner], dim=-1)


@dataclass(frozen=True)
class TokenScale:
    """Mean and standard deviation of each channel by the time since the key frame.

    A molecule goes further in a longer time. In units of how far it mostly goes, frames near the
    key frame and frames far from it are equally hard to tell from noise, at every lag. Residues
    that are seen from the frame of another are elsewhere at any time.

    Attributes:
        times_ps: times that it was measured at, rising; between them it is linear in log time.
        mean: mean of each channel at each time, and in the last row of residues with borrowed
            frames.
        std: standard deviation of each channel, likewise.
    """

    times_ps: Float[Tensor, " times"]
    mean: Float[Tensor, "rows channels"]
    std: Float[Tensor, "rows channels"]

    @classmethod
    def measure(
        cls,
        tokens: Float[Tensor, "cells channels"],
        used: Bool[Tensor, "cells channels"],
        elapsed_ps: Float[Tensor, " cells"],
        borrowed: Bool[Tensor, " cells"],
        times_ps: Float[Tensor, " times"],
    ) -> "TokenScale":
        """Measure the scale of tokens; a channel that never changes gets a small spread.

        Args:
            tokens: tokens.
            used: channels of each that mean something.
            elapsed_ps: the time of each since its key frame.
            borrowed: those that are seen from another residue's frame; may be none.
            times_ps: times to measure at; each counts the cells up to the next ones on both sides,
                less the further away they are.
        """
        shares = _rows(elapsed_ps, borrowed, times_ps)
        total = (shares.mT @ used.to(shares)).clamp(min=1e-6)
        mean = shares.mT @ (tokens * used) / total
        away = (tokens - shares @ mean) * used
        std = (shares.mT @ away.square() / total).sqrt()
        # A row without cells takes those of the nearest one that has some.
        seen = shares.sum(dim=0) >= 1
        place = torch.arange(len(times_ps) + 1, device=tokens.device)
        apart = (place[:, None] - place[None, :]).abs() + len(place) * ~seen
        nearest = apart.argmin(dim=1)
        return cls(times_ps, mean[nearest], std[nearest].clamp(min=SMALLEST_SPREAD))

    def normalise(
        self,
        tokens: Float[Tensor, "batch frames residues channels"],
        elapsed_ps: Float[Tensor, "batch frames residues"],
        borrowed: Bool[Tensor, "batch residues"],
    ) -> Float[Tensor, "batch frames residues channels"]:
        """Return tokens of zero mean and unit spread."""
        shares = _rows(elapsed_ps, borrowed[:, None].expand(elapsed_ps.shape), self.times_ps)
        return (tokens - shares @ self.mean) / (shares @ self.std)

    def restore(
        self,
        tokens: Float[Tensor, "batch frames residues channels"],
        elapsed_ps: Float[Tensor, "batch frames residues"],
        borrowed: Bool[Tensor, "batch residues"],
    ) -> Float[Tensor, "batch frames residues channels"]:
        """Undo ``normalise``."""
        shares = _rows(elapsed_ps, borrowed[:, None].expand(elapsed_ps.shape), self.times_ps)
        return tokens * (shares @ self.std) + shares @ self.mean


def _rows(
    elapsed_ps: Float[Tensor, "*cells"],
    borrowed: Bool[Tensor, "*cells"],
    times_ps: Float[Tensor, " times"],
) -> Float[Tensor, "*cells rows"]:
    """Return how much each row of a scale counts for a cell."""
    of_times = _between(elapsed_ps, times_ps) * ~borrowed[..., None]
    return torch.cat([of_times, borrowed[..., None].to(of_times)], dim=-1)


def _between(
    elapsed_ps: Float[Tensor, "*cells"], times_ps: Float[Tensor, " times"]
) -> Float[Tensor, "*cells times"]:
    """Return the weights of linear interpolation in log time; constant beyond the ends."""
    if len(times_ps) == 1:
        return torch.ones_like(elapsed_ps)[..., None]
    grid = times_ps.log()
    place = elapsed_ps.clamp(min=times_ps[0], max=times_ps[-1]).log()
    right = torch.searchsorted(grid, place).clamp(1, len(grid) - 1)
    share = ((place - grid[right - 1]) / (grid[right] - grid[right - 1])).clamp(0, 1)
    hats = torch.nn.functional.one_hot(right, len(grid)) * share[..., None]
    return hats + torch.nn.functional.one_hot(right - 1, len(grid)) * (1 - share)[..., None]


def reference_frames(
    positions_nm: Float[Tensor, "batch frames sites 3"],
    known: Bool[Tensor, "batch frames residues"],
    template_nm: Float[Tensor, "sites 3"],
    resolution: Resolution,
    hidden: Bool[Tensor, "batch residues"] | None = None,
) -> Reference:
    """Choose the reference of each residue of each window from its known cells.

    A residue's own first known frame; else its frame in the template, placed on the known residues.
    What a hidden residue looks like is not to be shown: it borrows the frame of the nearest known
    residue along the chain. The reference does not depend on the positions of unknown cells, which
    must only be finite.

    Args:
        positions_nm: windows.
        known: cells that are given.
        template_nm: a typical conformation.
        resolution: how sites hang on frames and torsions.
        hidden: residues that are never known and may not be looked at; None for none.
    """
    own = known.any(dim=1)
    first = known.int().argmax(dim=1)
    key = known.any(dim=2).int().argmax(dim=1)
    if bool((own & (first != key[:, None])).any()):
        positions_nm = _in_pose_of_key_frame(positions_nm, known, key, template_nm, resolution)
    index = first[:, resolution.site_residues][:, None, :, None].expand(-1, 1, -1, 3)
    conformation = positions_nm.gather(1, index).squeeze(1)
    if not bool(own.all()):
        conformation = _filled_from_template(conformation, own, template_nm, resolution)
    rigid, torsions = resolution.frames(conformation), resolution.torsions(conformation)
    borrowed = torch.zeros_like(own)
    if hidden is not None and bool(hidden.any()):
        borrowed = hidden & ~own & own.any(dim=1, keepdim=True)
        itself = torch.arange(own.shape[1], device=own.device).expand_as(own)
        rows = torch.arange(len(own), device=own.device)[:, None]
        rigid = rigid[rows, torch.where(borrowed, _nearest_own(own), itself)]
        # Nor is a torsion that a hidden residue takes part in.
        seen = ~borrowed[:, resolution.inner_needs].any(dim=-1)
        torsions = torsions * seen[..., : torsions.shape[-1]]
    return Reference(conformation, rigid, torsions, own, borrowed)


def template_shown(
    own: Bool[Tensor, "batch residues"], hidden: Bool[Tensor, "batch residues"], alone: bool
) -> Bool[Tensor, "batch residues"]:
    """Say of which residues the template is shown.

    A molecule comes back to it, which is worth knowing. But each of several molecules has its own,
    which tells them from each other and would be learnt by heart: there it is shown of residues
    alone of which nothing is known, and nowhere where types are to be found.

    Args:
        own: residues that are known in some frame.
        hidden: residues whose type is to be found.
        alone: whether the model is of one molecule.
    """
    return (~own | alone) & ~hidden.any(dim=1, keepdim=True)


def superpose_on_reference(
    positions_nm: Float[Tensor, "batch frames sites 3"],
    known: Bool[Tensor, "batch frames residues"],
    reference: Reference,
    resolution: Resolution,
) -> Float[Tensor, "batch frames sites 3"]:
    """Superpose every frame on the reference conformation by a proper rotation.

    The weights are the known sites of the frame where at least three are; else those of residues
    that have a reference of their own; else all.
    """
    own = _posing(reference.own, resolution)[:, None]
    own = torch.where(own.sum(dim=-1, keepdim=True) < POSE_SITES, resolution.pose_sites, own)
    given = _posing(known, resolution)
    weights = torch.where(given.sum(dim=-1, keepdim=True) >= POSE_SITES, given, own)
    target = reference.positions_nm[:, None].expand_as(positions_nm)
    return superposed(positions_nm, target, weights.to(positions_nm.dtype))


def encode(
    aligned_nm: Float[Tensor, "batch frames sites 3"],
    reference: Reference,
    resolution: Resolution,
) -> Float[Tensor, "batch frames residues channels"]:
    """Turn frames that are superposed on the reference into tokens (nm, not normalised)."""
    relative = reference.frames[:, None].invert().compose(resolution.frames(aligned_nm))
    inner = resolution.inner(aligned_nm, reference.torsions[:, None])
    return torch.cat([relative.origins, rotation_to_6d(relative.rotations), inner], dim=-1)


def decode(
    tokens: Float[Tensor, "batch frames residues channels"],
    reference: Reference,
    resolution: Resolution,
    held: Bool[Tensor, "batch frames residues"],
) -> Float[Tensor, "batch frames sites 3"]:
    """Turn tokens (nm, not normalised) into sites in the pose of the reference.

    Beads lie where their frames do; ``BeadChain.mended`` gives them the bond lengths of the tokens.

    Args:
        tokens: tokens.
        reference: what they are relative to.
        resolution: how sites hang on frames and torsions.
        held: residues whose frames are known.
    """
    relative = RigidFrames(rotation_from_6d(tokens[..., ROTATION]), tokens[..., TRANSLATION])
    frames = reference.frames[:, None].compose(relative)
    inner = tokens[..., FRAME_CHANNELS:]
    return resolution.sites(frames, inner, reference.torsions[:, None], held)


def _posing(
    residues: Bool[Tensor, "*batch residues"], resolution: Resolution
) -> Bool[Tensor, "*batch sites"]:
    """Return the sites of residues that say how a molecule lies in space."""
    return residues[..., resolution.site_residues] & resolution.pose_sites


def _in_pose_of_key_frame(
    positions_nm: Tensor, known: Tensor, key: Tensor, template_nm: Tensor, resolution: Resolution
) -> Tensor:
    """Move frames into the key frame's pose, by way of the template on which all are placed."""
    weights = _posing(known | ~known.any(dim=-1, keepdim=True), resolution)
    target = template_nm.expand_as(positions_nm)
    to_template = superpose(positions_nm, target, weights.to(positions_nm.dtype))
    rows = torch.arange(len(key), device=key.device)
    on_template = to_template[..., None].apply(positions_nm)
    moved = to_template[rows, key][:, None, None].invert().apply(on_template)
    is_key = torch.arange(positions_nm.shape[1], device=key.device) == key[:, None]
    return torch.where(is_key[:, :, None, None], positions_nm, moved)


def _filled_from_template(
    conformation: Tensor, own: Tensor, template_nm: Tensor, resolution: Resolution
) -> Tensor:
    """Fill residues that are never known from the template, placed on those that are."""
    some = own.any(dim=-1, keepdim=True)
    template = template_nm.expand_as(conformation)
    weights = _posing(own | ~some, resolution).to(conformation.dtype)
    placed = superposed(template, conformation, weights)
    filled = torch.where(some[..., None], placed, template)
    return torch.where(own[:, resolution.site_residues, None], conformation, filled)


def _nearest_own(own: Tensor) -> Tensor:
    """Return for each residue the nearest one with a frame of its own (itself where none has)."""
    place = torch.arange(own.shape[1], device=own.device)
    separation = (place[:, None] - place[None, :]).abs().expand(len(own), -1, -1)
    separation = torch.where(own[:, None, :], separation, own.shape[1])
    nearest = separation.argmin(dim=-1)
    return torch.where(own.any(dim=-1, keepdim=True), nearest, place)
