"""The network: against a loop over beads, and what must not change its energy."""

import math

import numpy as np
import pytest
import torch
from potential_molecules import grow_chains

from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.geometry.internal import angles, dihedrals, distances
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.schnet import CGSchNet, NetworkSettings, cosine_cutoff
from trajgen.residues import parse_sequence
from trajgen.seeding import torch_generator
from trajgen.settings import parse_settings

SMALL = NetworkSettings(
    blocks=2, features=12, radial_functions=7, cutoff_lower_nm=0.3, cutoff_nm=1.2
)
FROM_ZERO = SMALL.model_copy(update={"cutoff_lower_nm": 0.0, "cutoff_nm": 1.5})
DISTANCES_ONLY = SMALL.model_copy(update={"handed": False})


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

    lower, upper, n = net.lower_nm, net.upper_nm, len(positions)

    def filters(block: int, d: float) -> np.ndarray:
        if not lower < d < upper:
            return np.zeros(12)
        near = math.exp(-5 / (upper - lower) * (d - lower))
        basis = np.exp(-weights["basis.sharpness"] * (near - weights["basis.centres"]) ** 2)
        basis = basis * 0.5 * (math.cos(math.pi * d / upper) + 1)
        window = 0.5 * (math.cos(math.pi * d / upper) + 1)
        if lower > 0:
            window = 0.5 * (1 - math.cos(2 * math.pi * (d - lower) / (upper - lower)))
        hidden = np.tanh(layer(f"blocks.{block}.filter_in", basis))
        return window * layer(f"blocks.{block}.filter_out", hidden)

    h = [weights["embedding"][t] for t in net.types.tolist()]
    if net.twist is not None:
        around = np.zeros((n, 4, 2))
        for first in range(n - 3):
            a, b, c = np.diff(positions[first : first + 4], axis=0) / 0.38
            s, t = a @ np.cross(b, c), np.cross(a, b) @ np.cross(b, c)
            for place in range(4):
                around[first + place, place] = s, t
        hidden = [np.tanh(layer("twist.inner", row.ravel())) for row in around]
        h = [x + layer("twist.outer", row) for x, row in zip(h, hidden, strict=True)]
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


@pytest.mark.parametrize("settings", [SMALL, DISTANCES_ONLY, FROM_ZERO])
def test_energy_agrees_with_a_loop_over_beads(settings):
    net = network(settings=settings)
    chains = grow_chains(4, 6, seed=2)
    with torch.no_grad():
        energy = net(torch.from_numpy(chains)).numpy()
    np.testing.assert_allclose(energy, [by_loops(net, chain) for chain in chains], rtol=1e-10)


def test_beads_of_one_type_may_change_places():
    net = network("GYDGET", DISTANCES_ONLY)
    x = torch.from_numpy(grow_chains(3, 6, seed=3))
    swapped = x[:, [3, 1, 2, 0, 4, 5]]
    torch.testing.assert_close(net(swapped), net(x))
    other = x[:, [1, 0, 2, 3, 4, 5]]  # two types
    assert (net(other) - net(x)).abs().min() > 1e-6


def test_only_a_handed_network_tells_a_chain_from_its_mirror_image():
    x = torch.from_numpy(grow_chains(6, 6, seed=4))
    mirrored = x * torch.tensor([1.0, 1.0, -1.0])
    blind, handed = network(settings=DISTANCES_ONLY), network()
    torch.testing.assert_close(blind(mirrored), blind(x), rtol=1e-12, atol=1e-12)
    assert (handed(mirrored) - handed(x)).abs().min() > 1e-4


def test_twist_is_the_dihedral_angle_times_the_sines_of_the_bond_angles():
    net = network()
    (chain,) = torch.from_numpy(grow_chains(1, 4, seed=6))
    twist = type(net.twist)(BeadTopology.from_residues(("GLY",) * 4), 8, torch_generator(1))
    twist.double()
    twist.inner.weight.data = torch.eye(8).double() * 1e-6  # tanh is then the identity
    twist.outer.weight.data = torch.eye(8).double() * 1e6
    found = twist(chain[None])[0].reshape(4, 4, 2)
    runs = torch.arange(4)[None]
    (phi,) = dihedrals(chain, runs)
    first, second = angles(chain, torch.tensor([[0, 1, 2], [1, 2, 3]])).sin()
    a, b, c = distances(chain, torch.tensor([[0, 1], [1, 2], [2, 3]])) / 0.38
    sines = a * b * c * first * second
    wanted = torch.stack([sines * phi.sin(), sines * b * phi.cos()])
    for bead in range(4):
        torch.testing.assert_close(found[bead, bead], wanted, rtol=1e-6, atol=1e-6)
        others = [place for place in range(4) if place != bead]
        assert found[bead, others].abs().max() == 0


def test_a_straight_chain_has_forces_and_so_has_one_that_is_nearly_straight():
    net = network("GYDPET")
    straight = torch.zeros(1, 6, 3, dtype=torch.float64)
    straight[0, :, 0] = 0.38 * torch.arange(6)
    for bend in (0.0, 1e-9, 1e-5):
        x = straight.clone()
        x[0, 2, 1] = bend
        _, forces = energy_and_forces(net, x)
        assert forces.isfinite().all()
    x = straight + 0.01 * torch.randn(straight.shape, generator=torch_generator(2)).double()
    assert torch.autograd.gradcheck(net, (x.requires_grad_(),), eps=1e-6, atol=1e-5)


def test_no_run_of_bonds_spans_two_chains():
    topology = BeadTopology(
        names=("CA",) * 6,
        residues=("GLY",) * 6,
        residue_numbers=(1, 2, 3) * 2,
        chains=(0, 0, 0, 1, 1, 1),
        bonds=((0, 1), (1, 2), (3, 4), (4, 5)),
    )
    net = CGSchNet(topology, SMALL, energy_scale=2.9, seed=1)
    assert len(net.twist.runs) == 0
    x = torch.from_numpy(grow_chains(2, 6, seed=3)).float()
    assert net(x).isfinite().all()


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
