"""Langevin dynamics: temperature, exactness of BAOAB, order, conservation, lost chains."""

import numpy as np
import pytest
import torch
from potential_molecules import TEMPERATURE_K, grow_chains

from trajgen.errors import InputError
from trajgen.potential.langevin import Baoab, SimulationSettings, simulate
from trajgen.progress import Progress, ProgressTask

K_B = 8.31446261815324e-3


def oscillators(integrator: Baoab, stiffness: float, steps: int, chains: int) -> tuple:
    """Return positions and velocities of harmonic beads after each step."""
    generator = torch.Generator().manual_seed(1)

    def normal() -> torch.Tensor:
        return torch.randn(chains, 10, 3, generator=generator, dtype=torch.float64)

    def field(x: torch.Tensor) -> torch.Tensor:
        return -stiffness * x

    x = normal() * (integrator.kT / stiffness) ** 0.5
    v = normal() * (integrator.kT / integrator.mass_amu) ** 0.5
    f = field(x)
    xs, vs = [], []
    for _ in range(steps):
        x, v, f = integrator.step(x, v, f, normal(), field)
        xs.append(x)
        vs.append(v)
    return torch.stack(xs), torch.stack(vs)


def test_positions_of_an_oscillator_are_exact_and_velocities_as_predicted():
    # Leimkuhler and Matthews 2013: <x²> = kT/k at any step; <v²> = kT/m (1 - (ωh)²/4).
    kT, mass, stiffness, h = 2.9, 12.0, 1_200.0, 0.08
    integrator = Baoab(h, friction_per_ps=5.0, kT=kT, mass_amu=mass)
    x, v = oscillators(integrator, stiffness, steps=400, chains=100)
    assert x.square().mean().item() == pytest.approx(kT / stiffness, rel=0.01)
    expected = kT / mass * (1 - stiffness / mass * h**2 / 4)  # 0.84 of equipartition
    assert v.square().mean().item() == pytest.approx(expected, rel=0.01)


def test_kinetic_energy_is_three_halves_kT_a_bead_at_a_small_step():
    kT, mass = 2.9, 12.0
    integrator = Baoab(0.01, friction_per_ps=5.0, kT=kT, mass_amu=mass)
    _, v = oscillators(integrator, stiffness=1_200.0, steps=300, chains=200)
    kinetic = 0.5 * mass * v.square().sum(dim=(2, 3)).mean().item()
    assert kinetic == pytest.approx(1.5 * 10 * kT, rel=0.01)


def test_velocities_are_taken_from_a_wrong_temperature_to_the_right_one():
    integrator = Baoab(0.01, friction_per_ps=10.0, kT=2.9, mass_amu=12.0)
    v = torch.zeros(200, 10, 3, dtype=torch.float64)
    x = f = v
    generator = torch.Generator().manual_seed(2)
    for _ in range(100):  # ten friction times
        noise = torch.randn(v.shape, generator=generator, dtype=torch.float64)
        x, v, f = integrator.step(x, v, f, noise, torch.zeros_like)
    assert v.square().mean().item() == pytest.approx(2.9 / 12.0, rel=0.05)


