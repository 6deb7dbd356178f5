"""The kinetics part of metrics.json, and kinetics of segments with a frame missing inside."""

import json
from dataclasses import replace

import numpy as np
import pytest

from trajgen.analysis import evaluation
from trajgen.analysis.evaluate import EvaluationSettings, evaluate
from trajgen.analysis.kinetics import records
from trajgen.analysis.kinetics.evaluate_kinetics import KineticsSettings
from trajgen.analysis.kinetics.records import TimeSeries
from trajgen.analysis.kinetics.resampled_set import resampled_set
from trajgen.analysis.kinetics.states import StateSettings, fit_states
from trajgen.analysis.report.evaluation_folder import evaluate_to_folder

LAG = 3
SETTINGS = EvaluationSettings(
    tica_lag_frames=LAG,
    bootstrap_resamples=10,
    floor_splits=2,
    coverage_frames=20,
    kinetics=KineticsSettings(
        lag_multiples=2,
        correlation_frames=40,
        bootstrap_resamples=10,
        floor_splits=3,
        states=StateSettings(microstates=10, macrostates=3),
    ),
)


@pytest.fixture(scope="module")
def reference(fluctuating):
    return fluctuating(6, 200, seed=0)


@pytest.fixture(scope="module")
def samples(fluctuating):
    return fluctuating(4, 150, seed=1)


@pytest.fixture(scope="module")
def written(samples, reference, tmp_path_factory):
    """What a reader of metrics.json finds: a set with times and one without."""
    out = tmp_path_factory.mktemp("evaluation") / "out"
    sets = {"timed": samples, "untimed": replace(samples, time_step_ps=None)}
    evaluate_to_folder(sets, reference, out, SETTINGS, seed=1, provenance={})
    values = json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)
    return {name: values["samples"][name] for name in sets}


def measures_of(values):
    """Return every measure inside of plain values."""
    if isinstance(values, list):
        return [measure for value in values for measure in measures_of(value)]
    if not isinstance(values, dict):
        return []
    if "floor_max" in values:
        return [values]
    return [measure for value in values.values() for measure in measures_of(value)]


def test_kinetics_have_a_version_of_their_own(written):
    for entry in written.values():
        assert entry["schema_version"] == evaluation.SCHEMA_VERSION
        assert entry["kinetics"]["schema_version"] == records.SCHEMA_VERSION


def test_every_number_is_there_or_has_a_reason(written):
    kinetics = written["timed"]["kinetics"]
    assert (kinetics["lag_ps"], kinetics["reason"]) == (3.0, None)
    assert kinetics["n_macrostates"] == len(kinetics["samples"]["populations"]) > 1
    n = kinetics["n_macrostates"]
    assert np.array(kinetics["reference"]["transitions"]).shape == (n, n)
    assert [level["lag_ps"] for level in kinetics["samples"]["time_scales"]] == [3.0, 6.0]
    assert kinetics["samples"]["n_segments"] == 4
    found = measures_of(kinetics)
    assert sum(measure["value"] is not None for measure in found) > 30
    for measure in found:
        assert measure["value"] is not None or measure["reason"]
    for name, measure in kinetics["comparison"].items():
        assert measure["unit"] == ("kT" if name == "population_error" else "1")
        assert kinetics["control"][name]["floor_max"] == measure["floor_max"]


def test_without_a_time_step_every_number_has_the_reason(written):
    kinetics = written["untimed"]["kinetics"]
    assert kinetics["reason"] == "the time step of the samples is not known"
    assert kinetics["lag_ps"] is None
    found = measures_of(kinetics)
    assert {(m["value"], m["reason"]) for m in found} == {(None, kinetics["reason"])}
    names = set(written["timed"]["kinetics"]["comparison"])
    assert set(kinetics["comparison"]) == names <= set(kinetics["control"])
    assert kinetics["samples"]["passage_times"]["reason"] == kinetics["reason"]
    assert kinetics["samples"]["n_frames"] == 600
    # The ensemble does not depend on the time between frames.
    assert written["untimed"]["distances"] == written["timed"]["distances"]


