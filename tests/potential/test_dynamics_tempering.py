"""Parallel tempering: ladders, acceptance in closed form, and the density of the base replica."""

import itertools

import numpy as np
import pytest
import torch
from dynamics_fields import K_B, PairField, pair_starts, z_of
from potential_molecules import TEMPERATURE_K, grow_chains
from scipy.stats import beta

from trajgen.errors import InputError
from trajgen.potential.dynamics import simulation as loop
from trajgen.potential.dynamics.integrators import Baoab
from trajgen.potential.dynamics.outcome import report_of
from trajgen.potential.dynamics.settings import SimulationSettings, TemperingSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.dynamics.simulation import Simulation
from trajgen.potential.dynamics.state import State
from trajgen.potential.dynamics.tempering import Exchange
from trajgen.progress import ProgressTask


def oscillators(chains: int, beads: int, temperatures_K: list[float], seed: int) -> State:
    """Return harmonic beads in equilibrium, chain by chain at each temperature, U = |x|²/2."""
    generator = torch.Generator().manual_seed(seed)
    kT = torch.tensor(temperatures_K, dtype=torch.float64).repeat(chains) * K_B
    scale = kT.sqrt()[:, None, None]
    x = scale * torch.randn(len(kT), beads, 3, generator=generator, dtype=torch.float64)
    v = scale * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    alive = torch.ones(len(kT), dtype=torch.bool)
    return State(x, v, -x, 0.5 * x.square().sum(dim=(1, 2)), alive, 0 * alive.long(), 0 * kT)


def integrator_of(temperatures_K: list[float], chains: int) -> Baoab:
    kT = torch.tensor(temperatures_K, dtype=torch.float64).repeat(chains) * K_B
    return Baoab(0.01, 1.0, kT[:, None, None], 1.0)


def test_acceptance_of_oscillators_is_that_of_their_energies():
    # Two gamma distributed energies: P = 2 P(U_low > U_high) = 2 (1 - I_q(a, a)) with
    # q = T_high / (T_low + T_high) and a half the degrees of freedom.
    chains, beads, ladder = 4_000, 4, [300.0, 400.0, 460.0, 700.0]
    state = oscillators(chains, beads, ladder, seed=1)
    exchange = Exchange(3, range(chains), ladder, state.positions_nm)
    integrator = integrator_of(ladder, chains)
    exchange.apply(state, 0, integrator)
    exchange.apply(state, 1, integrator)  # the odd pair
    assert exchange.attempted.tolist() == [chains] * 3
    for share, (low, high) in zip(exchange.acceptance(), itertools.pairwise(ladder), strict=True):
        expected = 2 * (1 - beta.cdf(high / (low + high), 1.5 * beads, 1.5 * beads))
        assert share == pytest.approx(expected, abs=4 * (expected / chains) ** 0.5)


def test_an_exchange_moves_whole_configurations_and_keeps_each_equilibrium():
    chains, beads, ladder = 3_000, 2, [300.0, 350.0, 430.0]
    state = oscillators(chains, beads, ladder, seed=2)
    exchange = Exchange(3, range(chains), ladder, state.positions_nm)
    after = exchange.apply(state, 0, integrator_of(ladder, chains))
    before_x, after_x = (s.positions_nm.reshape(chains, 3, -1) for s in (state, after))
    swapped = (after_x[:, 0] == before_x[:, 1]).all(dim=1)
    kept = (after_x[:, 0] == before_x[:, 0]).all(dim=1)
    assert (swapped ^ kept).all()
    assert swapped.sum() == exchange.accepted[0]
    assert 0.5 * chains < swapped.sum() < chains
    assert torch.equal(after_x[:, 2], before_x[:, 2])  # even pairs first
    torch.testing.assert_close(after.forces, -after.positions_nm)
    torch.testing.assert_close(after.energies, 0.5 * after.positions_nm.square().sum(dim=(1, 2)))
    for values in (after.positions_nm, after.carried):
        means = values.square().reshape(chains, 3, -1).mean(dim=(0, 2)) / K_B
        np.testing.assert_allclose(means.numpy(), ladder, rtol=0.05)
    stays = kept[:, None, None, None]
    own_v, new_v = (s.carried.reshape(chains, 3, beads, 3) for s in (state, after))
    assert torch.equal(torch.where(stays, new_v, 0), torch.where(stays, own_v, 0))
    torch.testing.assert_close(
        new_v[swapped, 0], own_v[swapped, 1] * (300.0 / 350.0) ** 0.5, rtol=1e-12, atol=0
    )


