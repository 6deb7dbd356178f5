"""The geometry of an unseen molecule is that of residues alike, or its own without such."""

import torch
from test_heavy_atoms import CAPPED, FREE, made

from al.molecule.settings import CapSettings
from trajgen.surrogate.resolutions import AllHeavyAtoms
from trajgen.surrogate.similar_residues import with_geometry_of_similar


def measured(sequence: str, caps: CapSettings = FREE, spread_nm: float = 0.0) -> AllHeavyAtoms:
    atoms, positions = made(sequence, caps)
    generator = torch.Generator().manual_seed(1)
    noise = spread_nm * torch.randn(positions.shape, generator=generator).to(positions)
    return AllHeavyAtoms.measure(atoms, positions + noise)


def test_all_of_it_is_that_of_the_same_residues():
    for caps in (FREE, CAPPED):
        known = measured("YGPDG", caps)
        own = measured("YGPDG", caps, spread_nm=0.01)
        mended = with_geometry_of_similar(own, [known]).tensors()
        for name, values in known.tensors().items():
            away = (
                (mended[name] - values).norm(dim=-1) if values.ndim > 1 else mended[name] - values
            )
            if caps is CAPPED and name == "local_nm":
                of_caps = [n for n, r in enumerate(own.topology.atom_residues) if r in (0, 6)]
                assert away[of_caps].max() > 1e-3  # caps keep their own
                away[of_caps] = 0
            assert away.abs().max() < 1e-12, name
            assert (own.tensors()[name] - values).abs().max() > 1e-3


def test_it_is_the_mean_over_residues_alike():
    known = [measured("AGYGA"), measured("AGYGA", spread_nm=0.01)]
    mended = with_geometry_of_similar(measured("VGYGV", spread_nm=0.02), known)
    lengths = [one.chains[0].lengths_nm[2] for one in known]
    torch.testing.assert_close(mended.chains[0].lengths_nm[2], torch.stack(lengths).mean(dim=0))


def test_a_residue_at_another_place_or_with_other_neighbours_is_not_alike():
    own = measured("WGPW", spread_nm=0.01)
    mended = with_geometry_of_similar(own, [measured("GAW"), measured("AGAGA")])
    geometry, before = mended.geometry, own.geometry
    # G before proline, and W at the begin: only W at the end is alike.
    ends = [atom for atom, residue in enumerate(own.topology.atom_residues) if residue == 3]
    away = (geometry.local_nm - before.local_nm).norm(dim=-1)
    assert away[ends].max() > 1e-3
    assert torch.equal(geometry.backbone_nm[:3], before.backbone_nm[:3])
    away[ends] = 0
    assert away.max() == 0
