"""The evaluation: zero against itself, exact shifts, floors, intervals, and honest gaps."""

import json
from dataclasses import replace

import mdtraj
import numpy as np
import pytest

from trajgen.analysis.coverage import coverage, weighted_quantile
from trajgen.analysis.evaluate import (
    EvaluationSettings,
    evaluate,
    judge,
    read_reference,
    read_samples,
)
from trajgen.analysis.evaluation import SCHEMA_VERSION, compare
from trajgen.analysis.features import bond_lengths, dihedral_angles
from trajgen.analysis.kinetics.evaluate_kinetics import KineticsSettings
from trajgen.analysis.measures import Measure, compare_measures, measures_of_rows
from trajgen.analysis.resampling import resampled_against, segment_blocks, split_halves
from trajgen.analysis.wasserstein import wasserstein
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError

SETTINGS = EvaluationSettings(
    tica_lag_frames=3, bootstrap_resamples=50, coverage_frames=100, kinetics=None
)


@pytest.fixture(scope="module")
def reference(fluctuating):
    return fluctuating(12, 60, seed=0)


def every_measure(evaluation):
    distances = (*evaluation.distances, *evaluation.divergences)
    return [m for d in distances for m in (d.pooled, *d.terms)]


def test_reference_is_at_no_distance_from_itself(reference):
    settings = SETTINGS.model_copy(update={"coverage_frames": reference.n_frames})
    evaluation = evaluate(reference, reference, settings, seed=1)
    names = [d.name for d in evaluation.distances]
    internal = ["end_to_end", "radius_of_gyration", "bond", "angle", "dihedral"]
    assert names == ["tica_2d", "tica_0", *internal]
    for measure in every_measure(evaluation):
        # Some are the root of a sum that rounding leaves a little above zero.
        assert measure.value == pytest.approx(0, abs=1e-7)
        assert measure.reason is None
        assert 0 <= measure.low <= measure.value <= measure.high
        assert 0 <= measure.floor_mean <= measure.floor_max
    for distance in evaluation.distances:
        for measure in (distance.pooled, *distance.terms):
            assert measure.value == pytest.approx(0, abs=1e-12)
            assert measure.floor_mean > 0
    for entry in evaluation.coverage[:2]:
        assert entry.mean_nm == pytest.approx(0, abs=1e-4)
        assert entry.share_within == 1


def test_values_are_the_distances_of_the_features(reference, fluctuating):
    samples = fluctuating(5, 40, seed=1, shift=1.0)
    weights = np.random.default_rng(0).uniform(0.1, 1, samples.n_frames)
    samples = replace(samples, weights=weights)
    evaluation = evaluate(samples, reference, SETTINGS, seed=1)
    for name, compute in (("bond", bond_lengths), ("dihedral", dihedral_angles)):
        a, b = compute(samples), compute(reference)
        wanted = [
            wasserstein(a.values[:, i], b.values[:, i], weights, None, a.period)
            for i in range(len(a.labels))
        ]
        distance = evaluation.distance(name)
        np.testing.assert_allclose([term.value for term in distance.terms], wanted)
        assert distance.pooled.value == pytest.approx(np.mean(wanted))
        assert [term.label for term in distance.terms] == list(a.labels)


def test_stretched_bonds_are_as_far_as_they_were_stretched(reference):
    """Every bead is moved along the chain so that each bond is longer by 0.02 nm."""
    steps = np.diff(reference.positions_nm.astype(float), axis=1)
    lengths = np.linalg.norm(steps, axis=2, keepdims=True)
    moved = np.cumsum(steps * (1 + 0.02 / lengths), axis=1)
    first = reference.positions_nm[:, :1]
    positions = np.concatenate([first, first + moved], axis=1).astype(np.float32)
    samples = replace(reference, positions_nm=positions)
    evaluation = evaluate(samples, reference, SETTINGS, seed=1)
    assert evaluation.distance("bond").pooled.value == pytest.approx(0.02, abs=1e-6)
    assert evaluation.distance("angle").pooled.value == pytest.approx(0, abs=1e-5)
    assert evaluation.distance("dihedral").pooled.value == pytest.approx(0, abs=1e-5)


def test_independent_samples_of_the_same_ensemble_lie_near_the_floor(reference, fluctuating):
    evaluation = evaluate(fluctuating(12, 60, seed=5), reference, SETTINGS, seed=1)
    for distance in evaluation.distances:
        assert distance.pooled.value < 2 * distance.pooled.floor_max
        assert distance.pooled.low <= distance.pooled.value <= distance.pooled.high