def test_without_friction_an_orbit_is_followed_to_second_order():
    stiffness, mass, time = 1_200.0, 12.0, 0.4
    omega = (stiffness / mass) ** 0.5
    errors = []
    for steps in (40, 80):
        integrator = Baoab(time / steps, friction_per_ps=0.0, kT=2.9, mass_amu=mass)
        x = torch.full((1, 1, 3), 0.1, dtype=torch.float64)
        v, f = torch.zeros_like(x), -stiffness * x
        for _ in range(steps):
            x, v, f = integrator.step(x, v, f, torch.ones_like(x), lambda y: -stiffness * y)
        errors.append((x - 0.1 * np.cos(omega * time)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_without_friction_the_energy_of_a_potential_is_kept_to_second_order(make_potential):
    potential = make_potential()
    start = torch.from_numpy(grow_chains(4, 6, seed=6))
    spreads = []
    for h, steps in ((0.002, 100), (0.001, 200)):
        integrator = Baoab(h, friction_per_ps=0.0, kT=2.9, mass_amu=12.0)

        def field(x: torch.Tensor) -> torch.Tensor:
            return potential.energy_and_forces(x)[1]

        x, v, f = start, torch.zeros_like(start), field(start)
        energies = []
        for _ in range(steps):
            x, v, f = integrator.step(x, v, f, torch.zeros_like(x), field)
            energies.append(potential.energy(x) + 6.0 * v.square().sum(dim=(1, 2)))
        spreads.append(torch.stack(energies).std(dim=0).mean().item())
    assert spreads[1] < 0.5  # kJ/mol, of tens that change hands
    assert spreads[0] / spreads[1] == pytest.approx(4, rel=0.3)


def test_bond_is_sampled_from_its_boltzmann_density(make_potential):
    potential = make_potential("GY").float()
    potential.network.head_out.weight.data.zero_()  # the bond prior alone
    starts = np.repeat(grow_chains(1, 2, seed=1), 2_000, axis=0).astype(np.float32)
    settings = SimulationSettings(steps=400, save_every=50, friction_per_ps=20.0)
    rollouts = simulate(potential, starts, settings, seed=4)
    assert rollouts.alive.all()
    bonds = np.linalg.norm(np.diff(rollouts.positions_nm[:, 3:], axis=2), axis=-1)
    k = potential.priors.bond.stiffness.item()
    r0 = potential.priors.bond.length_nm.item()
    r = np.linspace(r0 - 0.06, r0 + 0.06, 4_001)
    density = r**2 * np.exp(-0.5 * k * (r - r0) ** 2 / (K_B * TEMPERATURE_K))
    mean = np.average(r, weights=density)
    variance = np.average((r - mean) ** 2, weights=density)
    assert bonds.mean() == pytest.approx(mean, abs=4 * (variance / bonds.size) ** 0.5 + 1e-5)
    assert bonds.var() == pytest.approx(variance, rel=0.05)


def test_another_temperature_widens_the_bond(make_potential):
    potential = make_potential("GY").float()
    starts = np.repeat(grow_chains(1, 2, seed=1), 600, axis=0).astype(np.float32)
    widths = []
    for temperature in (None, 2 * TEMPERATURE_K):
        settings = SimulationSettings(
            steps=250, save_every=50, friction_per_ps=20.0, temperature_K=temperature
        )
        positions = simulate(potential, starts, settings, seed=4).positions_nm[:, 3:]
        widths.append(np.linalg.norm(np.diff(positions, axis=2), axis=-1).var())
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.2)


def test_same_seed_same_bits_and_another_seed_another_path(make_potential):
    potential = make_potential().float()
    starts = grow_chains(3, 6, seed=8).astype(np.float32)
    settings = SimulationSettings(steps=60, save_every=20)
    first, again, other = (simulate(potential, starts, settings, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.positions_nm, again.positions_nm)
    assert not np.allclose(first.positions_nm, other.positions_nm, atol=1e-3)
    assert first.positions_nm.shape == (3, 3, 6, 3)
    assert first.time_step_ps == pytest.approx(0.08)


def test_saving_more_often_changes_no_path(make_potential):
    potential = make_potential().float()
    starts = grow_chains(3, 6, seed=8).astype(np.float32)
    often = simulate(potential, starts, SimulationSettings(steps=60, save_every=20), seed=1)
    once = simulate(potential, starts, SimulationSettings(steps=60, save_every=60), seed=1)
    # Chains are centred where they are saved, which costs a rounding.
    np.testing.assert_allclose(once.positions_nm[:, -1], often.positions_nm[:, -1], atol=1e-4)


def test_a_chain_draws_the_same_noise_in_any_company(make_potential):
    potential = make_potential().float()
    starts = grow_chains(5, 6, seed=8).astype(np.float32)
    settings = SimulationSettings(steps=40, save_every=20)
    many = simulate(potential, starts, settings, seed=1)
    few = simulate(potential, starts[:2], settings, seed=1)
    np.testing.assert_allclose(few.positions_nm, many.positions_nm[:2], atol=1e-4)


def test_a_chain_that_explodes_is_lost_and_changes_no_other_bit(make_potential, caplog):
    potential = make_potential().float()
    starts = grow_chains(4, 6, seed=9).astype(np.float32)
    doomed = starts.copy()
    doomed[2, 3] = doomed[2, 0] + np.float32(0.01)  # two beads in one place, bonds still whole
    doomed[2, 4:] += doomed[2, 3] - starts[2, 3]
    assert np.linalg.norm(np.diff(doomed[2], axis=0), axis=-1).max() < 1.0
    settings = SimulationSettings(steps=60, save_every=15)
    calm = simulate(potential, starts, settings, seed=3)
    with caplog.at_level("WARNING"):
        wild = simulate(potential, doomed, settings, seed=3)
    others = [0, 1, 3]
    assert wild.positions_nm[others].tobytes() == calm.positions_nm[others].tobytes()
    assert wild.alive[others].all()
    assert not wild.alive[2].any()
    assert np.isnan(wild.positions_nm[2]).all()
    assert wild.n_lost == 4
    assert "1 of 4 chains exploded" in caplog.text


def test_when_all_chains_are_lost_the_rest_is_marked_so(make_potential):
    potential = make_potential().float()
    starts = grow_chains(1, 6, seed=9).astype(np.float32)
    starts[0, 3] = starts[0, 0] + np.float32(0.01)
    starts[0, 4:] = starts[0, 3] + np.array([[0.38, 0, 0], [0.38, 0.38, 0]], dtype=np.float32)
    rollouts = simulate(potential, starts, SimulationSettings(steps=50, save_every=10), seed=3)
    assert rollouts.alive.shape == (1, 5)
    assert not rollouts.alive.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :4], "wanted is \\(chains, 6, 3\\)"),
        (lambda x: x[:0], "with a chain or more"),
        (lambda x: np.where(np.arange(6)[:, None] == 2, np.nan, x), "has a NaN"),
        (lambda x: 10 * x, "beyond 1.0 nm"),
    ],
)
def test_starts_that_do_not_fit_are_refused(make_potential, change, message):
    starts = change(grow_chains(2, 6, seed=1)).astype(np.float32)
    with pytest.raises(InputError, match=message):
        simulate(make_potential().float(), starts, SimulationSettings(), seed=1)


def test_fewer_steps_than_a_saved_frame_takes_are_refused(make_potential):
    starts = grow_chains(2, 6, seed=1).astype(np.float32)
    with pytest.raises(InputError, match="no frame would be saved"):
        simulate(
            make_potential().float(), starts, SimulationSettings(steps=5, save_every=10), seed=1
        )


def test_progress_is_told_all_steps(make_potential):
    told: list[int] = []

    class Task(ProgressTask):
        def advance(self, steps: int = 1, status: str = "") -> None:
            told.append(steps)

    class Listener(Progress):
        def task(self, label: str, total: int, done: int = 0) -> ProgressTask:
            assert total == 30
            return Task()

    starts = grow_chains(2, 6, seed=1).astype(np.float32)
    settings = SimulationSettings(steps=34, save_every=10)
    simulate(make_potential().float(), starts, settings, seed=1, progress=Listener())
    assert told == [10, 10, 10]
