from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.geometry.rotations import random_rotations
from trajgen.geometry.superposition import rmsd
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.resolutions import AlphaCarbons
from trajgen.surrogate.tokens import (
    BOND_LENGTH,
    FRAME_CHANNELS,
    ROTATION,
    TRANSLATION,
    Reference,
    TokenScale,
    channel_count,
    decode,
    encode,
    reference_frames,
    superpose_on_reference,
)

BATCH, FRAMES, BEADS = 3, 5, 7


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chains(seed: int, *shape: int) -> Tensor:
    """Random walks of steps of about a bond length, nm."""
    return 0.25 * torch.randn(*shape, 3, generator=generator(seed)).cumsum(dim=-2)


def bent_windows(seed: int, beads: int) -> Tensor:
    """Chains of bonds of about 0.38 nm that turn by 40° to 110° at every bead, and wobble.

    No three beads lie nearly in a line, where their frame would magnify rounding, and frames are
    alike, as in a trajectory: they are superposed safely.
    """
    one, other = torch.rand(2, 3, BATCH, FRAMES, beads, generator=generator(seed)).double()
    draws = one[:, :, :1] + 0.05 * other
    turn, twist = torch.deg2rad(40 + 65 * draws[0]), 2 * torch.pi * draws[1]
    lengths, axes = 0.36 + 0.04 * draws[2], torch.eye(3).double().expand(BATCH, FRAMES, 3, 3)
    bonds = []
    for length, bend, about in zip(*(x.unbind(-1) for x in (lengths, turn, twist)), strict=True):
        along, bend, about = axes[..., 2], bend[..., None], about[..., None]
        bonds.append(length[..., None] * along)
        across = about.cos() * axes[..., 0] + about.sin() * axes[..., 1]
        new, side = bend.cos() * along + bend.sin() * across, torch.linalg.cross(along, across)
        axes = torch.stack([torch.linalg.cross(side, new), side, new], dim=-1)
    return torch.stack(bonds, dim=-2).cumsum(dim=-2).float()


def known_of(*shape: int) -> Tensor:
    return forward_mask(shape[1], shape[2]).expand(shape)


def beads_of(positions: Tensor) -> AlphaCarbons:
    return AlphaCarbons(BeadTopology.from_residues(("GLY",) * positions.shape[-2]))


def referenced(positions: Tensor, known: Tensor, template: Tensor) -> Reference:
    return reference_frames(positions, known, template, beads_of(positions))


def superposed_on(positions: Tensor, known: Tensor, reference: Reference) -> Tensor:
    return superpose_on_reference(positions, known, reference, beads_of(positions))


def encoded(aligned: Tensor, reference: Reference) -> Tensor:
    return encode(aligned, reference, beads_of(aligned))


def decoded_of(tokens: Tensor, reference: Reference) -> Tensor:
    held = torch.zeros(tokens.shape[:3], dtype=torch.bool)
    return decode(tokens, reference, beads_of(tokens), held)


def tokens_of(positions: Tensor, known: Tensor, template: Tensor) -> tuple[Tensor, Reference]:
    reference = referenced(positions, known, template)
    return encoded(superposed_on(positions, known, reference), reference), reference


def moved(positions: Tensor, seed: int) -> Tensor:
    """Turn and shift every frame on its own."""
    frames = positions.flatten(0, 1)
    turn = random_rotations(len(frames), generator(seed))
    shift = torch.randn(len(frames), 1, 3, generator=generator(seed + 1))
    return (frames @ turn.mT + shift).view_as(positions)


def test_the_layout_names_every_channel_once():
    channels = list(range(FRAME_CHANNELS))
    assert channels[TRANSLATION] + channels[ROTATION] == channels
    assert channel_count(0) == BOND_LENGTH + 1 == FRAME_CHANNELS + 1


@given(seed=st.integers(0, 10_000), beads=st.integers(3, 12))
def test_tokens_do_not_change_when_any_frame_is_rotated_and_shifted(seed: int, beads: int):
    positions, template = bent_windows(seed, beads), bent_windows(seed + 1, beads)[0, 0]
    known = known_of(BATCH, FRAMES, beads)
    first, _ = tokens_of(positions, known, template)
    second, _ = tokens_of(moved(positions, seed + 2), known, template)
    assert first.shape[-1] == channel_count(0)
    assert (first - second).abs().max() < 1e-5


