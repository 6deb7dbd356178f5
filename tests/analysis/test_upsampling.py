"""Fast motions against closed forms of an Ornstein-Uhlenbeck process, and against SciPy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from trajgen.analysis.fast_motions import autocorrelations, in_order, join_ratios, power_above
from trajgen.analysis.features import Feature
from trajgen.analysis.upsampling import LAGS_PS, upsampling_measures
from trajgen.errors import InputError

STEP_PS = 0.1
NO_JOINS = np.empty(0, dtype=int)


def decaying(
    n_segments: int, length: int, seed: int, decay: float = 0.98
) -> tuple[Feature, np.ndarray]:
    """Return two terms of unit variance whose autocorrelation after k frames is decay^k."""
    generator = np.random.default_rng(seed)
    noise = np.sqrt(1 - decay**2) * generator.normal(size=(n_segments, length, 2))
    noise[:, 0] = generator.normal(size=(n_segments, 2))
    values = lfilter([1], [1, -decay], noise, axis=1).reshape(-1, 2)
    feature = Feature("distance", ("a", "b"), "nm", values)
    return feature, np.repeat(np.arange(n_segments), length)


def as_angles(feature: Feature, spread: float = 0.5) -> Feature:
    """Return angles about π, so that they cross the seam."""
    values = (np.pi + spread * feature.values + np.pi) % (2 * np.pi) - np.pi
    return Feature("torsion", feature.labels, "rad", values, 2 * np.pi)


def compare(generated, reference, joins=NO_JOINS, factor=10, step_ps=STEP_PS):
    return upsampling_measures(*generated, joins, *reference, step_ps, factor, seed=1)


def power_of_decaying(decay: float, known_every: int) -> float:
    """Return the variance above a frequency: the integral of (1 − a²) / |1 − a exp(−2πif)|²."""
    frequencies = np.linspace(0.5 / known_every, 0.5, 200_001)
    density = (1 - decay**2) / np.abs(1 - decay * np.exp(-2j * np.pi * frequencies)) ** 2
    return 2 * np.trapezoid(density, frequencies)


def test_autocorrelation_of_an_ornstein_uhlenbeck_process():
    feature, segments = decaying(20, 20_000, seed=0)
    series = in_order(feature, segments, NO_JOINS)
    found = autocorrelations(series, np.ones((1, 20)), [1, 10, 50])
    np.testing.assert_allclose(found[0, :, 0], [0.98, 0.98**10, 0.98**50], atol=0.03)


def test_autocorrelation_agrees_with_sums_over_pairs():
    feature, _ = decaying(1, 90, seed=3)
    angles = as_angles(feature)
    segments = np.repeat([4, 1, 7], [50, 3, 37])
    z = np.exp(1j * angles.values)
    z -= z.mean(axis=0)
    wanted = []
    for lag in (2, 5, 60):
        pairs = [(i, i + lag) for i in range(90 - lag) if segments[i] == segments[i + lag]]
        products = [(np.conj(z[i]) * z[j]).real for i, j in pairs]
        wanted.append(np.mean(products, axis=0) if pairs else [np.nan] * 2)
    wanted = np.array(wanted) / (np.abs(z) ** 2).mean(axis=0)
    series = in_order(angles, segments, NO_JOINS)
    found = autocorrelations(series, np.ones((1, 3)), [2, 5, 60])[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    # A block that is drawn twice counts as its frames would, were they there twice.
    rows = autocorrelations(series, np.array([[2.0, 2.0, 2.0], [0.0, 0.0, 1.0]]), [2])
    np.testing.assert_allclose(rows[0, 0], wanted[0], rtol=1e-10)
    assert not np.allclose(rows[1, 0], wanted[0])


@pytest.mark.parametrize("known_every", [2, 10, 25])
def test_power_of_an_ornstein_uhlenbeck_process(known_every):
    feature, segments = decaying(10, 20_000, seed=1, decay=0.9)
    series = in_order(feature, segments, NO_JOINS)
    power, short = power_above(series, np.ones((1, 10)), known_every, 8 * known_every)
    assert short == 0
    wanted = power_of_decaying(0.9, known_every)
    np.testing.assert_allclose(power[0], wanted, rtol=0.05)


def test_power_of_a_wave_is_above_or_below():
    t = np.arange(4000)
    values = np.stack([np.sin(2 * np.pi * 0.02 * t), np.sin(2 * np.pi * 0.2 * t)], axis=1)
    series = in_order(Feature("x", ("slow", "fast"), "nm", values), np.zeros(4000, int), NO_JOINS)
    power, _ = power_above(series, np.ones((1, 10)), 5, 400)
    np.testing.assert_allclose(power[0], [0, 0.5], atol=0.01)


def test_power_is_that_of_frames_not_of_segments():
    t = np.arange(4000)
    values = np.sin(2 * np.pi * 0.2 * t)[:, None] * np.where(t < 1000, 2.0, 1.0)[:, None]
    segments = np.where(t < 1000, 0, 1)
    series = in_order(Feature("x", ("a",), "nm", values), segments, NO_JOINS)
    rows = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
    power, _ = power_above(series, rows, 5, 400)
    np.testing.assert_allclose(power[:, 0], [(1 * 2.0 + 3 * 0.5) / 4, 2.0, 0.5], rtol=0.01)


@pytest.mark.parametrize("angular", [False, True])
def test_the_same_process_lies_at_the_floor(angular):
    mine, theirs = decaying(20, 2000, seed=5), decaying(20, 2000, seed=6)
    if angular:
        mine, theirs = ((as_angles(feature), segments) for feature, segments in (mine, theirs))
    joins = np.arange(0, 40_000, 500)
    measures = compare(mine, theirs, joins)
    for name in ("autocorrelation", "power"):
        measure = getattr(measures, name)
        assert measure.value < 2 * measure.floor_max
        assert measure.low <= measure.value <= measure.high
    assert measures.power_ratio.value == pytest.approx(1, abs=0.1)
    assert measures.joins.value == pytest.approx(1, abs=0.15)
    assert measures.joins.floor_mean == pytest.approx(1, abs=0.1)
    assert [lag.label for lag in measures.lags] == [f"{lag:g} ps" for lag in LAGS_PS]


def test_another_decay_gives_the_known_error():
    mine, theirs = decaying(20, 20_000, seed=5, decay=0.99), decaying(20, 20_000, seed=6)
    measures = compare(mine, theirs)
    wanted = {lag: lag / STEP_PS * np.log(0.99 / 0.98) for lag in LAGS_PS}
    for lag, measure in zip(LAGS_PS, measures.lags, strict=True):
        assert measure.value == pytest.approx(wanted[lag], rel=0.15, abs=0.01)
    assert measures.autocorrelation.value == pytest.approx(np.mean(list(wanted.values())), rel=0.15)
    ratio = power_of_decaying(0.99, 10) / power_of_decaying(0.98, 10)
    assert measures.power_ratio.value == pytest.approx(ratio, rel=0.1)
    assert measures.power.value == pytest.approx(1 - ratio, rel=0.1)
    assert measures.power.low > measures.power.floor_max


def test_straight_lines_between_known_frames_are_too_smooth():
    theirs, segments = decaying(10, 4000, seed=6, decay=0.9)
    frame, known = np.arange(4000), np.arange(0, 4000, 10)
    columns = [
        np.concatenate([np.interp(frame, known, part[known]) for part in column.reshape(10, 4000)])
        for column in theirs.values.T
    ]
    smooth = replace(theirs, values=np.stack(columns, axis=1))
    measures = compare((smooth, segments), (theirs, segments))
    assert measures.power_ratio.value < 0.2
    assert measures.power.value == pytest.approx(1 - measures.power_ratio.value)
    assert measures.autocorrelation.low > measures.autocorrelation.floor_max


def test_shuffled_frames_have_lost_their_correlation():
    theirs, segments = decaying(10, 2000, seed=6)
    order = np.random.default_rng(0).permutation(20_000)
    shuffled = replace(theirs, values=theirs.values[order])
    measures = compare((shuffled, segments), (theirs, segments))
    assert measures.lags[0].value > 2
    assert measures.power_ratio.value > 3


def test_order_of_segments_changes_nothing():
    mine, segments = decaying(6, 1000, seed=2)
    theirs = decaying(6, 1000, seed=6)
    interleaved = np.argsort(np.tile(np.arange(1000), 6), kind="stable")
    joins = np.arange(0, 6000, 250)
    measures = compare((mine, segments), theirs, joins)
    place = np.argsort(interleaved)
    moved = replace(mine, values=mine.values[interleaved])
    other = compare((moved, segments[interleaved]), theirs, place[joins])
    for name in ("autocorrelation", "power", "joins"):
        assert getattr(other, name).value == pytest.approx(getattr(measures, name).value)
    assert other.left_out == measures.left_out


def test_jumps_at_joins_are_found():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.choice([-0.1, 0.1], size=(4000, 2)), axis=0)
    joins = np.arange(0, 4000, 100)
    jump = np.zeros((4000, 2))
    jump[joins[1:]] = 0.3 * np.sign(np.diff(values, axis=0)[joins[1:] - 1])
    feature = Feature("x", ("a", "b"), "nm", values + np.cumsum(jump, axis=0))
    ratios, n = join_ratios(in_order(feature, np.zeros(4000, int), joins), np.ones((1, 10)))
    assert n == 39
    np.testing.assert_allclose(ratios[0], 4.0)
    turned = Feature("x", ("a", "b"), "rad", (feature.values + np.pi) % 6.3 - np.pi, 6.3)
    ratios, _ = join_ratios(in_order(turned, np.zeros(4000, int), joins), np.ones((1, 10)))
    np.testing.assert_allclose(ratios[0], 4.0)


def test_a_window_that_begins_a_segment_joins_nothing():
    theirs = decaying(4, 1000, seed=6)
    measures = compare(decaying(4, 1000, seed=2), theirs, np.arange(0, 4000, 1000))
    assert measures.joins.value is None
    assert "no windows are joined" in measures.joins.reason
    assert measures.left_out["join of windows is at the start of a segment"] == 4


def test_lags_that_do_not_fit_have_a_reason():
    theirs = decaying(4, 1000, seed=6)
    measures = compare(decaying(4, 1000, seed=2), theirs, step_ps=0.2)
    reasons = {lag.label: lag.reason for lag in measures.lags}
    assert "no multiple of the time step of 0.2 ps" in reasons["0.1 ps"]
    assert "no multiple" in reasons["0.5 ps"]
    assert reasons["0.2 ps"] is None
    assert measures.lags[1].value is not None
    coarse = compare(decaying(4, 1000, seed=2), theirs, step_ps=10.0)
    assert coarse.autocorrelation.value is None
    assert "no lag" in coarse.autocorrelation.reason


def test_short_segments_have_no_spectrum_and_no_long_lag():
    theirs = decaying(30, 40, seed=6)
    measures = compare(decaying(30, 40, seed=2), theirs)
    assert measures.power.value is None
    assert "no stretch of 80 frames" in measures.power.reason
    assert measures.left_out["stretch of time is too short for a spectrum"] == 60
    assert measures.lags[-1].value is None
    assert measures.lags[0].value is not None


def test_a_term_that_does_not_vary_is_left_out_and_counted():
    theirs, segments = decaying(4, 1000, seed=6)
    values = theirs.values.copy()
    values[:, 1] = 0.3
    still = replace(theirs, values=values)
    measures = compare((theirs, segments), (still, segments))
    assert measures.left_out["autocorrelation of a term at a lag is too small, or not known"] == 6
    assert measures.autocorrelation.value == pytest.approx(0, abs=1e-9)
    assert measures.power_ratio.value == pytest.approx(1)
    frozen = compare((still, segments), (theirs, segments))
    assert measures.left_out["term has no fast motion in the reference"] == 1
    joined = compare((still, segments), (theirs, segments), joins=np.arange(0, 4000, 100))
    assert joined.left_out["term does not move between joins"] == 1
    assert joined.joins.value is not None
    assert frozen.power_ratio.value == pytest.approx(0.5)  # nothing moves in one of two terms


def test_no_generated_frame_is_no_error():
    theirs, segments = decaying(4, 1000, seed=6)
    nothing = replace(theirs, values=theirs.values[:0])
    measures = compare((nothing, segments[:0]), (theirs, segments))
    assert measures.autocorrelation.value is None
    assert measures.power.value is None
    assert measures.joins.value is None


def test_draws_repeat_for_a_seed():
    pair = decaying(4, 1000, seed=2), decaying(4, 1000, seed=6)
    assert compare(*pair, np.arange(0, 4000, 100)) == compare(*pair, np.arange(0, 4000, 100))


def test_bad_arguments_are_named():
    theirs = decaying(4, 100, seed=6)
    feature, segments = theirs
    with pytest.raises(InputError, match="factor is 1"):
        compare(theirs, theirs, factor=1)
    with pytest.raises(InputError, match="time_step_ps is 0"):
        compare(theirs, theirs, step_ps=0.0)
    with pytest.raises(InputError, match="joins go from 5 to 400"):
        compare(theirs, theirs, joins=np.array([5, 400]))
    with pytest.raises(InputError, match="generated has a NaN"):
        compare((replace(feature, values=feature.values * np.nan), segments), theirs)
    with pytest.raises(InputError, match="wanted are the same terms"):
        compare((replace(feature, labels=("a", "c")), segments), theirs)
