"""Simulations: densities, seeds, company of other chains, and chains that break."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dynamics_fields import PairField, Poisoned, pair_starts, z_of
from potential_molecules import TEMPERATURE_K, grow_chains, without_network

from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.potential.dynamics import simulation as loop
from trajgen.potential.dynamics.force_field import force_field
from trajgen.potential.dynamics.noise import NOISE_BLOCK, ChainNoise
from trajgen.potential.dynamics.outcome import report_of
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.dynamics.simulation import Simulation, _warn_of_chains
from trajgen.progress import Progress, ProgressTask

K_B = 8.31446261815324e-3


# --- densities ---------------------------------------------------------------------------------


def test_bond_is_sampled_from_its_boltzmann_density(make_potential):
    potential = without_network(make_potential("GY").float())
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


@pytest.mark.parametrize(
    "settings",
    [
        SimulationSettings(steps=600, save_every=30, friction_per_ps=20.0, time_step_ps=0.01),
        SimulationSettings(integrator="overdamped", steps=600, save_every=30, time_step_ps=0.05),
    ],
)
def test_a_double_well_is_sampled_from_its_density(make_potential, monkeypatch, settings):
    # Steps of a fifth of the largest stable one, where Euler's method would be far off.
    well = PairField(barrier=2.0 * K_B * TEMPERATURE_K, stiffness=500.0)
    monkeypatch.setattr(loop, "force_field", lambda potential: well)
    sides = np.where(np.arange(2_000) % 2, 0.15, -0.15)
    rollouts = simulate(make_potential("GY"), pair_starts(2_000, sides), settings, seed=6)
    z = z_of(rollouts.positions_nm[:, 10:])
    for power in (2, 4):
        expected = well.mean(lambda z, p=power: z**p, TEMPERATURE_K)
        assert (z**power).mean() == pytest.approx(expected, rel=0.025)
    on_top = well.mean(lambda z: np.abs(z) < 0.05, TEMPERATURE_K)
    assert (np.abs(z) < 0.05).mean() == pytest.approx(on_top, rel=0.07)
    # Configurational temperature <|∇U|²> / <∇²U> of z (Rugh, Phys. Rev. Lett. 78, 772 (1997)).
    d = torch.zeros(*z.shape, 3, dtype=torch.float64)
    d[..., 2] = torch.from_numpy(z)
    slope = well.slope(d)[..., 2].numpy()
    curvature = 4 * well.barrier / well.well_nm**2 * (3 * (z / well.well_nm) ** 2 - 1)
    measured = (slope**2).mean() / curvature.mean() / K_B
    assert measured == pytest.approx(TEMPERATURE_K, rel=0.05)


def test_both_integrators_sample_the_same_ensemble_of_a_potential(make_potential):
    potential = without_network(make_potential("GYD").float())
    starts = np.repeat(grow_chains(2, 3, seed=1), 120, axis=0).astype(np.float32)
    means = []
    for name in ("langevin", "overdamped"):
        # The mobility of overdamped chains is small, so they get more of the time step.
        settings = SimulationSettings(
            integrator=name, steps=600, save_every=30, time_step_ps=0.006,
            friction_per_ps=20.0 if name == "langevin" else None,
        )  # fmt: skip
        positions = simulate(potential, starts, settings, seed=4).positions_nm[:, 12:]
        ends = np.linalg.norm(positions[:, :, 2] - positions[:, :, 0], axis=-1)
        bonds = np.linalg.norm(np.diff(positions, axis=2), axis=-1)
        means.append((ends.mean(), ends.std(), bonds.mean(), bonds.std()))
    np.testing.assert_allclose(means[0], means[1], rtol=0.08)


def test_another_temperature_widens_the_bond_and_warns(make_potential, caplog):
    potential = without_network(make_potential("GY").float())
    starts = np.repeat(grow_chains(1, 2, seed=1), 600, axis=0).astype(np.float32)
    widths = []
    for temperature in (None, 2 * TEMPERATURE_K):
        caplog.clear()
        settings = SimulationSettings(
            steps=250, save_every=50, friction_per_ps=20.0, temperature_K=temperature
        )
        positions = simulate(potential, starts, settings, seed=4).positions_nm[:, 3:]
        widths.append(np.linalg.norm(np.diff(positions, axis=2), axis=-1).var())
        assert ("at 700 K, but" in caplog.text) == (temperature is not None)
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.2)


# --- seeds and company -------------------------------------------------------------------------


def test_same_seed_same_bits_and_another_seed_another_path(make_potential):
    potential = make_potential().float()
    starts = grow_chains(3, 6, seed=8).astype(np.float32)
    settings = SimulationSettings(steps=60, save_every=20)
    first, again, other = (simulate(potential, starts, settings, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.positions_nm, again.positions_nm)
    assert not np.allclose(first.positions_nm, other.positions_nm, atol=1e-3)
    assert first.positions_nm.shape == (3, 3, 6, 3)
    assert first.time_step_cg_ps == pytest.approx(0.08)


def test_frames_have_a_clock_of_their_own(make_potential):
    starts = grow_chains(2, 6, seed=8).astype(np.float32)
    settings = SimulationSettings(steps=20, save_every=10)
    rollouts = simulate(make_potential().float(), starts, settings, seed=1)
    assert rollouts.time_step_ps is None
    assert rollouts.to_frames().time_step_ps is None


def test_saving_more_often_changes_no_path(make_potential):
    potential = make_potential().float()
    starts = grow_chains(3, 6, seed=8).astype(np.float32)
    often = simulate(potential, starts, SimulationSettings(steps=60, save_every=20), seed=1)
    once = simulate(potential, starts, SimulationSettings(steps=60, save_every=60), seed=1)
    # Chains are centred where they are saved, which costs a rounding.
    np.testing.assert_allclose(once.positions_nm[:, -1], often.positions_nm[:, -1], atol=1e-4)


def test_noise_is_that_of_a_chain_and_a_step(make_potential):
    like = torch.zeros(1, dtype=torch.float64)
    all_chains = ChainNoise(5, range(8), 1, 4, like)
    one = ChainNoise(5, [3], 1, 4, like)
    steps = (0, 1, NOISE_BLOCK - 1, NOISE_BLOCK, 5, 3 * NOISE_BLOCK + 2)
    rows = [one.of_step(step) for step in steps]
    for step, row in zip(steps, rows, strict=True):
        torch.testing.assert_close(all_chains.of_step(step)[3:4], row, rtol=0, atol=0)
    assert len({row.sum().item() for row in [*rows, one.first(), all_chains.first()[2:3]]}) == 8
    many = ChainNoise(6, range(400), 1, 4, like)
    drawn = torch.stack([many.of_step(step) for step in range(20)])
    assert drawn.mean().item() == pytest.approx(0, abs=0.013)
    assert drawn.var().item() == pytest.approx(1, abs=0.02)


def run_to(simulation: Simulation, step: int) -> Simulation:
    """Go on until a step at which the simulation may be stored."""
    for _ in simulation.run(ProgressTask()):
        if simulation.step >= step:
            break
    return simulation


def begin(potential, starts: np.ndarray, numbers: list[int], steps: int) -> Simulation:
    settings = SimulationSettings(steps=steps, save_every=steps // 4)
    return Simulation(potential, starts[numbers], settings, seed=2, numbers=numbers)


@pytest.mark.slow
def test_a_chain_follows_the_same_path_in_any_company(make_potential):
    potential = make_potential("GYDP", blocks=1, features=8)
    starts = grow_chains(8, 4, seed=8).astype(np.float32)
    ends = []
    for numbers in (list(range(8)), [3], [7, 3, 5]):
        simulation = run_to(begin(potential, starts, numbers, 1_000), 333)
        after = begin(potential, starts, numbers, 1_000)
        after.restore(simulation.step, simulation.tensors())
        run_to(after, 1_000)
        assert after.step == 1_000
        assert after.state.positions_nm.dtype == torch.float64
        ends.append(after.state.positions_nm[numbers.index(3)])
    torch.testing.assert_close(ends[1], ends[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(ends[2], ends[0], atol=1e-9, rtol=0)


@pytest.mark.parametrize("integrator", ["langevin", "overdamped"])
@pytest.mark.parametrize("split", [20, NOISE_BLOCK, 100])
def test_a_simulation_goes_on_from_its_tensors_bit_for_bit(make_potential, integrator, split):
    potential = make_potential(blocks=1, features=8).float()
    starts = grow_chains(3, 6, seed=8).astype(np.float32)
    tempering = {"temperatures_K": (400.0,), "exchange_every": 10}
    settings = SimulationSettings(
        steps=140, save_every=20, integrator=integrator, tempering=tempering
    )
    whole = run_to(Simulation(potential, starts, settings, seed=2), 140)
    first = run_to(Simulation(potential, starts, settings, seed=2), split)
    after = Simulation(potential, starts, settings, seed=2)
    after.restore(first.step, first.tensors())
    run_to(after, 140)
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, after.tensors()[name]), name
    assert report_of(after) == report_of(whole)


# --- chains that break -------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", ["langevin", "overdamped"])
@pytest.mark.parametrize(
    ("force", "reason"), [(3e6, "bond beyond 1 nm"), (np.nan, "not finite"), (np.inf, "not finite")]
)
def test_a_chain_that_breaks_is_frozen_and_changes_no_other_bit(
    make_potential, monkeypatch, caplog, force, reason, integrator
):
    potential = make_potential().float()
    starts = grow_chains(4, 6, seed=9).astype(np.float32)
    settings = SimulationSettings(steps=60, save_every=15, integrator=integrator)
    # A bond of the same length takes more force where it moves slowly.
    force = 100 * force if integrator == "overdamped" else force
    calm = simulate(potential, starts, settings, seed=3)
    poisoned = Poisoned(force_field(potential), chain=2, evaluation=38, force=force)
    monkeypatch.setattr(loop, "force_field", lambda potential: poisoned)
    wild = simulate(potential, starts, settings, seed=3)
    others = [0, 1, 3]
    assert wild.positions_nm[others].tobytes() == calm.positions_nm[others].tobytes()
    assert wild.alive.tolist() == [[True] * 4, [True] * 4, [True, True, False, False], [True] * 4]
    assert wild.positions_nm[2, :2].tobytes() == calm.positions_nm[2, :2].tobytes()
    assert np.isnan(wild.positions_nm[2, 2:]).all()
    # The evaluation at the start is the first, so the 38th belongs to step 37 and acts in step 38.
    (loss,) = wild.losses
    assert (loss.chain, loss.step, loss.reason) == (2, 38, reason)
    assert loss.last_frames_nm.shape == (3, 6, 3)
    np.testing.assert_array_equal(loss.last_frames_nm[:2], wild.positions_nm[2, :2])
    monkeypatch.undo()
    until = SimulationSettings(steps=37, save_every=37, integrator=integrator)
    held = simulate(potential, starts, until, seed=3).positions_nm[2, 0]
    np.testing.assert_allclose(loss.last_frames_nm[2], held, atol=1e-5)
    assert poisoned.longest_nm < 1.0  # the potential never sees a broken chain
    assert f"chain 2 exploded in step 38: {reason}" in caplog.text
    assert "1 of 4 chains exploded" in caplog.text


@pytest.mark.parametrize("rungs", [1, 2])
def test_many_chains_that_break_are_one_line_of_the_log(make_potential, caplog, rungs):
    potential = without_network(make_potential().float())
    starts = np.repeat(grow_chains(1, 6, seed=9), 8, axis=0).astype(np.float32)
    starts[:7, 3:] += starts[:7, :1] - starts[:7, 3:4] + np.float32(0.001)  # two beads in one place
    tempering = {"temperatures_K": (400.0,), "exchange_every": 100} if rungs == 2 else None
    settings = SimulationSettings(steps=50, save_every=10, tempering=tempering)
    rollouts = simulate(potential, starts, settings, seed=3)
    assert [loss.chain for loss in rollouts.losses] == list(range(7))
    assert "chain 0 exploded" not in caplog.text
    what = "7 chains" if rungs == 1 else "14 replicas of chains"
    first, last = (f(loss.step for loss in rollouts.losses) for f in (min, max))
    assert (first, last) == (1, 1)
    assert f"{what} exploded in steps 1 to 1: " in caplog.text
    assert "7 of 8 chains exploded; their later frames are left out" in caplog.text


@pytest.mark.parametrize(("evaluation", "frames"), [(1, 1), (3, 1), (31, 2), (32, 3), (59, 3)])
def test_the_last_good_frames_are_all_different(make_potential, monkeypatch, evaluation, frames):
    potential = make_potential().float()
    starts = grow_chains(1, 6, seed=9).astype(np.float32)
    poisoned = Poisoned(force_field(potential), 0, evaluation, np.nan)
    monkeypatch.setattr(loop, "force_field", lambda potential: poisoned)
    settings = SimulationSettings(steps=60, save_every=15)
    (loss,) = simulate(potential, starts, settings, seed=3).losses
    assert loss.step == evaluation
    assert len(loss.last_frames_nm) == frames
    assert len(np.unique(loss.last_frames_nm, axis=0)) == frames


def test_a_start_with_two_beads_in_one_place_is_lost_at_once(make_potential):
    potential = make_potential().float()
    starts = grow_chains(2, 6, seed=9).astype(np.float32)
    starts[0, 3] = starts[0, 0] + np.float32(0.01)
    starts[0, 4:] = starts[0, 3] + np.array([[0.38, 0, 0], [0.38, 0.38, 0]], dtype=np.float32)
    rollouts = simulate(potential, starts, SimulationSettings(steps=50, save_every=10), seed=3)
    assert rollouts.alive.tolist() == [[False] * 5, [True] * 5]
    assert rollouts.n_lost == 5
    assert rollouts.losses[0].step == 1
    np.testing.assert_allclose(
        rollouts.losses[0].last_frames_nm[0], starts[0] - starts[0].mean(axis=0), atol=1e-6
    )


def test_when_all_chains_are_lost_the_rest_is_marked_so(make_potential):
    potential = make_potential().float()
    starts = grow_chains(1, 6, seed=9).astype(np.float32)
    starts[0, 3] = starts[0, 0] + np.float32(0.01)
    starts[0, 4:] = starts[0, 3] + np.array([[0.38, 0, 0], [0.38, 0.38, 0]], dtype=np.float32)
    settings = SimulationSettings(steps=1_000, save_every=200)
    rollouts = simulate(potential, starts, settings, seed=3)
    assert rollouts.alive.shape == (1, 5)
    assert not rollouts.alive.any()


# --- what is given -----------------------------------------------------------------------------


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
    settings = SimulationSettings(steps=5, save_every=10)
    with pytest.raises(InputError, match="no frame would be saved"):
        simulate(make_potential().float(), starts, settings, seed=1)


def test_another_number_of_numbers_is_refused(make_potential):
    starts = grow_chains(2, 6, seed=1).astype(np.float32)
    with pytest.raises(InputError, match="numbers has 3 entries for 2 chains"):
        simulate(make_potential().float(), starts, SimulationSettings(), 1, numbers=[0, 1, 2])


def test_overdamped_dynamics_without_friction_is_refused():
    with pytest.raises(ValueError, match="friction_per_ps above 0"):
        SimulationSettings(integrator="overdamped", friction_per_ps=0.0)


def test_progress_is_told_all_steps(make_potential):
    told: list[int] = []

    class Task(ProgressTask):
        def advance(self, steps: int = 1, status: str = "") -> None:
            told.append(steps)

    class Listener(Progress):
        def task(
            self, label: str, total: int, done: int = 0, limit_s: float | None = None
        ) -> ProgressTask:
            assert total == 30
            return Task()

    starts = grow_chains(2, 6, seed=1).astype(np.float32)
    settings = SimulationSettings(steps=34, save_every=10)
    simulate(make_potential().float(), starts, settings, seed=1, progress=Listener())
    assert told == [10, 10, 10]


def test_steps_after_the_last_saved_frame_are_said_to_be_left_out(make_potential, caplog):
    starts = grow_chains(2, 6, seed=1).astype(np.float32)
    for steps, said in ((34, True), (30, False)):
        caplog.clear()
        settings = SimulationSettings(steps=steps, save_every=10)
        simulate(make_potential().float(), starts, settings, seed=1)
        told = "steps is 34 and save_every 10: the 4 steps after the last saved frame are left out"
        assert (told in caplog.text) == said


def test_of_several_chains_it_is_said_that_nothing_holds_them(caplog):
    chain = BeadTopology.from_residues(("GLY", "ALA", "GLY", "ALA"))
    _warn_of_chains(chain)
    assert caplog.text == ""
    _warn_of_chains(replace(chain, chains=(0, 0, 1, 1), bonds=((0, 1), (2, 3))))
    assert "the 2 chains of the molecule are held together by nothing but" in caplog.text
