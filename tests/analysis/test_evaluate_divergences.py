"""Divergences and shares of a whole evaluation against SciPy and NumPy; both sides have weights."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import energy_distance

from trajgen.analysis.contacts import CONTACT_CUTOFF_NM
from trajgen.analysis.evaluate import (
    EvaluationSettings,
    evaluate,
    judge,
    read_reference,
    read_samples,
)
from trajgen.analysis.frame_table import slow_coordinates
from trajgen.analysis.nativeness import mirror_image_distance

SETTINGS = EvaluationSettings(
    tica_lag_frames=3, bootstrap_resamples=20, coverage_frames=20, kinetics=None
)
PAIRS = [(i, j) for i in range(6) for j in range(i + 3, 6)]
LARGEST = math.sqrt(math.log(2))


@pytest.fixture(scope="module")
def samples(fluctuating):
    return weighted(fluctuating(5, 40, seed=1, spread_nm=0.1, shift=1.5), 0.1, 1.0, seed=0)


@pytest.fixture(scope="module")
def reference(fluctuating):
    """Two segments of different length: one split into halves, which is known."""
    frames = fluctuating(2, 150, seed=3, spread_nm=0.1)
    return weighted(frames.take(slice(0, 270)), 0.5, 2.0, seed=1)


@pytest.fixture(scope="module")
def tics(samples, reference):
    model = read_reference(reference, SETTINGS, seed=1).fit.model
    return [slow_coordinates(model, frames) for frames in (samples, reference)]


@pytest.fixture(scope="module")
def evaluation(samples, reference):
    return evaluate(samples, reference, SETTINGS, seed=1)


def weighted(frames, low, high, seed):
    weights = np.random.default_rng(seed).uniform(low, high, frames.n_frames)
    return replace(frames, weights=weights)


def bonds(frames):
    return np.linalg.norm(np.diff(frames.positions_nm.astype(float), axis=1), axis=2)


def contacts(frames):
    positions = frames.positions_nm.astype(float)
    apart = [np.linalg.norm(positions[:, i] - positions[:, j], axis=1) for i, j in PAIRS]
    return np.stack(apart, axis=1) < CONTACT_CUTOFF_NM


def dihedrals(frames):
    steps = np.diff(frames.positions_nm.astype(float), axis=1)
    normals = np.cross(steps[:, :-1], steps[:, 1:])
    middle = steps[:, 1:-1] / np.linalg.norm(steps[:, 1:-1], axis=2, keepdims=True)
    across = np.cross(normals[:, :-1], normals[:, 1:])
    cosine = (normals[:, :-1] * normals[:, 1:]).sum(axis=2)
    return np.arctan2((across * middle).sum(axis=2), cosine)


def jensen_shannon(a, b, weights, span, bins=100):
    masses = [
        np.histogram(x, bins, span, weights=w)[0] for x, w in zip((a, b), weights, strict=True)
    ]
    return jensenshannon(*masses)


def contact_difference(a, b, weights):
    return abs(np.average(a, weights=weights[0]) - np.average(b, weights=weights[1]))


DISTANCES = {
    "contacts": (contacts, contact_difference),
    "energy_bond": (bonds, lambda a, b, weights: energy_distance(a, b, *weights)),
    "jensen_shannon_dihedral": (
        dihedrals,
        lambda a, b, weights: jensen_shannon(a, b, weights, (-np.pi, np.pi)),
    ),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_terms_and_floors_agree_with_independent_ones(evaluation, samples, reference, name):
    compute, distance = DISTANCES[name]
    halves = [reference.take(reference.segments == segment) for segment in (0, 1)]
    found = evaluation.distance(name)
    for sides, number in (((samples, reference), "value"), (halves, "floor_max")):
        a, b = (compute(frames) for frames in sides)
        weights = [frames.weights for frames in sides]
        wanted = [distance(a[:, term], b[:, term], weights) for term in range(a.shape[1])]
        np.testing.assert_allclose([getattr(t, number) for t in found.terms], wanted, atol=1e-9)
        assert getattr(found.pooled, number) == pytest.approx(np.mean(wanted))
        assert max(wanted) > 0.02
    assert found.pooled.floor_mean == found.pooled.floor_max  # of two segments there is one split


def test_jensen_shannon_distances_of_slow_coordinates(evaluation, samples, reference, tics):
    weights = samples.weights, reference.weights
    low, high = (edge(np.concatenate(tics), axis=0) for edge in (np.min, np.max))
    line = jensen_shannon(*(t[:, 0] for t in tics), weights, (low[0], high[0]))
    assert evaluation.distance("jensen_shannon_tica_0").pooled.value == pytest.approx(line)
    spans = [(low[axis], high[axis]) for axis in (0, 1)]
    masses = [
        np.histogram2d(t[:, 0], t[:, 1], 50, spans, weights=w)[0].ravel()
        for t, w in zip(tics, weights, strict=True)
    ]
    plane = evaluation.distance("jensen_shannon_tica_2d").pooled
    assert plane.value == pytest.approx(jensenshannon(*masses))
    # The floor has the bins of the value: those over the samples too.
    first = reference.segments == 0
    slowest = tics[1][first, 0], tics[1][~first, 0]
    weights = reference.weights[first], reference.weights[~first]
    floor = evaluation.distance("jensen_shannon_tica_0").pooled.floor_max
    assert floor == pytest.approx(jensen_shannon(*slowest, weights, (low[0], high[0])))
    assert 0.1 < line < 0.9 * LARGEST


def test_energy_distance_of_the_slowest_coordinate(evaluation, samples, reference, tics):
    wanted = energy_distance(tics[0][:, 0], tics[1][:, 0], samples.weights, reference.weights)
    assert evaluation.distance("energy_tica_0").pooled.value == pytest.approx(wanted)


def test_free_energy_counts_frames_off_the_grid_and_bins_never_visited(
    evaluation, samples, reference, tics
):
    mine, theirs = (t[:, :2] for t in tics)
    spans = np.stack([theirs.min(axis=0), theirs.max(axis=0)], axis=1)
    p, q = (
        np.histogram2d(x[:, 0], x[:, 1], 25, spans, weights=weights / weights.sum())[0]
        for x, weights in ((mine, samples.weights), (theirs, reference.weights))
    )
    visited = q > 0
    shares = np.where(p > 0, p, 1 / samples.n_frames)[visited]
    squares = (np.log(shares) - np.log(q[visited])) ** 2
    wanted = math.sqrt(np.average(squares, weights=q[visited]))
    assert evaluation.distance("free_energy_tica_2d").pooled.value == pytest.approx(wanted)
    unvisited = (p[visited] == 0).sum()
    assert any(f"never visit {unvisited} bins" in note for note in evaluation.notes)
    assert 0.1 < 1 - p.sum() < 0.9
    assert 0 < unvisited < visited.sum()
    assert (shares < 1 / samples.n_frames).any()  # by its weight less than a frame, but visited


def test_intervals_end_at_the_largest_value(fluctuating):
    """A long segment shares nothing with the reference, five short ones are like it.

    A third of the resamples lack the long one: they pull the mean far below the value, and the
    centred interval would end above what the measure can be.
    """
    near = fluctuating(6, 100, seed=3)
    compact = replace(near, positions_nm=near.positions_nm / 4)  # all pairs are in contact
    positions = compact.positions_nm.copy()
    positions[:100] *= 40  # none is
    kept = (near.segments == 0) | (np.arange(600) % 100 < 5)
    samples = replace(compact, positions_nm=positions).take(kept)
    evaluation = evaluate(samples, compact, SETTINGS, seed=1)
    contacts_found = evaluation.distance("contacts")
    for measure in (contacts_found.pooled, *contacts_found.terms):
        assert measure.value == pytest.approx(0.8)
        assert measure.high == 1
    slowest = evaluation.distance("jensen_shannon_tica_0").pooled
    assert slowest.value < slowest.high == pytest.approx(LARGEST)


def test_explosion_is_a_weighted_share_beside_that_of_the_reference(blown):
    samples, reference = blown
    share = explosion(evaluate(samples, reference, SETTINGS, seed=1))
    mine, theirs = (
        np.average(frames.positions_nm[:, -1, 1] > 1.5, weights=frames.weights) for frames in blown
    )
    assert share.samples.value == pytest.approx(mine)
    assert 0 <= share.samples.low < mine < share.samples.high <= 1
    assert share.reference.value == pytest.approx(theirs)
    assert share.reference.unit == share.samples.unit == "share"
    assert (share.reference.low, share.reference.high, share.reference.reason) == (None,) * 3
    first = reference.segments == 0
    halves = [
        np.average(reference.positions_nm[half, -1, 1] > 1.5, weights=reference.weights[half])
        for half in (first, ~first)
    ]
    for side in (share.samples, share.reference):
        assert side.floor_max == side.floor_mean == pytest.approx(abs(halves[0] - halves[1]))
    assert abs(halves[0] - halves[1]) > 0.1
    assert abs(mine - theirs) > 0.02


def test_without_samples_the_reference_keeps_its_share(blown):
    samples, reference = blown
    nothing = samples.take(slice(0, 0))
    share = explosion(evaluate(nothing, reference, SETTINGS, seed=1))
    whole = explosion(evaluate(samples, reference, SETTINGS, seed=1))
    assert share.samples.value is None
    assert "no frame" in share.samples.reason
    assert share.reference == whole.reference


@pytest.mark.parametrize(("share_of_distance", "noted"), [(0.49, False), (0.51, True)])
def test_mirror_image_is_noted_where_it_is_near(samples, reference, share_of_distance, noted):
    """Within a cutoff of half their distance a frame may be near both."""
    structure = reference.positions_nm[0].astype(float)
    cutoff_nm = share_of_distance * mirror_image_distance(structure)
    settings = SETTINGS.model_copy(update={"native_cutoff_nm": cutoff_nm})
    known = read_reference(reference, settings, 1, structure)
    notes = judge(read_samples(samples, known), known).notes
    assert any("mirror image are" in note for note in notes) == noted


@pytest.fixture(scope="module")
def blown(fluctuating):
    """Samples and a reference of two segments; the last bead of some frames is 2 nm away."""
    sets = []
    for frames, begin, end in (
        (fluctuating(5, 40, seed=1), 30, 90),
        (fluctuating(2, 150, 3), 20, 90),
    ):
        positions = frames.positions_nm.copy()
        positions[begin:end, -1, 1] += 2
        sets.append(weighted(replace(frames, positions_nm=positions), 0.1, 1.0, seed=2))
    return sets


def explosion(evaluation):
    (share,) = (share for share in evaluation.shares if share.name == "explosion")
    return share