def test_a_nearer_ensemble_is_better_and_a_farther_one_worse(reference, fluctuating):
    far = evaluate(fluctuating(12, 60, seed=2, shift=3.0), reference, SETTINGS, seed=1)
    near = evaluate(fluctuating(12, 60, seed=3, shift=0.5), reference, SETTINGS, seed=1)
    same = evaluate(fluctuating(12, 60, seed=4), reference, SETTINGS, seed=1)
    assert set(compare(far, near).values()) == {"better"}
    assert set(compare(near, far).values()) == {"worse"}
    assert set(compare(same, same).values()) == {"within noise"}


def test_verdict_below_the_floor_is_within_noise():
    floor = {"floor_mean": 0.5, "floor_max": 1.0}
    before = Measure("m", "nm", 0.9, 0.85, 0.95, **floor)
    after = Measure("m", "nm", 0.2, 0.15, 0.25, **floor)
    assert compare_measures(before, after) == "within noise"
    before = replace(before, value=1.9, low=1.8, high=2.0)
    assert compare_measures(before, after) == "better"
    assert compare_measures(after, before) == "worse"
    assert compare_measures(replace(before, value=None), after) == "not measured"
    assert compare_measures(replace(before, low=None), after) == "within noise"


def test_terms_measured_together_are_those_measured_one_by_one():
    generator = np.random.default_rng(3)
    rows, floor = generator.gamma(2.0, size=(40, 6)), generator.gamma(1.0, size=(5, 6))
    rows[7, 2] = np.inf  # one resample of one term is too large for a number
    rows[0, 4] = 30.0  # beyond the largest value that there is
    labels = tuple("abcdef")
    together = measures_of_rows(labels, "nm", rows, floor, largest=20.0)
    alone = [
        measures_of_rows((label,), "nm", rows[:, i : i + 1], floor[:, i : i + 1], largest=20.0)
        for i, label in enumerate(labels)
    ]
    for one, (other,) in zip(together, alone, strict=True):
        assert (one.label, one.reason) == (other.label, other.reason)
        assert (one.value is None) == (other.value is None)
        measured = () if one.value is None else ("value", "low", "high")
        for name in ("floor_mean", "floor_max", *measured):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12)
    assert [m.value is None for m in together] == [False, False, True, False, False, False]
    assert together[4].value == 20.0 == together[4].high
    first = rows[:, 0]
    low, high = np.quantile(first[1:] - first[1:].mean() + first[0], [0.025, 0.975])
    assert together[0].low == pytest.approx(min(max(low, 0.0), first[0]))
    assert together[0].high == pytest.approx(max(high, first[0]))


def test_same_seed_same_numbers_and_order_of_segments_does_not_matter(reference, fluctuating):
    samples = fluctuating(6, 40, seed=1)
    first = evaluate(samples, reference, SETTINGS, seed=4)
    assert evaluate(samples, reference, SETTINGS, seed=4) == first
    order = np.concatenate([np.flatnonzero(samples.segments == s) for s in (4, 2, 0, 1, 5, 3)])
    other = evaluate(samples.take(order), reference, SETTINGS, seed=4)
    for mine, theirs in zip(every_measure(first), every_measure(other), strict=True):
        assert mine.value == pytest.approx(theirs.value)
        assert mine.floor_max == pytest.approx(theirs.floor_max)


def test_frames_that_cannot_be_measured_are_counted(reference):
    positions = reference.positions_nm.copy()
    positions[:3, 1] = positions[:3, 2]
    weights = np.ones(reference.n_frames)
    weights[:5] = 0
    samples = replace(reference, positions_nm=positions, weights=weights)
    evaluation = evaluate(samples, reference, SETTINGS, seed=1, left_out={"failed chain": 7})
    assert evaluation.samples.left_out == {
        "failed chain": 7,
        "consecutive beads or atoms coincide or lie on a line": 3,
        "weight is zero": 2,
    }
    assert evaluation.samples.used == reference.n_frames - 5
    assert evaluation.reference.left_out == {}


def test_no_usable_sample_is_a_result_with_a_reason(reference):
    nothing = reference.take(slice(0, 0))
    evaluation = evaluate(nothing, reference, SETTINGS, seed=1, left_out={"failed chain": 9})
    for measure in every_measure(evaluation):
        assert measure.value is None
        assert "no frame" in measure.reason
        assert measure.floor_max is not None
    assert evaluation.coverage[0].mean_nm is None
    assert evaluation.coverage[0].reason == "there are no frames of the samples"
    assert evaluation.samples.used == 0
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_single_frame_and_single_segments_are_flagged(reference):
    lone = reference.take(reference.segments == 0)
    evaluation = evaluate(lone, lone, SETTINGS, seed=1)
    assert any("samples are one segment" in note for note in evaluation.notes)
    assert any("reference is one segment" in note for note in evaluation.notes)
    assert evaluation.distance("bond").pooled.floor_max > 0
    assert evaluation.distance("bond").pooled.high > 0
    single = evaluate(reference.take([0]), reference, SETTINGS, seed=1).distance("bond").pooled
    assert single.value > 0
    assert single.low is None
    assert "no interval" in single.reason