def gappy(frames, rows):
    """Return frames of which some cannot be measured: two beads coincide."""
    positions = frames.positions_nm.copy()
    positions[rows, 1] = positions[rows, 2]
    return replace(frames, positions_nm=positions)


def test_pairs_do_not_cross_a_missing_frame(samples, reference):
    rows = [20, 70, 71, 400, 590]
    kept = np.delete(np.arange(samples.n_frames), rows)
    runs = (samples.segments + np.isin(np.arange(samples.n_frames), rows).cumsum())[kept]
    holes = evaluate(gappy(samples, rows), reference, SETTINGS, seed=1).kinetics
    cut = replace(samples.take(kept), segments=runs)
    cut = evaluate(cut, reference, SETTINGS, seed=1).kinetics
    closed = evaluate(samples.take(kept), reference, SETTINGS, seed=1).kinetics
    for name, measure in holes.comparison.items():
        assert measure.value == pytest.approx(cut.comparison[name].value, abs=1e-9), name
    for name in ("decorrelation_error_tic_0", "vamp2_error", "time_scale_error"):
        joined = closed.comparison[name].value
        assert holes.comparison[name].value != pytest.approx(joined, abs=1e-6), name
    assert (holes.samples.n_segments, cut.samples.n_segments) == (4, 8)
    # The draws are of the 4 segments, not of the 8 stretches between gaps.
    assert holes.comparison["vamp2_error"].high != cut.comparison["vamp2_error"].high


def test_a_lone_segment_with_a_gap_stays_a_lone_segment(fluctuating, reference):
    lone = fluctuating(1, 400, seed=2)
    found = evaluate(gappy(lone, [150]), reference, SETTINGS, seed=1).kinetics
    assert found.samples.n_segments == 1
    assert any("one segment of the samples" in note for note in found.notes)
    assert found.comparison["vamp2_error"].low is not None


@pytest.fixture(scope="module")
def series():
    """Three segments of a slow walk of 100 frames, with gaps within the first and the last."""
    generator = np.random.default_rng(5)
    noise = generator.normal(size=(303, 2)) * [0.3, 0.6]
    segments = np.repeat(np.arange(3), 101)
    tics = np.zeros((303, 2))
    for i in range(1, 303):
        tics[i] = [0.95, 0.8] * tics[i - 1] * (segments[i] == segments[i - 1]) + noise[i]
    gaps = np.isin(np.arange(303), [30, 33, 250])
    runs = segments + gaps.cumsum()
    return TimeSeries(tics[~gaps], segments[~gaps], None, 2.0, runs[~gaps])


def test_blocks_are_segments_and_their_pairs_stay_within_runs(series):
    choice = StateSettings(microstates=8, macrostates=2)
    fit = fit_states(series.tics, series.runs, None, LAG, choice, seed=1)
    found = resampled_set(series, fit, LAG, 1, 20, resamples=30, seed=1)
    assert found.blocks.tolist() == series.segments.tolist()
    assert found.draws.shape == (31, 3)
    micro = fit.model.assign(series.tics)
    wanted = np.zeros((3, 8, 8))
    for i in range(len(series.runs) - LAG):
        if series.runs[i] == series.runs[i + LAG]:
            wanted[series.segments[i], micro[i], micro[i + LAG]] += 1
    np.testing.assert_allclose(found.sums.microstate_counts[0], wanted)
    lengths = np.unique(series.runs, return_counts=True)[1]
    assert wanted.sum() == np.maximum(lengths - LAG, 0).sum() < len(series.runs) - 3 * LAG


@pytest.mark.parametrize("name", ["timed", "untimed"])
def test_kinetics_come_back_from_their_values(written, name):
    values = written[name]["kinetics"]
    again = json.loads(json.dumps(records.Kinetics.from_json(values).to_json()))
    assert again == values
