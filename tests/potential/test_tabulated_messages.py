"""Messages through tables of filters: the spline is SciPy's, the loops are the plain messages."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from potential_molecules import make_frames
from scipy.interpolate import BSpline
from torch.autograd import gradcheck, gradgradcheck

from trajgen.geometry.internal import all_pairs
from trajgen.potential import frame_threads
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.pair_messages import pair_messages
from trajgen.potential.schnet import CGSchNet, NetworkSettings
from trajgen.potential.tabulated_messages import (
    SplineWeights,
    spline_coefficients,
    tabulated_messages,
)

INTERVALS = 6


def spline(table: torch.Tensor) -> BSpline:
    """Return the spline of the coefficients by SciPy, on knots 0, 1, …"""
    knots = np.arange(-3, len(table) + 1)
    return BSpline(knots, table.detach().numpy(), 3, extrapolate=False)


def example(frames: int = 3, beads: int = 4, width: int = 3, dtype: torch.dtype = torch.float64):
    random = torch.Generator().manual_seed(frames + beads + width)
    pairs = all_pairs(beads)
    table = torch.randn(INTERVALS + 3, width, generator=random, dtype=torch.float64)
    # Some lie beyond the last knot.
    places = 1.2 * INTERVALS * torch.rand(frames, len(pairs), generator=random, dtype=torch.float64)
    sources = torch.randn(frames, beads, width, generator=random, dtype=torch.float64)
    each = (table.to(dtype), places.to(dtype), sources.to(dtype))
    return *(tensor.requires_grad_() for tensor in each), pairs


@settings(deadline=None)
@given(
    order=st.integers(0, 4),
    places=st.lists(
        st.floats(-1, INTERVALS + 1).filter(lambda place: abs(place - round(place)) > 1e-6),
        min_size=1, max_size=8,
    ),
)  # fmt: skip
def test_weights_are_those_of_a_spline_and_of_its_derivatives(order, places):
    (table, *_), at = example(), torch.tensor(places, dtype=torch.float64)[:, None]
    weights = SplineWeights(at, INTERVALS, all_pairs(2))
    rows = table[weights.knots[..., None] + torch.arange(4)]
    ours = (weights.of_order(order)[..., None] * rows).sum(dim=-2)[:, 0]
    theirs = torch.from_numpy(np.nan_to_num(spline(table)(np.array(places), nu=order)))
    theirs[((at < 0) | (at > INTERVALS)).flatten()] = 0
    torch.testing.assert_close(ours, theirs)


@settings(deadline=None)
@given(
    frames=st.integers(0, 5),
    beads=st.integers(1, 7),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_messages_are_those_of_the_filters_of_each_pair(frames, beads, width, dtype):
    table, places, sources, pairs = example(frames, beads, width, dtype)
    filters = np.nan_to_num(spline(table)(places.detach().double().numpy()))
    filters[places.detach().numpy() > INTERVALS] = 0
    theirs = pair_messages(torch.from_numpy(filters).to(dtype), sources, pairs)
    ours = tabulated_messages(table, sources, SplineWeights(places, INTERVALS, pairs))
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_differences():
    *tensors, pairs = example()

    def messages(table, places, sources):
        return tabulated_messages(table, sources, SplineWeights(places, INTERVALS, pairs))

    assert gradcheck(messages, tensors)
    assert gradgradcheck(messages, tensors)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_frames(monkeypatch, threads):
    def gradients():
        table, places, sources, pairs = example(frames=7)
        found = tabulated_messages(table, sources, SplineWeights(places, INTERVALS, pairs))
        return found, *torch.autograd.grad(found.sin().sum(), (table, places, sources))

    plain = gradients()
    monkeypatch.setattr(frame_threads, "_NUMBERS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.testing.assert_close(gradients(), plain)


def test_cubics_are_their_own_spline_and_errors_fall_with_the_fourth_power():
    def error(function, intervals: int) -> float:
        knots = torch.arange(-2, intervals + 3, dtype=torch.float64) / intervals
        table = spline_coefficients(function(knots)[:, None])
        places = torch.linspace(0, intervals - 1e-9, 997, dtype=torch.float64)[:, None]
        weights = SplineWeights(places, intervals, all_pairs(2))
        rows = table[weights.knots[..., None] + torch.arange(4)][..., 0]
        found = (weights.of_order(0) * rows).sum(dim=-1)
        return float((found - function(places / intervals)).abs().max())

    assert error(lambda x: 2 - x + 3 * x**2 - x**3, 5) < 1e-12
    assert error(torch.sin, 20) / error(torch.sin, 40) == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize(("lower_nm", "handed"), [(0.0, True), (0.3, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("steepness", "bound"), [(1, 5e-5), (4, 5e-4)])
def test_a_network_learns_the_same_through_tables(lower_nm, handed, dtype, steepness, bound):
    """Forces, and the gradients of their squares by the weights, also in contact and far apart."""
    size = NetworkSettings(features=16, cutoff_lower_nm=lower_nm, handed=handed)
    frames = make_frames("YYDPETG", 64, seed=1)
    exact = CGSchNet(frames.topology, size, 2.5, seed=1).double()
    with torch.no_grad():
        for block in exact.blocks:
            block.filter_in.weight *= steepness
    positions_nm = torch.from_numpy(frames.positions_nm).double()
    positions_nm[0] *= 0.2
    positions_nm[1] *= 8.0

    def learned(network: CGSchNet, tabulated: bool):
        network.zero_grad()
        positions = positions_nm.to(network.embedding.dtype)
        energy = partial(network, tabulated=tabulated)
        _, forces = energy_and_forces(energy, positions, create_graph=True)
        forces.square().mean().backward()
        gradients = {name: w.grad for name, w in network.named_parameters() if w.grad is not None}
        return {"forces": forces.detach(), **{name: g.clone() for name, g in gradients.items()}}

    plain = learned(exact, tabulated=False)
    tabulated = learned(exact.to(dtype), tabulated=True)
    assert plain.keys() == tabulated.keys()
    for name, wanted in plain.items():
        assert (tabulated[name] - wanted).norm() < bound * wanted.norm(), name


def test_a_few_pairs_have_filters_of_their_own():
    frames = make_frames("GYDPE", 2, seed=1)
    network = CGSchNet(frames.topology, NetworkSettings(features=8), 2.5, seed=1)
    positions_nm = torch.from_numpy(frames.positions_nm)
    assert torch.equal(network(positions_nm), network(positions_nm, tabulated=True))


def test_what_is_not_a_number_stays_in_its_frame():
    table, places, sources, pairs = example(frames=3)
    with torch.no_grad():
        clean = tabulated_messages(table, sources, SplineWeights(places, INTERVALS, pairs))
        places[1, 0] = torch.nan
        found = tabulated_messages(table, sources, SplineWeights(places, INTERVALS, pairs))
    assert found[1, pairs[0]].isnan().all()
    torch.testing.assert_close(found[[0, 2]], clean[[0, 2]])


def test_a_table_of_another_grid_is_refused():
    table, places, sources, pairs = example()
    with pytest.raises(ValueError, match="9 rows for 7 intervals; give three rows more"):
        tabulated_messages(table, sources, SplineWeights(places, INTERVALS + 1, pairs))