def test_a_broken_replica_exchanges_nothing():
    ladder = [300.0, 310.0]
    state = oscillators(200, 2, ladder, seed=2)
    state.alive[1::4] = False
    exchange = Exchange(3, range(200), ladder, state.positions_nm)
    after = exchange.apply(state, 0, integrator_of(ladder, 200))
    assert exchange.attempted.tolist() == [100]
    assert 50 < exchange.accepted.item() <= 100
    broken = ~state.alive | ~state.alive.reshape(-1, 2).flip(1).flatten()
    assert torch.equal(after.positions_nm[broken], state.positions_nm[broken])


@pytest.mark.parametrize("integrator", ["langevin", "overdamped"])
def test_the_base_replica_has_its_density_where_it_alone_would_not_cross(
    make_potential, monkeypatch, integrator
):
    # A barrier of 8 kT between wells of unequal depth, and all chains in the upper one.
    kT = K_B * TEMPERATURE_K
    well = PairField(barrier=8 * kT, stiffness=500.0, tilt=0.4 * kT)
    monkeypatch.setattr(loop, "force_field", lambda potential: well)
    chains = 250
    starts = pair_starts(chains, np.full(chains, -0.15))
    settings = SimulationSettings(
        steps=1_500, save_every=25, integrator=integrator,
        time_step_ps=0.012 if integrator == "langevin" else 0.1,
        friction_per_ps=4.0 if integrator == "langevin" else 200.0,
        tempering=TemperingSettings(replicas=5, highest_K=8 * TEMPERATURE_K, exchange_every=5),
    )  # fmt: skip
    alone = settings.model_copy(update={"tempering": None})
    potential = make_potential("GY")
    stuck = z_of(simulate(potential, starts, alone, seed=2).positions_nm[:, 30:])
    assert (stuck > 0).mean() < 0.15
    z = z_of(simulate(potential, starts, settings, seed=2).positions_nm[:, 30:])
    lower = well.mean(lambda z: z > 0, TEMPERATURE_K)
    assert lower == pytest.approx(0.69, abs=0.01)
    # One crossing a chain or so: the share has the error of some hundred independent chains.
    assert (z > 0).mean() == pytest.approx(lower, abs=0.06)
    inside = np.abs(z)
    for power in (2, 4):
        expected = well.mean(lambda z, p=power: np.abs(z) ** p, TEMPERATURE_K)
        assert (inside**power).mean() == pytest.approx(expected, rel=0.03)


def test_every_replica_of_a_simulation_has_its_own_temperature(make_potential, monkeypatch):
    spring = PairField(barrier=0.0, stiffness=2_000.0)
    monkeypatch.setattr(loop, "force_field", lambda potential: spring)
    chains, ladder = 600, (TEMPERATURE_K, 450.0, 600.0)
    settings = SimulationSettings(
        steps=400, save_every=10, friction_per_ps=10.0,
        tempering=TemperingSettings(temperatures_K=ladder[1:], exchange_every=4),
    )  # fmt: skip
    potential = make_potential("GY")
    potential.priors.bond.length_nm.zero_()  # that of the spring
    simulation = Simulation(potential, pair_starts(chains, np.zeros(chains)), settings, 1)
    spread = []
    for frame in simulation.run(ProgressTask()):
        if frame is not None and simulation.step > 100:
            d = simulation.state.positions_nm.diff(dim=1).reshape(chains, 3, 3)
            spread.append(d.square().mean(dim=(0, 2)))
    measured = torch.stack(spread).mean(dim=0) * spring.stiffness / K_B
    np.testing.assert_allclose(measured.numpy(), ladder, rtol=0.03)
    thermometer = simulation.thermometer
    np.testing.assert_allclose(thermometer.kinetic.measured_K(3), ladder, rtol=0.03)
    np.testing.assert_allclose(thermometer.configurational.measured_K(3), ladder, rtol=0.06)
    # Three harmonic degrees of freedom: a = 3/2.
    for share, (low, high) in zip(
        simulation.exchange.acceptance(), itertools.pairwise(ladder), strict=True
    ):
        expected = 2 * (1 - beta.cdf(high / (low + high), 1.5, 1.5))
        assert share == pytest.approx(expected, abs=0.02)
    report = report_of(simulation)["tempering"]
    assert report["temperatures_K"] == list(ladder)
    assert report["attempted"] == [chains * 50] * 2