@given(seed=st.integers(0, 10_000), beads=st.integers(3, 12))
def test_tokens_come_back_from_the_positions_that_they_give(seed: int, beads: int):
    positions, template = bent_windows(seed, beads), bent_windows(seed + 1, beads)[0, 0]
    known = known_of(BATCH, FRAMES, beads)
    tokens, reference = tokens_of(positions, known, template)
    again, _ = tokens_of(decoded_of(tokens, reference), known, template)
    assert (again - tokens).abs().max() < 1e-5


@given(seed=st.integers(0, 10_000), beads=st.integers(3, 12))
def test_positions_come_back_from_tokens(seed: int, beads: int):
    """Those of any chain, also where three beads lie nearly in a line."""
    shape = (BATCH, FRAMES, beads)
    positions, known = chains(seed, *shape), known_of(*shape)
    tokens, reference = tokens_of(positions, known, chains(seed + 1, beads))
    decoded = decoded_of(tokens, reference)
    assert rmsd(decoded, positions).max() < 1e-5
    # The window comes back in the pose of its key frame.
    assert (decoded[:, 0] - positions[:, 0]).abs().max() < 1e-5


def test_the_key_frame_has_the_token_of_no_motion():
    positions = chains(0, BATCH, FRAMES, BEADS)
    tokens, _ = tokens_of(positions, known_of(BATCH, FRAMES, BEADS), positions[0, 0])
    still = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1, 0])
    assert (tokens[:, 0, :, :FRAME_CHANNELS] - still).abs().max() < 1e-5
    bonds = (positions[:, 0, 1:] - positions[:, 0, :-1]).norm(dim=-1)
    lengths = torch.cat([bonds[:, :1], bonds], dim=1)  # the first bead has the bond of the next
    assert (tokens[:, 0, :, BOND_LENGTH] - lengths).abs().max() < 1e-5


def test_a_mirror_image_has_other_tokens():
    positions = chains(1, 1, FRAMES, BEADS)
    mirrored = positions.clone()
    mirrored[:, 1:, :, 2] *= -1
    known, template = known_of(1, FRAMES, BEADS), positions[0, 0]
    tokens, _ = tokens_of(positions, known, template)
    others, _ = tokens_of(mirrored, known, template)
    assert (tokens - others)[:, 1:, :, TRANSLATION].abs().max() > 0.1
    whole, _ = tokens_of(positions * torch.tensor([1.0, 1.0, -1.0]), known, template)
    assert (tokens - whole).abs().max() > 0.1


def test_reference_is_the_first_known_frame_of_each_residue():
    positions, template = chains(2, 1, FRAMES, BEADS), chains(3, BEADS)
    known = torch.zeros(1, FRAMES, BEADS, dtype=torch.bool)
    known[0, 1, :4] = known[0, 3, 1:] = True
    # Every frame is the same conformation in another pose: stitched, it must be whole again.
    positions = moved(positions[:, :1].expand_as(positions), 4)
    reference = referenced(positions, known, template)
    assert reference.own.all()
    assert torch.equal(reference.positions_nm[0, :4], positions[0, 1, :4])
    within_later = torch.cdist(positions[0, 3, 4:], positions[0, 3, 4:])
    assert torch.allclose(
        torch.cdist(reference.positions_nm[0, 4:], reference.positions_nm[0, 4:]),
        within_later,
        atol=1e-5,
    )


def test_later_known_frames_are_placed_by_way_of_the_template():
    template = chains(3, BEADS)
    positions = moved(template.expand(1, FRAMES, BEADS, 3), 4)
    known = torch.zeros(1, FRAMES, BEADS, dtype=torch.bool)
    known[0, 1, :4] = known[0, 3, 3:] = True
    reference = referenced(positions, known, template)
    # All known parts are pieces of the template, so that together they are the key frame.
    assert torch.allclose(reference.positions_nm[0], positions[0, 1], atol=1e-5)


