"""Ensemble matching: an ensemble is learnt from coordinates alone, exactly again after a kill."""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from potential_molecules import TEMPERATURE_K, make_frames, write_dataset
from scipy.stats import wasserstein_distance
from test_force_matching import CHILD, LAUNCHED, labelled_frames, small

from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.errors import InputError, WorkError
from trajgen.files import read_json
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.dynamics.time_step import warn_before
from trajgen.potential.ensemble_matching import (
    EquilibriumFrames,
    SimulatedChains,
    energy_gap,
    share_of_process,
)
from trajgen.potential.ensemble_settings import EnsembleSettings
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.potential.potential import Potential
from trajgen.seeding import derive_seed

CPU = torch.device("cpu")
EVERYONE = slice(None)


def matching(ensemble: dict[str, object] | None = None, **training: object) -> FitSettings:
    few = {"chains": 16, "frames": 16, "steps": 3, "readout": {"steps": 12}, **(ensemble or {})}
    return small(**training).model_copy(update={"ensemble": EnsembleSettings.model_validate(few)})


def ends_apart(positions_nm: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions_nm[..., -1, :] - positions_nm[..., 0, :], axis=-1).ravel()


def test_frames_are_drawn_by_their_weights():
    positions = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    frames = EquilibriumFrames.of(positions, np.array([1.0, 0.0, 3.0, 4.0]))
    counts = np.bincount(frames.draw(8000, seed=1)[:, 0, 0].int().numpy(), minlength=4)
    expected = 8000 * np.array([1, 0, 3, 4]) / 8
    assert counts[1] == 0
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()
    equal = EquilibriumFrames.of(positions, None).draw(8000, seed=1)[:, 0, 0]
    assert equal.mean() == pytest.approx(1.5, abs=0.1)


def test_the_gap_is_zero_for_equal_ensembles_and_knows_no_offset():
    energies = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    equal = torch.ones(5)
    assert energy_gap(energies, energies, equal, kT=2.0).abs().max() == 0
    higher = energy_gap(energies + 3.0, energies, equal, kT=2.0)
    torch.testing.assert_close(higher, torch.full((2,), 1.5))
    first = energy_gap(energies, energies, torch.tensor([5.0, 0, 0, 0, 0]), kT=2.0)
    torch.testing.assert_close(first, (energies.mean(dim=1) - energies[:, 0]) / 2)


def test_a_draw_takes_one_frame_from_each_stratum():
    positions = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    frames = EquilibriumFrames.of(positions, np.array([1.0, 0.0, 3.0, 4.0]))
    counts = np.bincount(frames.draw(8, seed=3)[:, 0, 0].int().numpy(), minlength=4)
    assert counts.tolist() == [1, 0, 3, 4]


@pytest.fixture
def chains(make_potential):
    potential = make_potential("GYDPET").float()
    frames = EquilibriumFrames.of(make_frames("GYDPET", 40, seed=2).positions_nm, None)
    settings = EnsembleSettings(chains=6, frames=4, steps=5)
    return SimulatedChains(potential, frames, settings, 1, CPU)


def test_a_chain_that_explodes_is_set_back_to_the_data_and_touches_no_other(make_potential, chains):
    potential = make_potential("GYDPET").float()
    twin = SimulatedChains(potential, chains.frames, chains.settings, 1, CPU)
    twin.velocities[2, 0] = 1e6
    for each in (chains, twin):
        each.advance(0, EVERYONE)
    assert (chains.restarted, twin.restarted) == (0, 1)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(chains.positions_nm[others], twin.positions_nm[others])
    drawn = chains.frames.draw(1, derive_seed(1, "ensemble-restart", 0, 0))
    assert torch.equal(twin.positions_nm[2], drawn[0])
    assert twin.velocities[2].abs().max() < 5


def test_chains_that_run_hot_end_the_fit_with_a_remedy(make_potential, chains):
    potential = make_potential("GYDPET").float()
    settings = chains.settings.model_copy(update={"time_step_ps": 0.02, "steps": 2})
    potential.priors.bond.stiffness.fill_(2e5)  # a bond that 0.011 ps is the end of
    torn = SimulatedChains(potential, chains.frames, settings, 1, CPU)

    def go_on():
        for update in range(20):
            torn.advance(update, EVERYONE)

    with pytest.raises(WorkError, match=r"times as hot .* set ensemble.time_step_ps below 0.02"):
        go_on()


def test_chains_follow_the_weights_of_the_potential(make_potential, chains):
    potential = make_potential("GYDPET").float()
    changed = SimulatedChains(potential, chains.frames, chains.settings, 1, CPU)
    scale_head(potential, 20)
    for each in (chains, changed):
        each.advance(0, EVERYONE)
    assert not torch.allclose(chains.positions_nm, changed.positions_nm, atol=1e-5)


def scale_head(potential: Potential, factor: float) -> None:
    with torch.no_grad():
        for network in potential.member_networks():
            network.head_out.weight.mul_(factor)


