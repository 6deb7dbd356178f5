"""The network: against a loop over beads, and what must not change its energy."""

import math

import numpy as np
import pytest
import torch
from potential_molecules import grow_chains

from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.potential.schnet import CGSchNet, NetworkSettings, cosine_cutoff
from trajgen.residues import parse_sequence
from trajgen.settings import parse_settings

SMALL = NetworkSettings(blocks=2, features=12, radial_functions=7)


def network(sequence: str = "GYDPET", settings: NetworkSettings = SMALL, seed: int = 1) -> CGSchNet:
    topology = BeadTopology.from_residues(parse_sequence(sequence))
    return CGSchNet(topology, settings, energy_scale=2.9, seed=seed).double()


def by_loops(net: CGSchNet, positions: np.ndarray) -> float:
    """Return the energy of one frame, bead by bead and pair by pair, in NumPy."""
    weights = {name: value.detach().numpy() for name, value in net.named_parameters()}

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        bias = weights.get(f"{name}.bias")
        y = weights[f"{name}.weight"] @ x
        return y if bias is None else y + bias

    lower, upper, n = 0.3, 1.2, len(positions)

    def filters(block: int, d: float) -> np.ndarray:
        if not lower < d < upper:
            return np.zeros(12)
        near = math.exp(-5 / (upper - lower) * (d - lower))
        basis = np.exp(-weights["basis.sharpness"] * (near - weights["basis.centres"]) ** 2)
        basis = basis * 0.5 * (math.cos(math.pi * d / upper) + 1)
        window = 0.5 * (1 - math.cos(2 * math.pi * (d - lower) / (upper - lower)))
        hidden = np.tanh(layer(f"blocks.{block}.filter_in", basis))
        return window * layer(f"blocks.{block}.filter_out", hidden)

    h = [weights["embedding"][t] for t in net.types.tolist()]
    for block in range(2):
        source = [layer(f"blocks.{block}.source", x) for x in h]
        change = []
        for i in range(n):
            message = np.zeros(12)
            for j in range(n):
                if j != i:
                    d = float(np.linalg.norm(positions[i] - positions[j]))
                    message += filters(block, d) * source[j]
            hidden = np.tanh(layer(f"blocks.{block}.target_in", message))
            change.append(layer(f"blocks.{block}.target_out", hidden))
        h = [x + c for x, c in zip(h, change, strict=True)]
    return 2.9 * sum(float(layer("head_out", np.tanh(layer("head_in", x)))[0]) for x in h)


def test_energy_agrees_with_a_loop_over_beads():
    net = network()
    chains = grow_chains(4, 6, seed=2)
    with torch.no_grad():
        energy = net(torch.from_numpy(chains)).numpy()
    np.testing.assert_allclose(energy, [by_loops(net, chain) for chain in chains], rtol=1e-10)


def test_beads_of_one_type_may_change_places():
    net = network("GYDGET")
    x = torch.from_numpy(grow_chains(3, 6, seed=3))
    swapped = x[:, [3, 1, 2, 0, 4, 5]]
    torch.testing.assert_close(net(swapped), net(x))
    other = x[:, [1, 0, 2, 3, 4, 5]]  # two types
    assert (net(other) - net(x)).abs().min() > 1e-6


def test_nothing_is_felt_beyond_the_cutoff_or_below_its_lower_end():
    net = network("GY")

    def at(distance_nm: float) -> float:
        x = torch.tensor([[[0.0, 0.0, 0.0], [distance_nm, 0.0, 0.0]]], dtype=torch.float64)
        return net(x).item()

    assert at(1.2) == at(5.0)
    assert at(0.05) == at(0.3)
    assert abs(at(0.7) - at(5.0)) > 1e-6


@pytest.mark.parametrize("lower", [0.0, 0.3])
def test_cutoff_goes_to_zero_without_a_kink(lower):
    d = torch.linspace(0.01, 1.4, 20_001, dtype=torch.float64, requires_grad=True)
    window = cosine_cutoff(d, lower, 1.2)
    (slope,) = torch.autograd.grad(window.sum(), d, create_graph=True)
    assert (window >= 0).all()
    assert window.max() <= 1
    assert slope.diff().abs().max() < 0.01  # the slope itself is continuous
    assert window[d >= 1.2].abs().max() == 0


def test_weights_follow_from_the_seed_and_touch_no_global_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = network(seed=1), network(seed=1), network(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    for (name, a), b, c in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        if name.endswith("weight") or name == "embedding":
            assert not torch.equal(a, c)


def test_cutoffs_in_the_wrong_order_are_refused():
    with pytest.raises(InputError, match=r"cutoff_lower_nm 1\.5 must be below"):
        parse_settings(NetworkSettings, {"cutoff_lower_nm": 1.5}, "test")
