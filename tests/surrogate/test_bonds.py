import torch
from toy_chain import LAG_PS, TOPOLOGY, wobbling_chain

from trajgen.surrogate.bonds import project_bonds
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.encoded_windows import WindowTimes
from trajgen.surrogate.sampler import SamplerSettings
from trajgen.surrogate.surrogate import Surrogate

BONDS = torch.tensor(TOPOLOGY.bonds)


def chain() -> torch.Tensor:
    return torch.from_numpy(wobbling_chain(40, 1))


def lengths(positions: torch.Tensor) -> torch.Tensor:
    return (positions[..., 1:, :] - positions[..., :-1, :]).norm(dim=-1)


def test_data_are_not_touched():
    data = chain()
    mobile = torch.ones(data.shape[:2], dtype=torch.bool)
    assert torch.equal(project_bonds(data, BONDS, lengths(data), mobile), data)


def test_broken_chains_are_mended_and_stay_where_they_are():
    data = chain()
    wanted = lengths(chain().flip(0))
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    mobile = torch.ones(data.shape[:2], dtype=torch.bool)
    mended = project_bonds(data + noise, BONDS, wanted, mobile)
    assert (lengths(data + noise) - wanted).abs().max() > 0.05
    assert (lengths(mended) - wanted).abs().max() < 2e-3
    centre = (mended - data - noise).mean(dim=1)
    assert centre.abs().max() < 1e-5  # equal and opposite moves


def test_known_beads_do_not_move():
    data = chain() * 1.3
    mobile = torch.ones(data.shape[:2], dtype=torch.bool)
    mobile[:, 2] = False
    mended = project_bonds(data, BONDS, lengths(chain()), mobile)
    assert torch.equal(mended[:, 2], data[:, 2])
    assert (mended - data)[:, 3].abs().max() > 1e-3


def test_a_generated_window_has_the_bonds_of_the_data(surrogate: Surrogate):
    window = torch.from_numpy(wobbling_chain(6, 3))[None]
    known = forward_mask(6, TOPOLOGY.n_beads)[None]
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(*known.shape, surrogate.channels, generator=generator)
    times = WindowTimes.even(1, 6, LAG_PS, 300.0, torch.device("cpu"))
    low, high = surrogate.molecule.chain.bond_range_nm
    settings = SamplerSettings(evaluations=4)
    made = lengths(surrogate.complete(window, known, times, lambda: noise, settings))
    assert ((made > low - 5e-3) & (made < high + 5e-3)).all()
