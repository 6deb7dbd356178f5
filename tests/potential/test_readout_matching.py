"""The readout is solved for: closed forms, and an ensemble that nothing else has learnt."""

import numpy as np
import pytest
import torch
from potential_molecules import make_frames, write_dataset
from scipy.stats import wasserstein_distance
from test_ensemble_matching import CPU, ends_apart
from test_force_matching import labelled_frames, small

from trajgen.data.records import BeadFrames
from trajgen.errors import WorkError
from trajgen.files import read_json
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.ensemble_settings import EnsembleSettings, ReadoutSettings
from trajgen.potential.fit import fit_potential
from trajgen.potential.fit_report import report_lines
from trajgen.potential.potential import Potential
from trajgen.potential.readout_matching import solve_readout
from trajgen.units import thermal_energy


def normal(count: int, dimensions: int = 3) -> np.ndarray:
    """Normal numbers of mean exactly 0 and covariance exactly 1."""
    numbers = np.random.default_rng(0).normal(size=(count, dimensions))
    numbers -= numbers.mean(axis=0)
    return numbers @ np.linalg.inv(np.linalg.cholesky(np.cov(numbers.T, bias=True))).T


def equal(count: int) -> np.ndarray:
    return np.ones(count)


def test_of_a_gaussian_the_change_is_the_shift_of_the_mean():
    # exp(-x²/2 - δ x) is a Gaussian about -δ, which is δ²/2 away in relative entropy.
    mean = np.array([0.3, -0.2, 0.0])
    change, match = solve_readout(normal(200_000), equal(200_000), mean[None], equal(1), 1e-6)
    np.testing.assert_allclose(change, -mean, atol=0.01)
    assert match.gained_kT == pytest.approx(mean @ mean / 2, rel=0.05)
    assert match.effective_share == pytest.approx(np.exp(-mean @ mean), rel=0.02)
    assert (match.samples, match.components) == (200_000, 3)


def test_the_means_of_the_data_are_met_with_weights_of_both():
    rng = np.random.default_rng(1)
    chains = rng.gamma(2, size=(3000, 4)) @ rng.normal(size=(4, 4))
    data = chains[:900]
    weights, data_weights = rng.uniform(0.5, 1.5, 3000), rng.uniform(0.5, 1.5, 900)
    change, _ = solve_readout(chains, weights, data, data_weights, 1e-9)
    shares = weights * np.exp(-(chains - chains.mean(axis=0)) @ change)
    wanted = np.average(data, axis=0, weights=data_weights)
    np.testing.assert_allclose(np.average(chains, axis=0, weights=shares), wanted, atol=1e-4)


def test_numbers_that_say_the_same_twice_share_the_change():
    chains = normal(5000)
    doubled = np.column_stack([chains, chains[:, :1], np.full(5000, 7.0)])
    wanted = np.array([[0.2, 0.1, 0.0]])
    alone, _ = solve_readout(chains, equal(5000), wanted, equal(1), 0.01)
    both, match = solve_readout(doubled, equal(5000), np.c_[wanted, 0.2, 7.0], equal(1), 0.01)
    assert match.components == 3
    np.testing.assert_allclose(doubled @ both, chains @ alone, atol=1e-6)


def test_noise_does_not_drive_members_apart():
    """Two members that say nearly the same, of chains that already are the data."""
    rng = np.random.default_rng(3)
    said = rng.normal(size=(6000, 8))
    row = np.concatenate([said, said + 1e-3 * rng.normal(size=said.shape)], axis=1)
    chains, data = row[:3000], row[3000:]
    change, _ = solve_readout(chains, equal(3000), data, equal(3000), 0.01, members=2)
    first, second = data[:, :8] @ change[:8], data[:, 8:] @ change[8:]
    assert np.std(first - second) < 0.1
    assert np.std(first + second) < 0.3
    together, _ = solve_readout(chains, equal(3000), data, equal(3000), 0.01)
    assert np.std(data[:, :8] @ together[:8] - data[:, 8:] @ together[8:]) > 1  # what it was