def test_short_molecule_and_short_segments_have_reasons(reference):
    topology = BeadTopology.from_residues(("GLY", "TYR", "ASP"))
    segments = np.arange(reference.n_frames) // 2
    small = BeadFrames(topology, reference.positions_nm[:, :3], segments)
    evaluation = evaluate(small, small, SETTINGS, seed=1)
    assert "too short" in evaluation.distance("dihedral").pooled.reason
    assert evaluation.distance("angle").pooled.value == pytest.approx(0, abs=1e-12)
    for name in ("tica_2d", "tica_0"):
        assert "longest segment has 2 frames" in evaluation.distance(name).pooled.reason
    assert any("TICA was left out" in note for note in evaluation.notes)
    two = BeadFrames(
        BeadTopology.from_residues(("GLY", "TYR")),
        reference.positions_nm[:, :2],
        reference.segments,
    )
    evaluation = evaluate(two, two, SETTINGS, seed=1)
    assert "one slow coordinate only" in evaluation.distance("tica_2d").pooled.reason
    assert evaluation.distance("tica_0").pooled.value == pytest.approx(0, abs=1e-12)


def test_json_has_a_version_and_no_nan(reference, fluctuating):
    samples = fluctuating(3, 30, seed=1)
    text = json.dumps(evaluate(samples, reference, SETTINGS, seed=1).to_json(), allow_nan=False)
    values = json.loads(text)
    assert values["schema_version"] == SCHEMA_VERSION
    assert values["distances"]["bond"]["pooled"]["unit"] == "nm"
    assert values["distances"]["dihedral"]["method"].endswith("on the circle")
    assert values["samples"]["segments"] == 3


def test_another_molecule_and_an_empty_reference_are_refused(reference):
    other = BeadFrames(
        BeadTopology.from_residues(("ALA",) * 6), reference.positions_nm, reference.segments
    )
    with pytest.raises(InputError, match="same molecule"):
        evaluate(other, reference, SETTINGS, seed=1)
    with pytest.raises(InputError, match="at least 2"):
        evaluate(reference, reference.take(slice(0, 1)), SETTINGS, seed=1)


def test_halves_are_whole_blocks_of_balanced_size():
    blocks = np.repeat(np.arange(9), 10)
    weights = np.random.default_rng(0).uniform(0.5, 1, 90)
    halves = split_halves(weights, blocks, 6, seed=3)
    assert len({tuple(row > 0) for row in halves.factors}) > 1
    for row in halves.factors:
        mass = weights * row[blocks]
        assert mass[mass > 0].sum() == pytest.approx(1)
        assert mass[mass < 0].sum() == pytest.approx(-1)
        assert (row > 0).sum() in (4, 5)
    assert len(split_halves(weights, blocks % 2, 6, seed=3).factors) == 1


def test_resamples_keep_whole_segments_and_balance():
    blocks = segment_blocks(np.repeat([7, 3, 5], 4), time_blocks=10)
    assert blocks.tolist() == [2] * 4 + [0] * 4 + [1] * 4
    rows = resampled_against(np.ones(12), blocks, np.full(6, 0.5), resamples=30, seed=1)
    mass = rows.weights * rows.factors[:, rows.blocks]
    np.testing.assert_allclose(mass[:, :12].sum(axis=1), 1)
    np.testing.assert_allclose(mass[:, 12:].sum(axis=1), -1)
    np.testing.assert_allclose(mass[0, :12], 1 / 12)
    assert segment_blocks(np.full(20, 4), time_blocks=10).tolist() == sorted(list(range(10)) * 2)


def test_interval_narrows_with_more_segments(reference, fluctuating):
    few = evaluate(fluctuating(4, 60, seed=8, shift=1.0), reference, SETTINGS, seed=1)
    many = evaluate(fluctuating(64, 60, seed=8, shift=1.0), reference, SETTINGS, seed=1)
    widths = [
        e.distance("tica_0").pooled.high - e.distance("tica_0").pooled.low for e in (few, many)
    ]
    assert widths[1] < 0.5 * widths[0]