def test_a_residue_that_is_never_known_is_where_the_template_has_it():
    template = chains(6, BEADS)
    positions = moved(template.expand(1, FRAMES, BEADS, 3), 5)
    known = torch.zeros(1, FRAMES, BEADS, dtype=torch.bool)
    known[0, :, [0, 1, 2, 6]] = True
    reference = referenced(positions, known, template)
    assert reference.own[0].tolist() == [True, True, True, False, False, False, True]
    assert not reference.borrowed.any()
    # The known parts are pieces of the template, and so it is whole again.
    assert torch.allclose(reference.frames.origins[0], positions[0, 0], atol=1e-5)


def test_a_hidden_residue_borrows_the_nearest_known_frame():
    positions, template = chains(5, 1, FRAMES, BEADS), chains(6, BEADS)
    known = torch.zeros(1, FRAMES, BEADS, dtype=torch.bool)
    known[0, :, [0, 1, 2, 6]] = True
    hidden = ~known.any(dim=1)
    reference = reference_frames(positions, known, template, beads_of(positions), hidden)
    assert torch.equal(reference.borrowed, hidden)
    lender = [0, 1, 2, 2, 2, 6, 6]  # residue 4 is as near to 2 as to 6; the first is taken
    for residue, lent in enumerate(lender):
        frame, other = reference.frames[:, residue], reference.frames[:, lent]
        assert torch.equal(frame.origins, other.origins)
        assert torch.equal(frame.rotations, other.rotations)
    assert torch.equal(reference.frames.origins[0, 6], positions[0, 0, 6])


def test_without_anything_known_the_template_is_the_reference():
    positions, template = chains(7, 2, FRAMES, BEADS), chains(8, BEADS)
    known = torch.zeros(2, FRAMES, BEADS, dtype=torch.bool)
    reference = referenced(positions, known, template)
    assert not reference.own.any()
    assert torch.equal(reference.positions_nm, template.expand(2, BEADS, 3))
    tokens = encoded(superposed_on(positions, known, reference), reference)
    assert rmsd(decoded_of(tokens, reference), positions).max() < 1e-5


@pytest.mark.parametrize("case", ["forward", "stitched", "borrowed", "template"])
def test_unknown_cells_do_not_reach_the_reference(case: str):
    positions, template = chains(9, 1, FRAMES, BEADS), chains(10, BEADS)
    known = torch.zeros(1, FRAMES, BEADS, dtype=torch.bool)
    if case == "forward":
        known[0, 0] = True
    elif case == "stitched":
        known[0, 1, :4] = known[0, 3, 2:] = True
    elif case == "borrowed":
        known[0, :, [0, 1, 3, 6]] = True
    others = torch.where(known[..., None], positions, chains(11, 1, FRAMES, BEADS))
    first = referenced(positions, known, template)
    second = referenced(others, known, template)
    assert torch.equal(first.positions_nm, second.positions_nm)
    assert torch.equal(first.frames.rotations, second.frames.rotations)
    aligned = superposed_on(positions, known, first)
    again = superposed_on(others, known, second)
    assert torch.allclose(aligned[known], again[known], atol=1e-6)


def test_three_beads_in_a_line_still_give_finite_tokens_that_decode():
    line = torch.arange(4.0)[:, None] * torch.tensor([0.38, 0.0, 0.0])
    positions = torch.stack([line, line + 0.01 * chains(12, 4), line]).expand(1, 3, 4, 3)
    tokens, reference = tokens_of(positions, known_of(1, 3, 4), line)
    assert tokens.isfinite().all()
    assert rmsd(decoded_of(tokens, reference), positions).max() < 1e-5


def test_fewer_than_three_beads_are_refused():
    with pytest.raises(InputError, match="has 2 beads"):
        beads_of(torch.zeros(1, 3, 2, 3))


def measured(tokens: Tensor, elapsed: Tensor, times: Tensor) -> TokenScale:
    used = torch.ones_like(tokens, dtype=torch.bool)
    return TokenScale.measure(tokens, used, elapsed, torch.zeros(len(tokens)).bool(), times)