def test_shrinkage_keeps_the_readout_where_it_was():
    wanted = np.array([[0.2, 0.0, 0.0]])
    change, _ = solve_readout(normal(5000), equal(5000), wanted, equal(1), 1.0)
    assert change[0] == pytest.approx(-0.1, abs=0.01)


def test_a_change_that_few_samples_would_bear_is_held_back():
    far = np.array([[4.0, 0.0, 0.0]])
    change, match = solve_readout(normal(5000), equal(5000), far, equal(1), 0.01)
    assert match.effective_share >= 0.5
    assert match.shrinkage > 0.01
    assert -4 < change[0] < -0.3


def test_numbers_that_are_not_finite_are_refused():
    chains = normal(50)
    chains[3, 1] = np.nan
    with pytest.raises(WorkError, match="readout=null"):
        solve_readout(chains, equal(50), normal(5), equal(5), 0.01)


@pytest.mark.parametrize("members", [1, 3])
def test_the_energy_is_linear_in_the_readout(make_potential, members):
    potential = make_potential("GYDPET", committee=members)
    network, positions = potential.network, torch.randn(7, 6, 3, dtype=torch.float64)
    kT = thermal_energy(potential.temperature_K)
    readout, before = network.readout(positions), network(positions)
    held = torch.cat([member.head_out.weight[0] for member in network.networks()])
    torch.testing.assert_close(kT * readout @ held, before)
    change = torch.randn(len(held), dtype=torch.float64)
    network.shift_readout(change)
    torch.testing.assert_close(network(positions) - before, kT * readout @ change)


def test_an_ensemble_is_learnt_by_the_readout_alone(tmp_path):
    # Chains whose ends are near each other, and a network that is as it was drawn.
    frames = make_frames("GYDP", 4000, seed=1)
    near = np.exp(-(((ends_apart(frames.positions_nm) - 0.6) / 0.15) ** 2))
    noise = np.random.default_rng(0).normal(0, 300, frames.positions_nm.shape).astype(np.float32)
    weighted = BeadFrames(
        frames.topology, frames.positions_nm, frames.segments, forces=noise, weights=near
    )
    dataset = write_dataset(tmp_path / "data", weighted)
    settings = small(steps=2, learning_rate=1e-9, validate_every=2)

    def distance_nm(readout: ReadoutSettings | None) -> float:
        ensemble = EnsembleSettings(chains=64, steps=20, readout=readout)
        whole = settings.model_copy(update={"ensemble": ensemble})
        out = fit_potential(dataset, tmp_path / str(readout is None), whole, 1, CPU)
        dynamics = SimulationSettings(steps=1000, save_every=20)
        rolled = simulate(Potential.load(out, CPU), frames.positions_nm[:64], dynamics, seed=3)
        late, all_nm = ends_apart(rolled.positions_nm[:, 20:]), ends_apart(frames.positions_nm)
        return float(wasserstein_distance(late, all_nm, v_weights=near))

    before, after = distance_nm(None), distance_nm(ReadoutSettings(steps=1500))
    assert after < 0.02
    assert after < 0.5 * before


def test_the_card_and_the_report_tell_of_it(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    ensemble = EnsembleSettings(
        chains=8, frames=8, steps=3, readout=ReadoutSettings(steps=48)
    )  # sixteen updates, of which the first two are left out
    settings = small(steps=4).model_copy(update={"ensemble": ensemble})
    card = read_json(fit_potential(dataset, tmp_path / "out", settings, 3, CPU) / "card.json")
    assert card["readout"]["samples"] == 112
    assert card["readout"]["effective_share"] >= 0.4
    (line,) = [line for line in report_lines(card) if line.startswith("  readout")]
    assert "of 112 samples effective" in line
