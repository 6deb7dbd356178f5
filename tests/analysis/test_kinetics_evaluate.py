"""The evaluation of kinetics: known rates, itself, slower samples, the shuffle, and gaps."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from deeptime.markov.msm import MarkovStateModel

from trajgen.analysis.kinetics.evaluate_kinetics import KineticsSettings, evaluate_kinetics
from trajgen.analysis.kinetics.records import TimeSeries
from trajgen.analysis.kinetics.states import StateSettings
from trajgen.errors import InputError

#: Rates between three wells, slow between the first two.
TRANSITIONS = np.array([[0.985, 0.015, 0.0], [0.015, 0.955, 0.03], [0.0, 0.03, 0.97]])
MODEL = MarkovStateModel(TRANSITIONS)
PLACES = np.array([[-2.0, 0.0], [0.5, 1.0], [2.0, -0.5]])
SETTINGS = KineticsSettings(
    lag_multiples=3,
    processes=2,
    correlation_frames=1500,
    bootstrap_resamples=20,
    floor_splits=5,
    states=StateSettings(microstates=12, macrostates=3),
)


def wells(
    n_segments: int, length: int, seed: int, step_ps: float | None = 2.0, every: int = 1
) -> TimeSeries:
    """Return frames of the known chain, each near the place of its well."""
    generator = np.random.default_rng(seed)
    starts = generator.choice(3, n_segments, p=MODEL.stationary_distribution)
    states = np.concatenate(
        [
            MODEL.simulate(length * every, start=int(s), seed=seed * 1000 + i)[::every]
            for i, s in enumerate(starts)
        ]
    ).astype(int)
    tics = PLACES[states] + 0.1 * generator.normal(size=(len(states), 2))
    return TimeSeries(tics, np.repeat(np.arange(n_segments), length), None, step_ps)


@pytest.fixture(scope="module")
def reference():
    return wells(20, 2000, seed=1)


@pytest.fixture(scope="module")
def found(reference):
    return evaluate_kinetics(wells(15, 2000, seed=2), reference, SETTINGS, 3, tica_lag_frames=2)


def no_numbers(measures):
    return [m.value for m in measures] == [None] * len(measures)


def test_known_rates_populations_and_time_scales_are_found(found):
    assert (found.lag_ps, found.n_microstates, found.n_macrostates) == (4.0, 12, 3)
    exact = -2.0 / np.log(np.sort(np.linalg.eigvals(TRANSITIONS).real)[-2])
    passages = np.array([MODEL.mfpt([i], [2]) * 2.0 for i in range(2)])
    for side in (found.samples, found.reference):
        assert side.left_out == {}
        assert [level.lag_ps for level in side.time_scales] == [4, 8, 12]
        slowest = side.time_scales[0].time_scales[0]
        assert slowest.low < slowest.value < slowest.high
        assert slowest.value == pytest.approx(exact, rel=0.2)
        populations = [measure.value for measure in side.populations]
        np.testing.assert_allclose(populations, MODEL.stationary_distribution, atol=0.06)
        lagged = np.linalg.matrix_power(TRANSITIONS, 2)
        np.testing.assert_allclose(np.array(side.transitions), lagged, atol=0.01)
        for start in range(2):
            times = side.passage_times
            assert times.low_ps[start][2] < times.value_ps[start][2] < times.high_ps[start][2]
            # Seen every second frame, a well is reached a little later.
            assert times.value_ps[start][2] == pytest.approx(passages[start], rel=0.2)
        assert [times.value_ps[i][i] for i in range(3)] == [0, 0, 0]
        # The first coordinate is a mixture of the slow process, a faster one, and noise.
        decorrelation, integral = side.decorrelation_times[0], side.integrated_times[0]
        assert 0.5 * exact < decorrelation.value < 1.1 * exact
        assert integral.low < 1.1 * exact < 2 * integral.high
        assert decorrelation.unit == integral.unit == "ps"
        assert side.autocorrelations[0].lags_ps[:3] == (0, 2, 4)
        assert side.autocorrelations[0].values[0] == pytest.approx(1)
        assert side.autocorrelations[0].label == "TIC 0"
    assert found.reference_vamp2.value == pytest.approx(found.reference.vamp2.value, abs=0.05)
    for state in found.chapman_kolmogorov.states:
        assert state.largest_deviation < 0.02


def test_samples_of_the_same_process_lie_near_the_floor(found):
    assert found.reason is None
    for name, measure in found.comparison.items():
        assert measure.reason is None, name
        assert measure.low <= measure.value <= measure.high, name
        if name.endswith("correlation"):
            assert measure.value > 0.7
        else:
            assert 0 < measure.floor_mean <= measure.floor_max
            assert measure.value < 3 * measure.floor_max, name


def test_a_reference_is_at_no_distance_from_itself(reference):
    same = evaluate_kinetics(reference, reference, SETTINGS, 3, tica_lag_frames=2)
    for name, measure in same.comparison.items():
        wanted = 1 if name.endswith("correlation") else 0
        assert measure.value == pytest.approx(wanted, abs=1e-6), name


def test_slower_samples_are_as_far_as_they_are_slower(reference, found):
    """The same frames, said to be 4 times as far apart in time."""
    slow = evaluate_kinetics(
        replace(reference, time_step_ps=8.0),
        reference,
        SETTINGS.model_copy(update={"lag_ps": 8.0}),
        3,
    )
    error = slow.comparison["decorrelation_error_tic_0"]
    assert error.value == pytest.approx(math.log(4))
    assert error.low > error.floor_max
    assert slow.comparison["time_scale_error"].value == pytest.approx(math.log(4), abs=0.1)
    assert slow.comparison["population_jsd"].value < 0.01


def test_a_lag_is_a_time_and_not_a_number_of_frames(reference):
    coarse = wells(15, 2000, seed=4, step_ps=4.0, every=2)
    result = evaluate_kinetics(coarse, reference, SETTINGS, 3, tica_lag_frames=2)
    for name in ("time_scale_error", "passage_error", "decorrelation_error_tic_0"):
        measure = result.comparison[name]
        assert measure.value < 3 * measure.floor_max, name
    level = result.samples.time_scales[0]
    assert level.lag_ps == 4
    assert result.samples.autocorrelations[0].lags_ps[:2] == (0, 4)


def test_shuffled_frames_lose_their_kinetics_and_keep_their_populations(found):
    control, kept = found.control, found.samples
    assert control["slowest_time_scale"].value < 0.1 * kept.time_scales[0].time_scales[0].value
    assert control["decorrelation_time_tic_0"].value < 2
    assert 1 <= control["vamp2"].value < 1.05 < 2 < kept.vamp2.value
    for name in ("time_scale_error", "passage_error", "vamp2_error"):
        assert control[name].low > max(found.comparison[name].high, control[name].floor_max)
    jsd = control["population_jsd"]
    assert jsd.value == pytest.approx(found.comparison["population_jsd"].value, abs=0.02)


def test_same_seed_same_numbers_and_order_of_segments_does_not_matter(reference, found):
    samples = wells(15, 2000, seed=2)
    assert evaluate_kinetics(samples, reference, SETTINGS, 3, tica_lag_frames=2) == found
    interleaved = np.argsort(np.tile(np.arange(2000), 15), kind="stable")
    moved = TimeSeries(samples.tics[interleaved], samples.segments[interleaved], None, 2.0)
    again = evaluate_kinetics(moved, reference, SETTINGS, 3, tica_lag_frames=2)
    assert again.comparison == found.comparison


def test_a_state_that_the_samples_never_visit_is_a_result(reference):
    samples = wells(15, 2000, seed=5)
    moved = np.where(samples.tics[:, :1] > 1.3, PLACES[1], samples.tics)
    samples = replace(samples, tics=moved)
    result = evaluate_kinetics(samples, reference, SETTINGS, 3, tica_lag_frames=2)
    assert result.samples.populations[2].value == 0
    assert result.reference.populations[2].value > 0.1
    assert result.samples.passage_times.value_ps[0][2] is None
    assert result.samples.passage_times.value_ps[0][1] > 0
    assert result.comparison["population_jsd"].value > 0.3
    assert result.comparison["passage_error"].value is not None


def test_weights_change_the_populations(reference):
    samples = wells(15, 2000, seed=6)
    heavy = replace(samples, weights=np.where(samples.segments < 3, 1.0, 1e-9))
    result = evaluate_kinetics(heavy, reference, SETTINGS, 3, tica_lag_frames=2)
    few = replace(samples, tics=samples.tics[:6000], segments=samples.segments[:6000])
    wanted = evaluate_kinetics(few, reference, SETTINGS, 3, tica_lag_frames=2)
    for mine, theirs in zip(result.samples.populations, wanted.samples.populations, strict=True):
        assert mine.value == pytest.approx(theirs.value, abs=1e-5)


@pytest.mark.parametrize(
    ("sample_step", "reference_step", "lag_ps", "reason"),
    [
        (None, 2.0, None, "time step of the samples is not known"),
        (2.0, None, None, "time step of the reference is not known"),
        (3.0, 2.0, None, "4 ps is no multiple of the time step of the samples, 3 ps"),
        (1.0, 2.0, 3.0, "3 ps is no multiple of the time step of the reference, 2 ps"),
        (1.0, 2.0, 1.0, "no multiple of the time step of the reference"),
    ],
)
def test_without_a_common_lag_nothing_is_measured(
    reference, sample_step, reference_step, lag_ps, reason
):
    result = evaluate_kinetics(
        replace(wells(3, 50, seed=7), time_step_ps=sample_step),
        replace(reference, time_step_ps=reference_step),
        SETTINGS.model_copy(update={"lag_ps": lag_ps}),
        3,
        tica_lag_frames=2,
    )
    assert reason in result.reason
    for measures in (result.comparison, result.control):
        assert no_numbers(list(measures.values()))
        assert {m.reason for m in measures.values()} == {result.reason}
    assert result.samples.vamp2.reason == result.reason
    assert (result.samples.n_frames, result.samples.n_segments) == (150, 3)
    json.dumps(result.to_json(), allow_nan=False)


def test_no_samples_give_no_comparison_and_leave_the_reference_measured(reference):
    empty = TimeSeries(np.zeros((0, 2)), np.zeros(0, dtype=int), None, 2.0)
    result = evaluate_kinetics(empty, reference, SETTINGS, 3, tica_lag_frames=2)
    assert no_numbers(list(result.comparison.values()))
    assert all(measure.reason for measure in result.comparison.values())
    assert result.reference.vamp2.value > 2
    assert "there is no frame of the samples" in result.notes
    nothing = evaluate_kinetics(reference, empty, SETTINGS, 3)
    assert nothing.reason == "the reference has no frame"


def test_segments_shorter_than_the_lag_are_counted_and_gaps_have_reasons(reference):
    samples = wells(40, 2, seed=8)
    result = evaluate_kinetics(samples, reference, SETTINGS, 3, tica_lag_frames=2)
    assert result.samples.left_out == {"frames in segments that are not longer than the lag": 80}
    assert result.comparison["passage_error"].value is None
    assert "no transition" in result.comparison["passage_error"].reason
    assert result.samples.vamp2.value is None
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text)["schema_version"] == 1


def test_a_reference_without_states_still_gives_correlations(reference):
    short = wells(100, 2, seed=9)
    result = evaluate_kinetics(reference, short, SETTINGS, 3, tica_lag_frames=2)
    assert (result.n_macrostates, result.chapman_kolmogorov) == (0, None)
    assert any("states were left out" in note for note in result.notes)
    assert result.samples.vamp2.value > 2
    assert result.comparison["population_jsd"].value is None
    assert "no Markov model" in result.comparison["population_jsd"].reason


def test_a_lone_segment_is_cut_into_stretches_and_said(reference):
    result = evaluate_kinetics(
        wells(1, 6000, seed=10), wells(1, 20000, seed=11), SETTINGS, 3, tica_lag_frames=2
    )
    jsd = result.comparison["population_jsd"]
    assert jsd.low <= jsd.value <= jsd.high
    assert jsd.floor_mean == jsd.floor_max  # one split: first half of the time against second
    assert sum("one segment" in note for note in result.notes) == 2


def test_many_segments_share_blocks(reference):
    samples = wells(130, 100, seed=12)
    result = evaluate_kinetics(samples, reference, SETTINGS, 3, tica_lag_frames=2)
    assert "the 130 segments of the samples are gathered to 100 blocks" in result.notes
    assert result.comparison["population_jsd"].low is not None


def test_one_coordinate_has_one_correlation_time(reference):
    line = TimeSeries(reference.tics[:, :1], reference.segments, None, 2.0)
    result = evaluate_kinetics(line, line, SETTINGS, 3, tica_lag_frames=2)
    assert len(result.samples.decorrelation_times) == 1
    assert "decorrelation_error_tic_1" not in result.comparison
    assert result.reference.vamp2.value < 2


def test_bad_arguments_name_themselves(reference):
    line = replace(reference, tics=reference.tics[:, :1])
    with pytest.raises(InputError, match="1 slow coordinates and the reference 2"):
        evaluate_kinetics(line, reference, SETTINGS, 3)
    with pytest.raises(InputError, match="not finite"):
        replace(reference, tics=np.where(reference.tics > 2, np.nan, reference.tics))
    with pytest.raises(InputError, match="time_step_ps is 0"):
        replace(reference, time_step_ps=0.0)


def test_arrays_of_different_lengths_are_refused(no_shape_checks):
    with pytest.raises(InputError, match="segments has 2 entries and tics 3"):
        TimeSeries(np.zeros((3, 1)), np.zeros(2, dtype=int))