def not_borrowed(windows: Tensor) -> Tensor:
    return torch.zeros(len(windows), windows.shape[2], dtype=torch.bool)


def test_channels_that_mean_nothing_do_not_count():
    tokens = torch.randn(400, FRAME_CHANNELS, generator=generator(0))
    used = torch.ones_like(tokens, dtype=torch.bool)
    used[200:, 4] = False
    hidden, time, none = torch.where(used, tokens, 50.0), torch.ones(1), torch.zeros(400).bool()
    scale = TokenScale.measure(hidden, used, torch.ones(400), none, time)
    alone = measured(tokens[:200], torch.ones(200), time)
    assert torch.allclose(scale.mean[:, 4], alone.mean[:, 4], atol=1e-6)
    assert torch.allclose(scale.std[:, 4], alone.std[:, 4], atol=1e-6)


def test_scaled_tokens_have_zero_mean_and_unit_spread_at_each_time_and_come_back():
    elapsed = torch.tensor([1.0, 3.0, 10.0, 30.0, 100.0]).repeat(400)
    spread = 0.01 * elapsed.sqrt()[:, None]
    tokens = spread * torch.randn(2000, FRAME_CHANNELS, generator=generator(0)) + 1.0 + spread
    scale = measured(tokens, elapsed, elapsed[:5])
    windows, times = tokens.view(400, 5, 1, FRAME_CHANNELS), elapsed.view(400, 5, 1)
    scaled = scale.normalise(windows, times, not_borrowed(windows))
    assert scaled.mean(dim=0).abs().max() < 1e-3
    assert (scaled.std(dim=0) - 1).abs().max() < 1e-2
    assert torch.allclose(scale.restore(scaled, times, not_borrowed(windows)), windows, atol=1e-6)


def test_beyond_the_measured_times_the_scale_is_that_of_the_last():
    tokens = torch.randn(300, FRAME_CHANNELS, generator=generator(0))
    scale = measured(tokens, torch.full((300,), 2.0), torch.tensor([2.0]))
    at, windows = torch.tensor([[[0.0], [2.0], [torch.inf]]]), tokens[:3].view(1, 3, 1, -1)
    scaled = scale.normalise(windows, at, not_borrowed(windows))
    wanted = (tokens[:3] - tokens.mean(dim=0)) / tokens.std(dim=0, correction=0)
    assert torch.allclose(scaled[0, :, 0], wanted, atol=1e-5)


def test_a_time_without_tokens_takes_the_scale_of_the_nearest():
    tokens = 3.0 * torch.randn(300, FRAME_CHANNELS, generator=generator(0))
    times = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    scale = measured(tokens, torch.full((300,), 10.0), times)
    assert torch.equal(scale.std, scale.std[1:2].expand(5, -1))
    assert scale.std.mean() == pytest.approx(3.0, rel=0.1)


def test_residues_with_borrowed_frames_have_a_scale_of_their_own():
    tokens = torch.randn(400, FRAME_CHANNELS, generator=generator(0))
    borrowed = torch.arange(400) >= 200
    tokens[borrowed] = 5.0 + 2.0 * tokens[borrowed]
    used = torch.ones_like(tokens, dtype=torch.bool)
    scale = TokenScale.measure(tokens, used, torch.ones(400), borrowed, torch.ones(1))
    windows, at = tokens.view(2, 200, 1, -1), torch.ones(2, 200, 1)
    scaled = scale.normalise(windows, at, torch.tensor([[False], [True]]))
    assert scaled.mean(dim=1).abs().max() < 1e-3
    assert (scaled.std(dim=1) - 1).abs().max() < 1e-2


def test_beads_of_several_chains_are_refused():
    chain = BeadTopology.from_residues(("GLY",) * 6)
    two = replace(chain, chains=(0, 0, 0, 1, 1, 1), bonds=((0, 1), (1, 2), (3, 4), (4, 5)))
    with pytest.raises(InputError, match=r"has 2 chains; .* model\.resolution=heavy"):
        AlphaCarbons(two)