def test_a_chain_of_a_ladder_takes_the_same_path_in_any_company(make_potential):
    potential = make_potential(blocks=1, features=8)
    starts = grow_chains(4, 6, seed=8).astype(np.float32)
    settings = SimulationSettings(
        steps=80, save_every=80, tempering={"temperatures_K": (380.0, 420.0), "exchange_every": 8}
    )
    ends = []
    for numbers in ([0, 1, 2, 3], [2]):
        simulation = Simulation(potential, starts[numbers], settings, 1, numbers=numbers)
        list(simulation.run(ProgressTask()))
        ends.append(simulation.state.positions_nm.reshape(-1, 3, 6, 3)[numbers.index(2)])
    torch.testing.assert_close(ends[0], ends[1], atol=1e-9, rtol=0)


def test_a_broken_hot_replica_leaves_the_base_alive_and_is_reported(
    make_potential, monkeypatch, caplog
):
    potential = make_potential().float()
    starts = grow_chains(2, 6, seed=9).astype(np.float32)
    calls = itertools.count()

    def field(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energies, forces = potential.energy_and_forces(positions)
        if next(calls) == 7:
            forces[3] = np.nan  # the hot replica of chain 1
        return energies, forces

    monkeypatch.setattr(loop, "force_field", lambda potential: field)
    settings = SimulationSettings(
        steps=40, save_every=10, tempering={"temperatures_K": (360.0,), "exchange_every": 5}
    )
    simulation = Simulation(potential, starts, settings, seed=1)
    list(simulation.run(ProgressTask()))
    assert simulation.state.alive.tolist() == [True, True, True, False]
    assert report_of(simulation)["losses"] == [
        {"chain": 1, "temperature_K": 360.0, "step": 8, "reason": "not finite"}
    ]
    assert report_of(simulation)["tempering"]["attempted"] == [8 + 1]


def test_a_ladder_rises_by_one_factor():
    ladder = TemperingSettings(replicas=4, highest_K=600.0).ladder(300.0)
    np.testing.assert_allclose(ladder, 300.0 * 2 ** (np.arange(4) / 3))
    assert TemperingSettings(temperatures_K=(310.0, 330.0)).ladder(300.0) == (300.0, 310.0, 330.0)
    assert SimulationSettings().ladder(300.0) == (300.0,)


@pytest.mark.parametrize(
    "given", [{}, {"replicas": 4}, {"highest_K": 400.0},
              {"replicas": 4, "highest_K": 400.0, "temperatures_K": (310.0,)}]
)  # fmt: skip
def test_half_a_ladder_is_refused(given):
    with pytest.raises(ValueError, match="replicas and highest_K, or by temperatures_K"):
        TemperingSettings(**given)


@pytest.mark.parametrize(
    "given", [{"replicas": 4, "highest_K": 290.0}, {"temperatures_K": (300.0, 310.0)},
              {"temperatures_K": (320.0, 310.0)}]
)  # fmt: skip
def test_a_ladder_that_does_not_rise_is_refused(given):
    with pytest.raises(InputError, match="rise from that of the simulation, 300 K"):
        TemperingSettings(**given).ladder(300.0)