def test_weights_of_chains_are_those_of_reweighting(make_potential):
    # Steps so small that the chains stay where they are.
    potential = make_potential("GYDPET").float()
    frames = EquilibriumFrames.of(make_frames("GYDPET", 40, seed=2).positions_nm, None)
    settings = EnsembleSettings(chains=32, frames=4, steps=1, time_step_ps=1e-9)
    chains = SimulatedChains(potential, frames, settings, 1, CPU)
    start = chains.positions_nm.double()
    before = copy.deepcopy(potential).double().energy(start)
    chains.advance(0, EVERYONE)
    assert chains.log_weights.abs().max() < 1e-4
    for update, factor in enumerate((1.5, 0.8, 1.4), start=1):
        scale_head(potential, factor)
        chains.advance(update, EVERYONE)
    assert chains.redrawn == 0
    change = copy.deepcopy(potential).double().energy(start) - before
    expected = torch.softmax(-change / chains.kT, dim=0) * 32
    assert expected.max() > 1.2
    torch.testing.assert_close(chains.relative_weights(), expected, rtol=1e-3, atol=0)


def test_chains_that_no_longer_count_give_way_to_those_that_do(make_potential, chains):
    stay = EnsembleSettings(chains=6, frames=4, steps=1, time_step_ps=1e-9)
    chains = SimulatedChains(make_potential("GYDPET").float(), chains.frames, stay, 1, CPU)
    relative = torch.tensor([3.6, 1.2, 0.3, 0.3, 0.3, 0.3], dtype=torch.float64)
    before = chains.positions_nm.clone()
    chains.log_weights = relative.log() + 700
    chains.advance(0, EVERYONE)
    assert chains.redrawn == 1
    assert chains.relative_weights().tolist() == [1] * 6
    apart = torch.cdist(chains.positions_nm.flatten(1), (before - before.mean(1, True)).flatten(1))
    kept = torch.bincount(apart.argmin(dim=1), minlength=6)
    assert apart.min(dim=1).values.max() < 1e-5
    assert ((kept == relative.floor()) | (kept == relative.ceil())).all()


def test_a_chain_set_back_has_the_mean_weight(make_potential, chains):
    chains.log_weights = torch.tensor([0.0, 0.2, 9.0, 0.1, -0.1, -0.2], dtype=torch.float64)
    chains.velocities[2, 0] = 1e6
    chains.advance(0, EVERYONE)
    assert chains.restarted == 1
    assert float(chains.relative_weights()[2]) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(
        chains.energies, make_potential("GYDPET").float().energy(chains.positions_nm),
        rtol=1e-4, atol=1e-3,
    )  # fmt: skip


def test_an_ensemble_is_learnt_where_the_forces_say_nothing(tmp_path):
    # Chains whose ends are held at 0.55 nm, with forces of pure noise.
    frames = make_frames("GYDP", 4000, seed=1)
    near = np.exp(-(((ends_apart(frames.positions_nm) - 0.55) / 0.1) ** 2))
    noise = np.random.default_rng(0).normal(0, 300, frames.positions_nm.shape)
    weighted = BeadFrames(
        frames.topology,
        frames.positions_nm,
        frames.segments,
        forces=noise.astype(np.float32),
        weights=near,
    )
    dataset = write_dataset(tmp_path / "data", weighted)
    settings = small(steps=150, learning_rate=5e-3, average_decay=0.98, validate_every=150)
    ensemble = EnsembleSettings(chains=64, steps=20, readout=None)
    settings = settings.model_copy(update={"ensemble": ensemble})
    fitted = Potential.load(fit_potential(dataset, tmp_path / "out", settings, 1, CPU), CPU)
    priors = Potential(fitted.settings.model_copy(update={"committee": 0}))
    priors.priors = fitted.priors

    def distance_nm(potential: Potential) -> float:
        dynamics = SimulationSettings(steps=2000, save_every=20)
        rolled = simulate(potential.float(), frames.positions_nm[:64], dynamics, seed=3)
        late, all_nm = ends_apart(rolled.positions_nm[:, 40:]), ends_apart(frames.positions_nm)
        return float(wasserstein_distance(late, all_nm, v_weights=near))

    before, after = distance_nm(priors), distance_nm(fitted)
    assert after < 0.02
    assert after < 0.3 * before


def test_stiff_bonds_ask_for_a_shorter_time_step(make_potential, caplog):
    potential = make_potential("GYDPET").float()
    potential.priors.bond.stiffness.fill_(7e4)  # that of a chain of C-alpha atoms
    assert EnsembleSettings().chosen_time_step_ps(potential) == 0.008
    potential.priors.bond.stiffness.fill_(2e5)  # that of a peptide bond
    shorter = EnsembleSettings().chosen_time_step_ps(potential)
    assert shorter == pytest.approx(0.65 * 2 / (2 * (2e5 / 12) ** 0.5))
    warn_before(potential, SimulationSettings(time_step_ps=shorter))
    assert caplog.text == ""
    warn_before(potential, SimulationSettings(time_step_ps=1.01 * shorter))
    assert "the stiffest bond allows" in caplog.text
    assert EnsembleSettings(time_step_ps=0.01).chosen_time_step_ps(potential) == 0.01


