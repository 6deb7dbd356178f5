"""Compare an ensemble of bead frames with a reference: distances, their noise, and coverage."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from pydantic import Field

from trajgen.analysis.coverage import coverage
from trajgen.analysis.features import (
    Feature,
    bend_angles,
    bond_lengths,
    defined_frames,
    dihedral_angles,
    end_to_end_distances,
    pair_distances,
)
from trajgen.analysis.measures import Coverage, Distance, Evaluation, FrameCount, Measure
from trajgen.analysis.resampling import Weightings, resampled_against, segment_blocks, split_halves
from trajgen.analysis.tica import TicaFit, fit_tica
from trajgen.data.records import BeadFrames
from trajgen.errors import InputError
from trajgen.settings import Settings

#: Stretches of time that a lone segment of samples is cut into for the bootstrap.
TIME_BLOCKS = 10

_LINE = "exact Wasserstein-1"
_CIRCLE = "exact Wasserstein-1 on the circle"
_PLANE = "sliced Wasserstein-1 in the plane, 64 directions"


class EvaluationSettings(Settings):
    """What an evaluation computes.

    Attributes:
        tica_lag_frames: lag of TICA in saved frames of the reference.
        bootstrap_resamples: resamples of the block-bootstrap interval.
        floor_splits: random splits of the reference into halves.
        coverage_frames: frames drawn from each set for the coverage.
        coverage_cutoff_nm: nearest RMSD within which a frame counts as covered.
    """

    tica_lag_frames: int = Field(default=10, ge=1)
    bootstrap_resamples: int = Field(default=100, ge=10)
    floor_splits: int = Field(default=10, ge=1)
    coverage_frames: int = Field(default=1000, ge=1)
    coverage_cutoff_nm: float = Field(default=0.15, gt=0)


def evaluate(
    samples: BeadFrames,
    reference: BeadFrames,
    settings: EvaluationSettings,
    seed: int,
    left_out: Mapping[str, int] | None = None,
) -> Evaluation:
    """Measure how far the ensemble of ``samples`` is from that of ``reference``.

    Samples without a usable frame (every chain failed) give an evaluation without numbers and
    with the reason.

    Args:
        samples: frames to judge; each segment (a chain, a replica) is one block of the bootstrap.
        reference: frames to judge by; TICA and the floor use only these.
        settings: what to compute.
        seed: base of every draw.
        left_out: frames that the caller left out of the samples already, by reason.

    Raises:
        InputError: the two are of different molecules, or the reference has no two usable frames.
    """
    reference.topology.require_same(samples.topology, "the reference", "the sample set")
    samples, samples_left_out = usable_frames(samples)
    reference, reference_left_out = usable_frames(reference)
    if reference.n_frames < 2:
        raise InputError(
            f"the reference has {reference.n_frames} frames that can be measured; at least 2 "
            "are wanted"
        )
    against, halves = _weightings(samples, reference, settings, seed)
    fit = fit_reference_tica(reference, settings)
    computes: tuple[Callable[[BeadFrames], Feature], ...] = (
        end_to_end_distances,
        bond_lengths,
        bend_angles,
        dihedral_angles,
    )
    return Evaluation(
        distances=(
            *_tica_distances(samples, reference, fit, against, halves),
            *(
                _feature_distance(compute(samples), compute(reference), against, halves)
                for compute in computes
            ),
        ),
        coverage=_coverages(samples, reference, halves, settings, seed),
        samples=_count(samples, {**(left_out or {}), **samples_left_out}),
        reference=_count(reference, reference_left_out),
        notes=_notes(samples, reference, fit, settings),
        settings=settings.model_dump(mode="json"),
        seed=seed,
    )


def usable_frames(frames: BeadFrames) -> tuple[BeadFrames, dict[str, int]]:
    """Return the frames that can be measured, and the number of others by reason."""
    defined = defined_frames(frames)
    weighted = np.ones(frames.n_frames, bool) if frames.weights is None else frames.weights > 0
    counts = {
        "consecutive beads coincide or lie on a line": int((~defined).sum()),
        "weight is zero": int((defined & ~weighted).sum()),
    }
    left_out = {reason: count for reason, count in counts.items() if count}
    return (frames.take(defined & weighted) if left_out else frames), left_out


def fit_reference_tica(reference: BeadFrames, settings: EvaluationSettings) -> TicaFit:
    """Fit TICA on the pair distances of the reference."""
    return fit_tica(
        pair_distances(reference).values,
        reference.segments,
        reference.weights,
        settings.tica_lag_frames,
    )


def _weightings(
    samples: BeadFrames, reference: BeadFrames, settings: EvaluationSettings, seed: int
) -> tuple[Weightings | None, Weightings]:
    """Return the weightings behind values and intervals, and those behind the floor."""
    halves = split_halves(
        _weights(reference), segment_blocks(reference.segments, 2), settings.floor_splits, seed
    )
    if samples.n_frames == 0:
        return None, halves
    against = resampled_against(
        _weights(samples),
        segment_blocks(samples.segments, TIME_BLOCKS),
        _weights(reference),
        settings.bootstrap_resamples,
        seed,
    )
    return against, halves


def _weights(frames: BeadFrames) -> Float[np.ndarray, " frames"]:
    if frames.weights is None:
        return np.ones(frames.n_frames)
    return frames.weights.astype(np.float64)


def _feature_distance(
    samples: Feature, reference: Feature, against: Weightings | None, halves: Weightings
) -> Distance:
    method = _LINE if reference.period is None else _CIRCLE
    if not reference.labels:
        reason = "the molecule has too few beads in a chain for this coordinate"
        return _unmeasured(reference.name, method, reference.unit, reason)
    rows = None
    if against is not None:
        rows = against.distances(
            np.concatenate([samples.values, reference.values]), reference.period
        )
    floor = halves.distances(reference.values, reference.period)
    return _distance(reference.name, method, reference.unit, reference.labels, rows, floor)


def _tica_distances(
    samples: BeadFrames,
    reference: BeadFrames,
    fit: TicaFit,
    against: Weightings | None,
    halves: Weightings,
) -> tuple[Distance, Distance]:
    unit = "TIC units"
    if fit.model is None:
        reason = fit.reason or "TICA gave no model"
        return (
            _unmeasured("tica_2d", _PLANE, unit, reason),
            _unmeasured("tica_0", _LINE, unit, reason),
        )
    of_reference = fit.model.transform(pair_distances(reference).values)[:, :2]
    of_samples = fit.model.transform(pair_distances(samples).values)[:, :2]
    both = np.concatenate([of_samples, of_reference])
    line = _distance(
        "tica_0",
        _LINE,
        unit,
        ("TIC 0",),
        None if against is None else against.distances(both[:, :1], None),
        halves.distances(of_reference[:, :1], None),
    )
    if both.shape[1] < 2:
        reason = "the reference varies along one slow coordinate only"
        return _unmeasured("tica_2d", _PLANE, unit, reason), line
    plane = _distance(
        "tica_2d",
        _PLANE,
        unit,
        ("TIC 0 and TIC 1",),
        None if against is None else against.sliced_distances(both),
        halves.sliced_distances(of_reference),
    )
    return plane, line


def _distance(
    name: str,
    method: str,
    unit: str,
    labels: tuple[str, ...],
    rows: Float[np.ndarray, "rows terms"] | None,
    floor: Float[np.ndarray, "splits terms"],
) -> Distance:
    """Turn rows (the value, then its resamples) and floors into measures, per term and pooled."""
    terms = tuple(
        _measure(label, unit, None if rows is None else rows[:, i], floor[:, i])
        for i, label in enumerate(labels)
    )
    mean_rows = None if rows is None else rows.mean(axis=1)
    pooled = _measure("mean over terms", unit, mean_rows, floor.mean(axis=1))
    return Distance(name, method, pooled, terms)


def _measure(
    label: str,
    unit: str,
    rows: Float[np.ndarray, " rows"] | None,
    floor: Float[np.ndarray, " splits"],
) -> Measure:
    measure = Measure(
        label, unit, None, floor_mean=float(floor.mean()), floor_max=float(floor.max())
    )
    if rows is None:
        return replace(measure, reason="the samples have no frame that can be measured")
    if not np.isfinite(rows).all():
        return replace(measure, reason="the coordinates are too large for a number")
    value = float(rows[0])
    if len(rows) == 1:
        return replace(measure, value=value, reason="a single frame gives no interval")
    # A resample of few segments is farther from anything than the sample itself is: without this
    # bias (Efron, Tibshirani 1993, An Introduction to the Bootstrap, ch. 10) the percentiles
    # would lie to one side of the value.
    centred = rows[1:] - rows[1:].mean() + value
    low, high = np.quantile(centred, [0.025, 0.975])
    return replace(measure, value=value, low=max(float(low), 0.0), high=float(high))


def _unmeasured(name: str, method: str, unit: str, reason: str) -> Distance:
    return Distance(name, method, Measure("mean over terms", unit, None, reason=reason), ())


def _coverages(
    samples: BeadFrames,
    reference: BeadFrames,
    halves: Weightings,
    settings: EvaluationSettings,
    seed: int,
) -> tuple[Coverage, ...]:
    first = halves.factors[0][halves.blocks] > 0
    pairs = (
        (reference, samples, ("reference", "samples")),
        (samples, reference, ("samples", "reference")),
        (
            reference.take(first),
            reference.take(~first),
            ("half of the reference", "other half of the reference"),
        ),
    )
    return tuple(
        coverage(a, b, names, settings.coverage_frames, settings.coverage_cutoff_nm, seed)
        for a, b, names in pairs
    )


def _count(frames: BeadFrames, left_out: Mapping[str, int]) -> FrameCount:
    return FrameCount(frames.n_frames, len(np.unique(frames.segments)), dict(left_out))


def _notes(
    samples: BeadFrames, reference: BeadFrames, fit: TicaFit, settings: EvaluationSettings
) -> tuple[str, ...]:
    notes = []
    if samples.n_frames == 0:
        notes.append("the samples have no frame that can be measured")
    elif len(np.unique(samples.segments)) == 1:
        notes.append(
            f"the samples are one segment: the bootstrap draws stretches of its time (at most "
            f"{TIME_BLOCKS}), which are correlated, so the intervals may be too narrow"
        )
    if len(np.unique(reference.segments)) == 1:
        notes.append(
            "the reference is one segment: the floor compares its first with its second half in "
            "time, which are correlated"
        )
    if fit.reason is not None:
        notes.append(f"TICA was left out: {fit.reason}")
    if fit.n_short_segments:
        notes.append(
            f"{fit.n_short_segments} segments of the reference are not longer than the TICA lag "
            f"of {settings.tica_lag_frames} frames and gave no pair"
        )
    return tuple(notes)
