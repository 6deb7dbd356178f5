"""The backbone chain: round trips, its derivative, and the minimum between frames and torsions."""

import pytest
import torch
from test_heavy_atoms import made

from trajgen.geometry.rotations import random_rotations
from trajgen.surrogate import backbone_chain
from trajgen.surrogate.backbone_chain import BackboneChain
from trajgen.surrogate.heavy_atoms import TORSIONS, HeavyAtoms

SEQUENCE = "GYDPETW"


@pytest.fixture
def folded() -> tuple[BackboneChain, torch.Tensor, torch.Tensor]:
    """Return a chain, twenty conformations of it in random poses, and their torsions."""
    atoms, positions = made(SEQUENCE)
    molecule = HeavyAtoms.of(atoms)
    chain = BackboneChain.measure(positions[:, molecule.backbone])
    generator = torch.Generator().manual_seed(0)
    drawn = 6.3 * torch.rand(20, len(SEQUENCE), 7, generator=generator, dtype=torch.float64)
    torsions = torch.atan2(drawn.sin(), drawn.cos())
    torsions[..., TORSIONS.index("omega")] = torch.pi
    rotations = random_rotations(20, generator, torch.float64)[:, None]
    return chain, chain.build(torsions) @ rotations.mT + 2.0, torsions


def in_chain(torsions: torch.Tensor) -> torch.Tensor:
    return backbone_chain._chain_torsions(torsions)


def free(backbone: torch.Tensor) -> torch.Tensor:
    return torch.zeros(backbone.shape[:2], dtype=torch.bool)


def apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    away = in_chain(one) - in_chain(other)
    return torch.atan2(away.sin(), away.cos()).abs()


def test_a_structure_is_built_from_its_torsions():
    atoms, positions = made(SEQUENCE)
    molecule = HeavyAtoms.of(atoms)
    backbone, torsions = positions[:, molecule.backbone], molecule.torsions(positions)
    chain = BackboneChain.measure(backbone)
    placed, found = chain.fit(backbone, torsions, free(backbone))
    assert (placed - backbone).norm(dim=-1).max() < 1e-6
    assert apart(found, torsions).max() < 1e-6


def test_built_chains_have_the_geometry_and_the_torsions(folded):
    chain, backbone, torsions = folded
    again = BackboneChain.measure(backbone)
    torch.testing.assert_close(again.lengths_nm, chain.lengths_nm)
    torch.testing.assert_close(again.angles, chain.angles)
    placed, found = chain.fit(backbone, torsions, free(backbone))
    assert (placed - backbone).norm(dim=-1).max() < 1e-6
    assert apart(found, torsions).max() < 1e-6


def test_frames_and_torsions_that_disagree_meet_between(folded):
    chain, backbone, torsions = folded
    generator = torch.Generator().manual_seed(1)
    noise = 0.02 * torch.randn(backbone.shape, generator=generator, dtype=torch.float64)
    turned = 0.1 * torch.randn(torsions.shape, generator=generator, dtype=torch.float64)
    shaken, asked = backbone + noise, torsions + turned
    placed, found = chain.fit(shaken, asked, free(shaken))
    again = BackboneChain.measure(placed)
    torch.testing.assert_close(again.lengths_nm, chain.lengths_nm)
    torch.testing.assert_close(again.angles, chain.angles)
    # Nearer to the truth than either of the two, and on the same chain.
    assert (placed - backbone).square().mean() < 0.5 * noise.square().mean()
    assert apart(found, torsions).square().mean() < 0.8 * in_chain(turned).square().mean()
    # At the minimum: no small change of a torsion makes the sum of squares smaller.
    best = cost(placed, found, shaken, asked)
    for size in (1e-3, -1e-3):
        for number in range(torsions.shape[1] - 1):
            changed = found.clone()
            changed[:, number, TORSIONS.index("psi")] += size
            assert (
                cost(
                    chain.place(changed, shaken, free(shaken)),
                    changed,
                    shaken,
                    asked,
                )
                >= best
            ).all()


def cost(
    placed: torch.Tensor, found: torch.Tensor, wanted: torch.Tensor, asked: torch.Tensor
) -> torch.Tensor:
    away = (placed.flatten(1, -2) - wanted.flatten(1, -2)).square().sum(dim=(1, 2))
    turned = apart(found, asked).square().sum(dim=1)
    return away / backbone_chain.FRAME_ERROR_NM**2 + turned / backbone_chain.TORSION_ERROR**2


def test_known_residues_stay_where_they_are(folded):
    chain, backbone, torsions = folded
    generator = torch.Generator().manual_seed(1)
    noise = 0.05 * torch.randn(backbone.shape, generator=generator, dtype=torch.float64)
    held = torch.zeros(backbone.shape[:2], dtype=torch.bool)
    held[:, [0, 3, 4]] = True
    noise[held] = 0.0
    placed, _ = chain.fit(backbone + noise, torsions, held)
    assert (placed - backbone)[held].norm(dim=-1).max() < 0.01
    assert (placed - backbone)[~held].norm(dim=-1).max() > 0.01


def test_slopes_are_the_derivatives_of_the_chain(folded):
    chain, _, torsions = folded
    turns = in_chain(torsions)[:1]

    def place(values: torch.Tensor) -> torch.Tensor:
        empty = torch.zeros(1, len(SEQUENCE), 7, dtype=torch.float64)
        return chain.build(backbone_chain._with_chain_torsions(empty, values)).flatten(1, 2)

    wanted = torch.autograd.functional.jacobian(lambda v: place(v).flatten(), turns).squeeze(1)
    slopes = backbone_chain._slopes(place(turns))[0, :, : turns.shape[1]]
    torch.testing.assert_close(slopes, wanted, atol=1e-9, rtol=1e-6)


def test_a_single_residue_is_placed_by_its_frame():
    atoms, positions = made("W")
    backbone = positions[:, HeavyAtoms.of(atoms).backbone]
    chain = BackboneChain.measure(backbone)
    placed, _ = chain.fit(backbone, torch.zeros(1, 1, 7, dtype=torch.float64), free(backbone))
    assert (placed - backbone).norm(dim=-1).max() < 1e-6
