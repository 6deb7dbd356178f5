"""Atoms that overlap are turned apart: what turns, what stays as it is, and how many are left."""

import numpy as np
import pytest
import torch
from test_heavy_atoms import CAPPED, FREE, made

from trajgen.geometry.internal import angles, distances
from trajgen.geometry.rotations import random_rotations
from trajgen.surrogate.heavy_atoms import TORSIONS
from trajgen.surrogate.resolutions import AllHeavyAtoms

SEQUENCE = "YVPTLW"
OMEGA = TORSIONS.index("omega")


def molecule(sequence: str = SEQUENCE, caps=FREE) -> tuple[AllHeavyAtoms, torch.Tensor]:
    """Return a molecule and the torsions of one conformation (float64)."""
    atoms, positions = made(sequence, caps)
    model = AllHeavyAtoms.measure(atoms, positions)
    return model, model.torsions(positions)


def tangled(model: AllHeavyAtoms, torsions: torch.Tensor, frames: int, spread: float = 0.8):
    """Return frames whose torsions are far off, many of them with overlaps, and how to build."""
    noise = torch.randn(
        frames, *torsions.shape[1:], generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    noise[..., OMEGA] = 0
    for residue, name in enumerate(model.beads.sequence):
        if name == "P":  # its ring is kept
            noise[:, residue] = 0
    asked = torsions + spread * noise * model.has_torsion

    def build(turned: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return model.geometry.build(model.chains[0].build(turned), turned)

    return asked, build(asked, torch.arange(frames)), build


def relieved(model: AllHeavyAtoms, asked, positions, build, held=None) -> torch.Tensor:
    held = torch.zeros(asked.shape[:2], dtype=torch.bool) if held is None else held
    return model.overlaps.relieved(positions, asked, held, build)


@pytest.mark.parametrize("caps", [FREE, CAPPED])
def test_what_a_torsion_is_said_to_move_is_what_it_moves(caps):
    model, torsions = molecule(caps=caps)
    overlaps, step = model.overlaps, 1e-3
    place = model.geometry.build(model.chains[0].build(torsions), torsions)
    slopes = overlaps._slopes(place) * overlaps.moved[..., None]
    for number, (residue, torsion) in enumerate(
        zip(overlaps.residues.tolist(), overlaps.torsions.tolist(), strict=True)
    ):
        ends = []
        for sign in (-1, 1):
            turned = torsions.clone()
            turned[:, residue, torsion] += sign * step
            built = model.geometry.build(model.chains[0].build(turned), turned)
            ends.append((built[:, :, None] - built[:, None]).norm(dim=-1))
        measured = (ends[1] - ends[0]) / (2 * step)
        between = place[:, :, None] - place[:, None]
        towards = torch.nn.functional.normalize(between, dim=-1)
        said = ((slopes[:, number, :, None] - slopes[:, number, None]) * towards).sum(dim=-1)
        torch.testing.assert_close(said, measured, atol=1e-5, rtol=0)


def test_rings_and_peptide_planes_never_turn():
    model, _ = molecule("GPWH")
    turns = torch.stack([model.overlaps.residues, model.overlaps.torsions], dim=1)
    names = {(residue, TORSIONS[torsion]) for residue, torsion in turns.tolist()}
    assert (1, "psi") in names
    assert not names & {(1, "phi"), (1, "chi1"), (1, "chi2")}
    assert {(2, "chi1"), (2, "chi2"), (3, "chi1"), (3, "chi2")} <= names
    assert "omega" not in {name for _, name in names}


def test_overlaps_are_gone_and_bonds_angles_and_planes_stay():
    model, torsions = molecule()
    asked, before, build = tangled(model, torsions, 300)
    present = model.overlaps.present(before)
    assert present.sum() > 60
    after = relieved(model, asked, before, build)
    assert model.overlaps.present(after).sum() < 0.05 * present.sum()
    assert torch.equal(after[~present], before[~present])
    bonds = torch.tensor(sorted(model.topology.bonds))
    torch.testing.assert_close(distances(after, bonds), distances(before, bonds), atol=2e-6, rtol=0)
    triples = torch.tensor(
        [(i, j, k) for i, j in bonds.tolist() for a, k in bonds.tolist() if a == j]
    )
    torch.testing.assert_close(angles(after, triples), angles(before, triples), atol=1e-4, rtol=0)
    turned = model.torsions(after)[..., OMEGA] - model.torsions(before)[..., OMEGA]
    assert torch.atan2(turned.sin(), turned.cos()).abs().max() < 1e-4


def test_a_frame_is_turned_no_further_than_it_takes():
    model, torsions = molecule()
    asked, before, build = tangled(model, torsions, 300, spread=0.5)
    present = model.overlaps.present(before)
    after = relieved(model, asked, before, build)
    away = model.torsions(after[present]) - asked[present]
    away = torch.atan2(away.sin(), away.cos())[..., 1:].abs()
    moving = model.has_torsion[:, 1:].expand_as(away)
    assert away[moving].median() < 0.1
    # Smaller moves than the turns that made the overlaps: half a radian each.
    assert away[moving].square().mean().sqrt() < 0.35


def test_a_frame_does_not_depend_on_its_company():
    model, torsions = molecule()
    asked, before, build = tangled(model, torsions, 120)
    together = relieved(model, asked, before, build)
    alone = torch.cat(
        [relieved(model, asked[i : i + 1], before[i : i + 1], build) for i in range(120)]
    )
    close = (together - alone).abs().amax(dim=(1, 2)) < 1e-3
    assert close.float().mean() > 0.97  # rounding decides where a frame stands between two ways out


def test_known_residues_keep_their_distances():
    model, torsions = molecule()
    asked, before, build = tangled(model, torsions, 200)
    held = torch.zeros(200, 6, dtype=torch.bool)
    held[:, 1:3] = True
    held[100:, 4] = True
    after = relieved(model, asked, before, build, held)
    for rows, known in ((slice(0, 100), [1, 2]), (slice(100, 200), [1, 2, 4])):
        atoms = torch.isin(model.site_residues, torch.tensor(known))
        torch.testing.assert_close(
            torch.cdist(after[rows, atoms], after[rows, atoms]),
            torch.cdist(before[rows, atoms], before[rows, atoms]),
            atol=5e-4, rtol=0,
        )  # fmt: skip
    present = model.overlaps.present(before)
    assert model.overlaps.present(after).sum() < 0.9 * present.sum()
    everything = relieved(model, asked, before, build, torch.ones_like(held))
    assert torch.equal(everything, before)


def test_heavy_atoms_are_untangled_where_they_lie():
    model, torsions = molecule(caps=CAPPED)
    _, before, _ = tangled(model, torsions, 100, spread=0.5)
    turn = random_rotations(100, torch.Generator().manual_seed(4), torch.float64)
    before = before @ turn.mT + 3.0
    held = torch.zeros(10, 10, 6, dtype=torch.bool)
    after = model.untangled(before.view(10, 10, *before.shape[1:]), held).flatten(0, 1)
    present = model.overlaps.present(before)
    assert present.sum() > 10
    assert model.overlaps.present(after).sum() <= 0.05 * present.sum()
    assert torch.equal(after[~present], before[~present])
    moved = (after - before)[present].norm(dim=-1)
    assert moved[:, model.pose_sites].mean() < moved[:, ~model.pose_sites].mean() < 0.1


def test_frames_that_are_not_finite_pass_through():
    model, torsions = molecule("GG")
    asked, before, build = tangled(model, torsions, 3)
    before[1] = torch.nan
    after = relieved(model, asked, before, build)
    np.testing.assert_array_equal(after.numpy(), before.numpy())
