"""The simulation with the priors alone: a sound chain passes, a chain that explodes stops a fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dynamics_fields import Poisoned
from potential_molecules import make_frames, write_dataset

from trajgen.errors import WorkError
from trajgen.files import read_json
from trajgen.potential import fit as fit_module
from trajgen.potential.dynamics import simulation as loop
from trajgen.potential.dynamics.force_field import force_field
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.time_step import safe_time_step_ps
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.potential.potential import Potential
from trajgen.potential.prior_check import PriorCheckSettings, check_priors

CPU = torch.device("cpu")
SHORT = PriorCheckSettings(chains=8, steps=200)
USUAL = SimulationSettings()
#: A fit that takes a second.
CHOICES = {
    "network": {"blocks": 1, "features": 8, "radial_functions": 8},
    "training": {"steps": 2, "batch": 8},
    "prior_check": {"chains": 4, "steps": 100},
    "ensemble": None,
}


def test_fitted_priors_keep_their_chains(make_potential):
    potential, frames = make_potential(), make_frames("GYDPET", 200, seed=3)
    found = check_priors(potential, frames, SHORT, USUAL, seed=1, device=CPU)
    assert (found["chains"], found["steps"], found["time_step_ps"]) == (8, 200, 0.004)
    assert 0.38 < found["largest_bond_nm"] < 0.45
    assert check_priors(potential, frames, SHORT, USUAL, seed=1, device=CPU) == found
    assert check_priors(potential, frames, SHORT, USUAL, seed=2, device=CPU) != found


def test_the_network_has_no_part_in_it(make_potential):
    potential, frames = make_potential(), make_frames("GYDPET", 200, seed=3)
    found = check_priors(potential, frames, SHORT, USUAL, seed=1, device=CPU)
    with torch.no_grad():
        for weight in potential.network.parameters():
            weight.fill_(torch.nan)
    assert check_priors(potential, frames, SHORT, USUAL, seed=1, device=CPU) == found


def test_chains_that_explode_are_told_with_their_number(make_potential):
    potential, frames = make_potential(), make_frames("GYDPET", 200, seed=3)
    potential.priors.bond.stiffness[2] = -50_000.0  # pushes two beads apart
    with pytest.raises(
        WorkError, match=r"[1-8] of 8 chains exploded within 200 steps of 0.004 cg_ps"
    ):
        check_priors(potential, frames, SHORT, USUAL, seed=1, device=CPU)


def test_no_step_of_the_check_is_left_out(make_potential, caplog):
    potential, frames = make_potential(), make_frames("GYDPET", 200, seed=3)
    odd = PriorCheckSettings(chains=2, steps=45)
    assert check_priors(potential, frames, odd, USUAL, seed=1, device=CPU)["steps"] == 45
    assert caplog.text == ""


def test_one_chain_that_explodes_is_one_too_many(make_potential, monkeypatch):
    potential, frames = make_potential(), make_frames("GYDPET", 200, seed=3)
    monkeypatch.setattr(
        loop,
        "force_field",
        lambda potential: Poisoned(force_field(potential), chain=5, evaluation=60, force=np.nan),
    )
    many = PriorCheckSettings(chains=64, steps=100)
    with pytest.raises(WorkError, match="1 of 64 chains exploded within 100 steps"):
        check_priors(potential, frames, many, USUAL, seed=1, device=CPU)


def test_a_time_step_of_ones_own_is_named_where_it_tears_the_chains(tmp_path):
    frames = make_frames("GYDP", 60, seed=1)
    noise = np.random.default_rng(1).normal(0, 10, frames.positions_nm.shape)
    dataset = write_dataset(tmp_path / "data", replace(frames, forces=noise.astype(np.float32)))
    choices = {**CHOICES, "ensemble": {"time_step_ps": 0.05}}
    settings = FitSettings.model_validate(choices)
    with pytest.raises(
        WorkError, match=r"leave out ensemble\.time_step_ps=0\.05, which is longer than the 0\.00"
    ):
        fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    assert not (tmp_path / "out").exists()


def test_a_fit_stops_before_training_where_the_priors_do_not_hold(tmp_path, monkeypatch):
    frames = make_frames("GYDP", 60, seed=1)
    noise = np.random.default_rng(1).normal(0, 10, frames.positions_nm.shape)
    dataset = write_dataset(tmp_path / "data", replace(frames, forces=noise.astype(np.float32)))
    real = fit_module.fit_priors

    def too_weak(*arguments: object) -> object:
        fitted = real(*arguments)
        fitted.priors.bond.stiffness[:] = -50_000.0
        return fitted

    monkeypatch.setattr(fit_module, "fit_priors", too_weak)
    settings = FitSettings.model_validate(CHOICES)
    with pytest.raises(WorkError, match="priors alone"):
        fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    unchecked = settings.model_copy(update={"prior_check": None})
    assert fit_potential(dataset, tmp_path / "out", unchecked, seed=1, device=CPU).exists()


def test_nearly_rigid_bonds_are_checked_with_a_step_that_suits_them(tmp_path, monkeypatch):
    """At the usual step bonds of backbone atoms are unstable, and nobody would simulate so."""
    real = fit_module.fit_priors

    def stiff(*arguments: object) -> object:
        fitted = real(*arguments)
        fitted.priors.bond.stiffness[:] = 1_000_000.0
        return fitted

    monkeypatch.setattr(fit_module, "fit_priors", stiff)
    frames = make_frames("GYDP", 60, seed=1)
    forces = np.random.default_rng(1).normal(0, 10, frames.positions_nm.shape)
    dataset = write_dataset(tmp_path / "data", replace(frames, forces=forces.astype(np.float32)))
    out = fit_potential(
        dataset, tmp_path / "out", FitSettings.model_validate(CHOICES), seed=1, device=CPU
    )
    checked = read_json(out / "card.json")["prior_simulation"]
    safe_ps = safe_time_step_ps(Potential.load(out, CPU), SimulationSettings().mass_amu)
    assert checked["time_step_ps"] == pytest.approx(safe_ps, rel=1e-5)
    assert safe_ps < 0.003