def test_coverage_agrees_with_a_plain_search(fluctuating):
    a, b = fluctuating(2, 10, seed=1), fluctuating(3, 10, seed=2)
    entry = coverage(a, b, ("a", "b"), frames=100, cutoff_nm=0.05, seed=1)
    target, searched = (
        mdtraj.Trajectory(a.positions_nm, None),
        mdtraj.Trajectory(b.positions_nm, None),
    )
    nearest = np.array([mdtraj.rmsd(searched, target, frame).min() for frame in range(20)])
    assert entry.mean_nm == pytest.approx(nearest.mean(), abs=1e-4)
    assert entry.share_within == pytest.approx((nearest <= 0.05).mean())
    assert (entry.n_covered, entry.n_by) == (20, 30)
    drawn = coverage(a, b, ("a", "b"), frames=15, cutoff_nm=0.05, seed=1)
    assert (drawn.n_covered, drawn.n_by) == (15, 15)
    assert drawn.mean_nm >= 0


def test_weighted_quantile_counts_weight_and_not_frames():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([0.1, 0.8, 0.1])
    assert weighted_quantile(values, weights, 0.5) == 1.0
    assert weighted_quantile(values, weights, 0.85) == 2.0
    assert weighted_quantile(values, weights, 1.0) == 3.0


def test_adaptive_sampling_is_judged_by_its_weights(shared_data):
    """Chignolin frames of adaptive sampling: equal weights are far from the weighted ensemble."""
    folder = shared_data / "chignolin_ca_forces"
    positions = (0.1 * np.load(folder / "chignolin_ca_coords_first13000.npy")).astype(np.float32)
    weights = np.load(folder / "msm_weights_first13000.npy").ravel().astype(float)
    segments = np.load(folder / "trajectory_id_first13000.npy").ravel().astype(np.int64)
    topology = BeadTopology.from_residues(
        ("TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR")
    )
    frames = BeadFrames(topology, positions, segments, weights=weights)
    even = frames.take(segments % 2 == 0)
    odd = replace(frames.take(segments % 2 == 1), weights=None)
    settings = EvaluationSettings(
        tica_lag_frames=2, bootstrap_resamples=20, coverage_frames=200, kinetics=None
    )
    distance = evaluate(odd, even, settings, seed=1).distance("end_to_end").pooled
    assert distance.value > 3 * distance.floor_max


def test_shares_of_native_and_of_invalid_frames_are_counted(reference):
    """A third of the frames are the mirror image of the chain; in a tenth a bond is broken."""
    structure = reference.positions_nm[0]
    still = np.repeat(structure[None], 60, axis=0)
    still[:20] *= [1, 1, -1]
    still[:6, 0] += 0.4 * (structure[0] - structure[1]) / 0.38
    samples = replace(reference.take(slice(0, 60)), positions_nm=still.astype(np.float32))
    samples = replace(samples, segments=np.repeat(np.arange(6), 10).astype(np.int64))
    known = read_reference(reference, SETTINGS, 1, structure.astype(np.float64))
    evaluation = judge(read_samples(samples, known), known)
    found = {share.name: share for share in evaluation.shares}
    assert found["native"].samples.value == pytest.approx(2 / 3)
    assert found["bond"].samples.value == pytest.approx(0.1 + np.mean(bond_fails(still[6:])) * 0.9)
    assert 0 <= found["native"].samples.low <= 2 / 3 <= found["native"].samples.high <= 1
    assert found["mirror"].samples.value == pytest.approx(1 / 3 - 0.1, abs=0.11)
    assert any("mirror image are" in note for note in evaluation.notes)
    assert evaluation.distance("rmsd").terms[0].label == "to the structure"
    assert "native" in evaluation.to_json()["shares"]


def bond_fails(positions_nm):
    lengths = np.linalg.norm(np.diff(positions_nm, axis=1), axis=2)
    return ((lengths < 0.28) | (lengths > 0.45)).any(axis=1)


def test_kinetics_see_the_order_of_frames_and_ensembles_do_not(fluctuating):
    reference = fluctuating(12, 400, seed=0)
    settings = SETTINGS.model_copy(
        update={"kinetics": KineticsSettings(bootstrap_resamples=10, floor_splits=2)}
    )
    samples = fluctuating(12, 400, seed=5)
    order = np.random.default_rng(0).permuted(np.arange(4800).reshape(12, 400), axis=1).ravel()
    kept = evaluate(samples, reference, settings, seed=1)
    shuffled = evaluate(samples.take(order), reference, settings, seed=1)
    shuffled_like_control = kept.kinetics.control["slowest_time_scale"].value
    slowest = [e.kinetics.samples.time_scales[0].time_scales[0].value for e in (kept, shuffled)]
    assert slowest[0] > 5 * slowest[1]
    assert slowest[1] == pytest.approx(shuffled_like_control, rel=0.6)
    for mine, theirs in zip(kept.distances, shuffled.distances, strict=True):
        assert mine.pooled.value == pytest.approx(theirs.pooled.value, abs=1e-9)
    without = SETTINGS.model_copy(update={"kinetics": None})
    assert evaluate(samples, reference, without, seed=1).kinetics is None
