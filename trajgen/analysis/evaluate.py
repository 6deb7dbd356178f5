"""Compare an ensemble of frames with a reference: distances, their noise, and coverage."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import Field

from trajgen.analysis.coverage import coverage
from trajgen.analysis.ensemble import (
    Comparison,
    contact_distance,
    energy_distances,
    free_energy_distance,
    jensen_shannon_distances,
    wasserstein_distances,
)
from trajgen.analysis.evaluation import Evaluation, FrameCount
from trajgen.analysis.frame_table import FrameTable, scan, tabulate, tabulate_reference
from trajgen.analysis.kinetics.evaluate_kinetics import KineticsSettings, evaluate_kinetics
from trajgen.analysis.kinetics.records import Kinetics, TimeSeries
from trajgen.analysis.legacy import LegacyStrides
from trajgen.analysis.measures import Coverage
from trajgen.analysis.nativeness import NativeFeature, mirror_image_distance
from trajgen.analysis.representation import require_same
from trajgen.analysis.resampling import Weightings, resampled_against, split_halves
from trajgen.analysis.shares import shares
from trajgen.analysis.tica import TicaFit
from trajgen.data.sources import FrameSource
from trajgen.errors import InputError
from trajgen.settings import Settings

#: Stretches of time that a lone segment of samples is cut into for the bootstrap.
TIME_BLOCKS = 10


class EvaluationSettings(Settings):
    """What an evaluation computes.

    Attributes:
        tica_lag_frames: lag of TICA in saved frames of the reference.
        bootstrap_resamples: resamples of the block-bootstrap interval.
        floor_splits: random splits of the reference into halves.
        coverage_frames: frames drawn from each set for the coverage.
        coverage_cutoff_nm: nearest RMSD within which a frame counts as covered.
        native_cutoff_nm: RMSD within which a frame is at a structure that was given.
        legacy: also the five numbers of a published benchmark as its code computes them, with
            these strides; None for not.
        kinetics: how states and time scales are compared; None for not.
    """

    tica_lag_frames: int = Field(default=10, ge=1)
    bootstrap_resamples: int = Field(default=100, ge=10)
    floor_splits: int = Field(default=10, ge=1)
    coverage_frames: int = Field(default=1000, ge=1)
    coverage_cutoff_nm: float = Field(default=0.15, gt=0)
    native_cutoff_nm: float = Field(default=0.25, gt=0)
    legacy: LegacyStrides | None = None
    kinetics: KineticsSettings | None = KineticsSettings()


@dataclass(frozen=True)
class Reference:
    """A reference that is gone through once and judges any number of sets.

    Attributes:
        table: its frames.
        fit: its TICA.
        halves: weightings of its halves.
        settings: what is computed.
        seed: base of every draw.
        structure_nm: the structure that frames are compared with, None for none.
    """

    table: FrameTable
    fit: TicaFit
    halves: Weightings
    settings: EvaluationSettings
    seed: int
    structure_nm: Float[np.ndarray, "beads 3"] | None


def read_reference(
    source: FrameSource,
    settings: EvaluationSettings,
    seed: int,
    structure_nm: Float[np.ndarray, "beads 3"] | None = None,
) -> Reference:
    """Go through a reference; TICA and the floor use only its frames.

    Args:
        source: frames to judge by.
        settings: what to compute.
        seed: base of every draw.
        structure_nm: a structure that the RMSD of all frames is measured to, None for none.

    Raises:
        InputError: there are no two frames that can be measured, or the structure does not fit.
    """
    more = () if structure_nm is None else (NativeFeature(structure_nm),)
    drawn = 2 * settings.coverage_frames  # enough for each half
    table, fit = tabulate_reference(source, settings.tica_lag_frames, drawn, seed, more)
    if table.n_frames < 2:
        raise InputError(
            f"the reference has {table.n_frames} frames that can be measured; at least 2 are wanted"
        )
    halves = split_halves(table.weights, table.blocks, settings.floor_splits, seed)
    return Reference(table, fit, halves, settings, seed, structure_nm)


def read_samples(source: FrameSource, reference: Reference) -> FrameTable:
    """Go through the frames to judge.

    Raises:
        InputError: they are of another molecule than the reference.
    """
    require_same(reference.table.topology, source.topology, ("the reference", "the sample set"))
    more = () if reference.structure_nm is None else (NativeFeature(reference.structure_nm),)
    drawn = 2 * reference.settings.coverage_frames
    model = reference.fit.model
    return tabulate(source, scan(source), model, TIME_BLOCKS, drawn, reference.seed, more)


def evaluate(
    samples: FrameSource,
    reference: FrameSource,
    settings: EvaluationSettings,
    seed: int,
    left_out: Mapping[str, int] | None = None,
) -> Evaluation:
    """Measure how far the ensemble of ``samples`` is from that of ``reference``.

    Samples without a usable frame (every chain failed) give an evaluation without numbers and
    with the reason. To judge several sets by one reference, see ``judge``.

    Args:
        samples: frames to judge; each segment (a chain, a replica) is one block of the bootstrap.
        reference: frames to judge by.
        settings: what to compute.
        seed: base of every draw.
        left_out: frames that the caller left out of the samples already, by reason.

    Raises:
        InputError: the two are of different molecules, or the reference has no two usable frames.
    """
    require_same(reference.topology, samples.topology, ("the reference", "the sample set"))
    known = read_reference(reference, settings, seed)
    return judge(read_samples(samples, known), known, left_out)


def judge(
    samples: FrameTable, reference: Reference, left_out: Mapping[str, int] | None = None
) -> Evaluation:
    """Measure how far a set of frames is from a reference; see ``evaluate``."""
    settings, table = reference.settings, reference.table
    against = None
    if samples.n_frames:
        against = resampled_against(
            samples.weights,
            samples.blocks,
            table.weights,
            settings.bootstrap_resamples,
            reference.seed,
        )
    pair = Comparison(samples, table, against, reference.halves, reference.fit.reason)
    free_energy, unvisited = free_energy_distance(pair)
    return Evaluation(
        distances=wasserstein_distances(pair),
        divergences=(
            *jensen_shannon_distances(pair),
            *energy_distances(pair),
            free_energy,
            contact_distance(pair),
        ),
        shares=shares(pair, settings.native_cutoff_nm),
        coverage=_coverages(samples, reference),
        samples=_count(samples, left_out or {}),
        reference=_count(table, {}),
        notes=(*_notes(samples, reference), *_unvisited_notes(unvisited)),
        settings=settings.model_dump(mode="json"),
        seed=reference.seed,
        kinetics=_kinetics(samples, reference),
    )


def _kinetics(samples: FrameTable, reference: Reference) -> Kinetics | None:
    settings = reference.settings
    if settings.kinetics is None:
        return None
    return evaluate_kinetics(
        _time_series(samples),
        _time_series(reference.table),
        settings.kinetics,
        reference.seed,
        settings.tica_lag_frames,
    )


def _time_series(table: FrameTable) -> TimeSeries:
    """Return the slow coordinates of a table; without any the kinetics say so."""
    tics = np.zeros((table.n_frames, 0)) if table.tics is None else table.tics
    weights = table.weights if len(np.unique(table.weights)) > 1 else None
    return TimeSeries(tics, table.segments, weights, table.time_step_ps, table.runs)


def _coverages(samples: FrameTable, reference: Reference) -> tuple[Coverage, ...]:
    table, settings = reference.table, reference.settings
    one = reference.halves.factors[0][table.blocks[table.drawn_rows]] > 0
    mine, theirs = samples.drawn, table.drawn
    pairs = (
        (theirs, mine, ("reference", "samples")),
        (mine, theirs, ("samples", "reference")),
        (
            theirs.take(one),
            theirs.take(~one),
            ("half of the reference", "other half of the reference"),
        ),
    )
    return tuple(
        coverage(a, b, names, settings.coverage_frames, settings.coverage_cutoff_nm, reference.seed)
        for a, b, names in pairs
    )


def _count(table: FrameTable, left_out: Mapping[str, int]) -> FrameCount:
    return FrameCount(table.n_frames, table.n_segments, {**left_out, **table.left_out})


def _notes(samples: FrameTable, reference: Reference) -> tuple[str, ...]:
    notes = []
    if samples.n_frames == 0:
        notes.append("the samples have no frame that can be measured")
    elif samples.n_segments == 1:
        notes.append(
            f"the samples are one segment: the bootstrap draws stretches of its time (at most "
            f"{TIME_BLOCKS}), which are correlated, so the intervals may be too narrow"
        )
    if reference.table.n_segments == 1:
        notes.append(
            "the reference is one segment: the floor compares its first with its second half in "
            "time, which are correlated"
        )
    notes += _mirror_notes(reference)
    if reference.fit.reason is not None:
        notes.append(f"TICA was left out: {reference.fit.reason}")
    if reference.fit.n_short_segments:
        notes.append(
            f"{reference.fit.n_short_segments} segments of the reference are not longer than the "
            f"TICA lag of {reference.settings.tica_lag_frames} frames and gave no pair"
        )
    return tuple(notes)


def _mirror_notes(reference: Reference) -> list[str]:
    cutoff_nm = reference.settings.native_cutoff_nm
    if reference.structure_nm is None:
        return []
    apart_nm = mirror_image_distance(reference.structure_nm)
    if apart_nm > 2 * cutoff_nm:
        return []
    return [
        f"the structure and its mirror image are {apart_nm:.3g} nm apart, less than twice the "
        f"cutoff of {cutoff_nm:g} nm: some frames are within it of both, and count for the nearer"
    ]


def _unvisited_notes(bins: int) -> list[str]:
    if bins == 0:
        return []
    return [
        f"the samples never visit {bins} bins of the free energy grid that the reference visits; "
        "each counts with the mass of one frame"
    ]
