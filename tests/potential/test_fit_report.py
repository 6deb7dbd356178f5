"""The report of a fit: noise of known size is found, and what cannot be known says why."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from potential_molecules import TEMPERATURE_K, grow_chains, make_frames, write_dataset

from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.files import read_json
from trajgen.geometry.internal import distances
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.potential.fit_report import REPORT_KEYS, explained_variance, report_lines
from trajgen.potential.force_labels import ForceLabels, make_labels
from trajgen.potential.noise_floor import NoiseFloor, estimate_noise_floor
from trajgen.potential.prior_fit import DEFAULT_SIGMA_NM, fit_priors
from trajgen.potential.prior_table import prior_table
from trajgen.potential.priors import PriorSettings
from trajgen.residues import parse_sequence

CPU = torch.device("cpu")
NOISE = 30.0


def turned(positions: np.ndarray, seed: int) -> np.ndarray:
    """Return each frame in a random orientation, at a random place."""
    rng = np.random.default_rng(seed)
    rotations = np.linalg.qr(rng.normal(size=(len(positions), 3, 3)))[0]
    rotations *= np.linalg.det(rotations)[:, None, None]
    return positions @ rotations.transpose(0, 2, 1) + rng.normal(size=(len(positions), 1, 3))


def repeated_frames(noise: float, apart_nm: float = 0.0) -> tuple[BeadFrames, float]:
    """Return 60 chains, 10 times each in runs of their own, and the mean square of their forces.

    Chains stand in other orientations each time, ``apart_nm`` away from each other, and have the
    forces of a pair energy and noise.
    """
    rng = np.random.default_rng(5)
    chains = np.tile(grow_chains(60, 5, seed=3), (10, 1, 1))
    positions = turned(chains + rng.normal(0, apart_nm, chains.shape), seed=6)
    pairs = torch.tensor([[0, 3], [1, 4], [0, 4]])

    def energy(x: torch.Tensor) -> torch.Tensor:
        return (40 * torch.sin(6 * distances(x, pairs))).sum(dim=1)

    _, forces = energy_and_forces(energy, torch.from_numpy(positions))
    signal = float(forces.square().mean())
    noisy = forces.numpy() + rng.normal(0, noise, forces.shape)
    frames = BeadFrames(
        topology=BeadTopology.from_residues(parse_sequence("GYDPE")),
        positions_nm=positions.astype(np.float32),
        segments=np.repeat(np.arange(10), 60),
        forces=noisy.astype(np.float32),
    )
    return frames, signal


def bare_labels(frames: BeadFrames) -> ForceLabels:
    """Return the forces themselves as labels: the priors of these tests are zero."""
    return ForceLabels(
        torch.from_numpy(frames.positions_nm),
        torch.from_numpy(frames.forces),
        torch.ones(frames.n_frames),
        np.arange(frames.n_frames),
    )


def test_pairs_of_equal_frames_tell_noise_from_signal():
    frames, signal = repeated_frames(NOISE)
    assert signal > 0.5 * NOISE**2
    floor = estimate_noise_floor(bare_labels(frames), np.arange(600), frames, seed=1)
    assert floor.method == "pairs"
    assert floor.value == pytest.approx(NOISE**2, rel=0.1)
    assert 0 < floor.standard_error < 0.25 * (NOISE**2 + signal)


def test_pairs_that_are_apart_make_the_floor_too_high():
    near, signal = repeated_frames(0.0)
    exact = estimate_noise_floor(bare_labels(near), np.arange(600), near, seed=1)
    assert abs(exact.value) < 1e-3 * signal
    far, signal = repeated_frames(0.0, apart_nm=0.05)
    floor = estimate_noise_floor(bare_labels(far), np.arange(600), far, seed=1)
    assert 0.05 * signal < floor.value < signal


def test_frames_of_the_same_run_are_no_partners():
    frames, _ = repeated_frames(NOISE)
    # Noise that all frames of a run share is noise all the same.
    rng = np.random.default_rng(1)
    shared = rng.normal(0, NOISE, (60, 5, 3)).astype(np.float32)
    order = np.argsort(np.tile(np.arange(60), 10), kind="stable")  # a run for each chain
    once = frames.take(order)
    correlated = replace(
        once,
        positions_nm=np.repeat(once.positions_nm[::10], 10, axis=0),
        forces=np.repeat(shared, 10, axis=0),
        segments=np.repeat(np.arange(60), 10),
    )
    floor = estimate_noise_floor(bare_labels(correlated), np.arange(600), correlated, seed=1)
    assert floor.value > 0.8 * NOISE**2


def test_known_variances_are_the_floor():
    frames, _ = repeated_frames(NOISE)
    variance = np.linspace(1, 3, 600)
    known = replace(frames, force_variance=variance)
    labels, held_out = bare_labels(known), np.arange(500, 600)
    floor = estimate_noise_floor(labels, held_out, known, seed=1)
    assert floor.method == "label variance"
    assert floor.value == pytest.approx(variance[500:].mean())
    weighted = replace(labels, weights=torch.from_numpy(1 / variance).float())
    assert estimate_noise_floor(weighted, held_out, known, 1).value == pytest.approx(1)
    variance[550] = 0  # not known
    assert estimate_noise_floor(labels, held_out, known, seed=1).method == "pairs"


def test_where_there_is_no_floor_the_reason_is_told():
    frames, _ = repeated_frames(NOISE)
    one_run = replace(frames, segments=np.zeros(600, dtype=np.int64))
    cases = (
        (frames, np.arange(0), "no frames are held out"),
        (one_run, np.arange(50), "of one run"),
        (frames.take(slice(0, 600, 20)), np.arange(30), "pairs take 50 frames"),
    )
    for part, held_out, reason in cases:
        floor = estimate_noise_floor(bare_labels(part), held_out, part, seed=1)
        assert floor.value is None
        assert reason in floor.reason


def test_explained_variance_in_closed_form():
    floor = NoiseFloor(value=80.0, standard_error=1.0, method="pairs")
    found = explained_variance(100.0, 85.0, floor)
    assert found == {"of_loss_percent": 15.0, "of_mean_force_percent": 75.0}
    unclear = explained_variance(100.0, 85.0, replace(floor, standard_error=5.0))
    assert unclear["of_loss_percent"] == 15.0
    assert unclear["of_mean_force_percent"] is None
    assert "too little" in unclear["reason"]
    unknown = explained_variance(100.0, 85.0, NoiseFloor(reason="of one run"))
    assert unknown["of_mean_force_percent"] is None
    assert "of one run" in unknown["reason"]
    assert explained_variance(0.0, 0.0, floor)["of_loss_percent"] is None


def test_priors_stand_in_a_table_with_units_and_origin():
    frames = make_frames("GYDPET", 200, seed=3)
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors
    rows = prior_table(priors)
    bonds = [row for row in rows if row["term"] == "bond"]
    assert [row["beads"] for row in bonds] == [[[i, i + 1]] for i in range(5)]
    assert bonds[2]["parameters"]["length"] == priors.bond.length_nm[2].item()
    assert bonds[2]["units"] == {"stiffness": "kJ/mol/nm²", "length": "nm"}
    assert {row["origin"] for row in bonds} == {"fitted"}
    (repulsion,) = [row for row in rows if row["term"] == "repulsion"]
    assert len(repulsion["beads"]) == len(priors.repulsion.pairs)
    assert {term for row in rows for term in [row["term"]]} == {
        "bond", "angle", "dihedral", "repulsion",
    }  # fmt: skip


def test_terms_with_too_few_frames_are_defaults_in_the_table():
    few = make_frames("GYDPET", 10, seed=3)
    rows = prior_table(fit_priors(few, TEMPERATURE_K, PriorSettings()).priors)
    assert {row["origin"] for row in rows} == {"default"}
    assert len(rows) == 4  # equal terms share a row
    assert rows[-1]["parameters"]["sigma"] == DEFAULT_SIGMA_NM


def test_the_card_of_a_fit_holds_its_report(tmp_path):
    frames = make_frames("GYDP", 200, seed=1)
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors

    def energy(x: torch.Tensor) -> torch.Tensor:
        return priors(x) + 30 * torch.cos(8 * distances(x, torch.tensor([[0, 3]]))[:, 0])

    _, forces = energy_and_forces(energy, torch.from_numpy(frames.positions_nm).double())
    noise = np.random.default_rng(1).normal(0, 10, forces.shape)
    frames = replace(
        frames,
        forces=(forces.numpy() + noise).astype(np.float32),
        force_variance=np.full(200, 100.0),
    )
    dataset = write_dataset(tmp_path / "data", frames)
    training = {"steps": 200, "batch": 64, "learning_rate": 5e-3, "average_decay": 0.97}
    settings = FitSettings.model_validate(
        {
            "network": {"blocks": 1, "features": 16, "radial_functions": 12},
            "training": training,
            "prior_check": {"chains": 4, "steps": 40},
            "ensemble": None,
        }
    )
    out = fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    card = read_json(out / "card.json")
    assert set(REPORT_KEYS) <= set(card)
    assert card["noise_floor"]["value"] == pytest.approx(100.0, rel=1e-6)
    without, loss = card["prior_only_loss"]["validation"], card["best_validation_loss"]
    explained = card["explained_variance"]
    assert explained["of_loss_percent"] == pytest.approx(100 * (1 - loss / without))
    assert 50 < explained["of_mean_force_percent"] < 110
    assert card["prior_simulation"]["chains"] == 4
    lines = report_lines(card)
    text = "\n".join(lines)
    assert "noise floor             100 ± 0 by label variance" in text
    assert f"{explained['of_loss_percent']:.2f} % of the loss of priors alone" in text
    assert "4 chains x 40 steps of 0.004 cg_ps, largest bond 0." in text
    assert sum(line.startswith("  bond") for line in lines) == 3
    labels = make_labels(frames, priors, use_weights=False, variance_floor=0.1)
    assert torch.equal(labels.weights, torch.ones(200))