def test_a_safe_time_step_stays_safe_in_single_precision(make_potential, caplog):
    potential = make_potential("GYDPET").double()
    for stiffness in np.linspace(2e5, 3e5, 20):
        potential.double().priors.bond.stiffness.fill_(stiffness)
        safe_ps = EnsembleSettings().chosen_time_step_ps(potential)
        warn_before(potential.float(), SimulationSettings(time_step_ps=safe_ps))
    assert caplog.text == ""


def test_the_card_tells_of_it_and_the_last_average_is_kept(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    card = read_json(fit_potential(dataset, tmp_path / "out", matching(), 3, CPU) / "card.json")
    assert card["ensemble_matched"]
    assert card["best_step"] == card["steps"] == 12
    assert card["best_validation_loss"] == card["curve"][-1]["validation"]
    assert card["chains_restarted"] == 0
    assert all(np.isfinite(row["gap"]) for row in card["curve"])


def test_all_frames_at_equilibrium_stand_for_it(tmp_path):
    """Also those that are held out from force matching, and those without forces."""
    frames, more = labelled_frames(), labelled_frames(90)
    dataset = write_dataset(tmp_path / "data", frames, replace(more, forces=None))
    card = read_json(fit_potential(dataset, tmp_path / "out", matching(), 3, CPU) / "card.json")
    assert card["n_frames"] == {"train": 48, "validation": 12}
    assert card["ensemble_frames"] == 150


def test_the_priors_are_checked_at_the_step_of_the_ensemble_only_where_it_is_matched(tmp_path):
    from trajgen.potential.fit import _dynamics

    potential = Potential.load(
        fit_potential(write_dataset(tmp_path / "data", labelled_frames()), tmp_path / "out",
                      small(steps=2), 3, CPU), CPU,
    )  # fmt: skip
    usual = SimulationSettings().time_step_ps
    assert _dynamics(potential, None).time_step_ps == usual
    assert _dynamics(potential, EnsembleSettings()).time_step_ps > usual


def test_dynamics_without_friction_is_refused():
    with pytest.raises(ValueError, match="greater than 0"):
        EnsembleSettings(friction_per_ps=0.0)


def test_it_is_left_out_where_a_shard_was_seeded(tmp_path):
    frames = labelled_frames()
    dataset = Dataset.create(tmp_path / "data", DatasetHeader(frames.topology))
    for name, sampling in (("plain", "equilibrium"), ("grown", "seeded")):
        label = ShardLabel(name, "oracle", "test", TEMPERATURE_K, None, sampling=sampling)
        dataset.append_beads(label, frames)
    card = read_json(fit_potential(dataset, tmp_path / "out", matching(), 3, CPU) / "card.json")
    assert not card["ensemble_matched"]
    assert card["ensemble_frames"] == 0
    assert all(row["gap"] is None for row in card["curve"])


def test_a_killed_fit_goes_on_with_the_same_chains(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    settings = matching()
    whole = fit_potential(dataset, tmp_path / "whole", settings, seed=1, device=CPU)
    child = [sys.executable, "-c", CHILD, str(tmp_path), settings.model_dump_json()]
    subprocess.run(child, env=os.environ, check=False)
    assert (tmp_path / "out.training").exists()
    resumed = fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    assert weights(resumed) == weights(whole)
    cards = [read_json(folder / "card.json") for folder in (whole, resumed)]
    assert cards[0]["curve"] == cards[1]["curve"]


@pytest.mark.slow
def test_two_processes_match_the_same_ensemble_as_one(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    settings = matching()
    one = fit_potential(dataset, tmp_path / "one", settings, seed=1, device=CPU)
    (tmp_path / "child.py").write_text(LAUNCHED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    child = [str(tmp_path / "child.py"), str(tmp_path), settings.model_dump_json()]
    subprocess.run([*launch, *child], env=os.environ, check=True)
    curves = [read_json(path / "card.json")["curve"] for path in (one, tmp_path / "two")]
    for row, other in zip(*curves, strict=True):
        for loss in ("train", "validation"):
            assert other[loss] == pytest.approx(row[loss], rel=1e-4)
        assert other["gap"] == pytest.approx(row["gap"], abs=1e-2)
    states = [Potential.load(path, CPU).state_dict() for path in (one, tmp_path / "two")]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_chains_are_dealt_out_evenly_or_refused():
    def share(process: int, processes: int) -> slice:
        place = SimpleNamespace(process_index=process, num_processes=processes)
        return share_of_process("chains", 12, place)

    shares = [share(process, 3) for process in range(3)]
    assert np.concatenate([np.arange(12)[share] for share in shares]).tolist() == list(range(12))
    with pytest.raises(InputError, match="choose a multiple of 5"):
        share(0, 5)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()
