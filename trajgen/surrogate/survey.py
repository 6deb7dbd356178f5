"""What is measured of a molecule's frames before training: template, stiffness, sizes of tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.errors import InputError
from trajgen.geometry.superposition import superposed
from trajgen.geometry.validity import holds_together
from trajgen.seeding import torch_generator
from trajgen.surrogate.bead_chain import BeadChain
from trajgen.surrogate.bonds import bond_range
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.resolutions import AlphaCarbons, Resolution
from trajgen.surrogate.tokens import (
    channels_in_use,
    encode,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.whitening import measure_springs, whitening
from trajgen.surrogate.window_source import Places, WindowSource

#: Frames and windows that are measured, at most.
MEASURED_FRAMES = 1000
MEASURED_WINDOWS = 2000
#: Tokens of them, at most: those of large molecules would not fit into memory.
MEASURED_TOKENS = 1_000_000
#: But windows of each molecule at least.
FEWEST_WINDOWS = 8
#: They are the same in every training.
MEASURING_SEED = 0


@dataclass(frozen=True)
class Survey:
    """What is measured of one molecule before the scale of tokens, which all share.

    Attributes:
        resolution: its sites.
        template_nm: a typical frame.
        chain: how stiff a molecule of beads is.
        tokens: tokens of a sample of windows, not normalised.
        used: channels that mean something.
        elapsed_ps: time of each token since its key frame.
        borrowed: tokens that are seen from the frame of another residue.
    """

    resolution: Resolution
    template_nm: Float[Tensor, "sites 3"]
    chain: BeadChain | None
    tokens: Float[Tensor, "cells channels"]
    used: Bool[Tensor, "cells channels"]
    elapsed_ps: Float[Tensor, " cells"]
    borrowed: Bool[Tensor, " cells"]


def survey(source: WindowSource, resolution: Resolution, length: int, share: float) -> Survey:
    """Choose the template of a molecule, and sample tokens of forward simulation and of design.

    Args:
        source: its frames.
        resolution: its sites.
        length: frames of a window.
        share: of the windows that are sampled of all molecules.

    Raises:
        InputError: a frame is not finite, or has a chain that has come apart.
    """
    _require_whole(source, resolution)
    template = typical_frame(source.sample(MEASURED_FRAMES))
    residues = resolution.beads.n_beads
    most = min(MEASURED_WINDOWS, MEASURED_TOKENS // (length * residues))
    count = max(FEWEST_WINDOWS, int(share * most))
    anywhere = torch.zeros(count, dtype=torch.bool)
    places = Places.draw(anywhere, anywhere, torch_generator(MEASURING_SEED))
    windows = source.windows(length, places)
    positions = source.positions.read(windows.frames)
    shape = (len(positions), length, residues)
    first = forward_mask(length, residues).expand(shape)
    reference = reference_frames(positions, first, template, resolution)
    aligned = superpose_on_reference(positions, first, reference, resolution)
    chain = None
    if isinstance(resolution, AlphaCarbons):
        bonds = torch.tensor(resolution.beads.bonds, dtype=torch.long).reshape(-1, 2)
        later = windows.present & ~first.any(dim=2)
        springs = measure_springs(bonds, aligned, reference, later)
        chain = BeadChain(springs, bonds, _bond_range_of_all(source, bonds))
    present = windows.present[..., None]
    used = channels_in_use(resolution).expand(*shape, -1)
    elapsed_ps = windows.times.times_ps[..., None].expand(shape)
    parts = []
    for known in (first, *_others_hidden(shape, resolution.pose_residues)):
        hidden = ~known.any(dim=1)
        reference = reference_frames(positions, known, template, resolution, hidden)
        aligned = superpose_on_reference(positions, known, reference, resolution)
        tokens = encode(aligned, reference, resolution)
        if chain is not None:
            change = whitening(reference, chain.springs, mobile=~known.all(dim=1))
            tokens = change.whiten(tokens)
        asked = present & ~known
        borrowed = reference.borrowed[:, None].expand(shape)
        parts.append((tokens[asked], used[asked], elapsed_ps[asked], borrowed[asked]))
    return Survey(resolution, template, chain, *map(torch.cat, zip(*parts, strict=True)))


def _others_hidden(
    shape: tuple[int, int, int], least: int
) -> tuple[Bool[Tensor, "windows frames residues"], ...]:
    """Return masks of design: the fewest residues that may be known, each stretch in turn.

    There are none where these are all.
    """
    windows, frames, residues = shape
    if residues <= least:
        return ()
    begins = torch.arange(windows)[:, None] % (residues - least + 1)
    place = torch.arange(residues) - begins
    known = (place >= 0) & (place < least)
    return (known[:, None].expand(-1, frames, -1),)


def typical_frame(positions_nm: Float[Tensor, "frames sites 3"]) -> Float[Tensor, "sites 3"]:
    """Return the frame nearest to the mean of all, which are superposed on it and on each other.

    Its centre of geometry is moved to the origin.
    """
    mean = positions_nm[0]
    for _ in range(3):
        moved = superposed(positions_nm, mean)
        mean = moved.mean(dim=0)
    nearest = (moved - mean).square().sum(dim=(1, 2)).argmin()
    return positions_nm[nearest] - positions_nm[nearest].mean(dim=0)


def _bond_range_of_all(
    source: WindowSource, bonds: Int64[Tensor, "bonds 2"]
) -> Float[Tensor, "2 bonds"]:
    """Return the shortest and longest of each bond in all training frames.

    A sample would not do: rare lengths are lengths too.
    """
    chunks = source.positions.chunks(source.starts.runs.frames)
    ranges = torch.stack([bond_range(positions, bonds) for _, positions in chunks])
    return torch.stack([ranges[:, 0].amin(dim=0), ranges[:, 1].amax(dim=0)])


def _require_whole(source: WindowSource, resolution: Resolution) -> None:
    bonds = torch.tensor(resolution.beads.bonds, dtype=torch.long).reshape(-1, 2)
    strange, apart = [], []
    for frames, positions in source.positions.chunks():
        finite = positions.isfinite().flatten(1).all(dim=1)
        whole = holds_together(resolution.alpha_carbons(positions), bonds=bonds)
        strange.append(frames[~finite])
        apart.append(frames[finite & ~whole])
    described = source.positions.describe
    if len(found := torch.cat(strange)):
        raise InputError(
            f"{len(found)} frames have a NaN or infinity, first {described(int(found[0]))}; remove "
            "those frames"
        )
    if len(found := torch.cat(apart)):
        raise InputError(
            f"{len(found)} frames have a chain that has come apart, first "
            f"{described(int(found[0]))}; make molecules whole (no jumps over a periodic "
            "box), or remove those frames"
        )
