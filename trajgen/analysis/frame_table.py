"""What the measures need of every frame of a set, gathered in two passes over its chunks.

The first pass finds the frames that can be measured and, of a reference, the covariances of TICA.
The second computes the coordinates of those frames. Only coordinates stay, not positions: so a set
may be larger than the memory, and a table that is itself large lies in a temporary file.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from trajgen.analysis.contacts import contact_counts, contact_indicators
from trajgen.analysis.features import Feature
from trajgen.analysis.representation import Representation, representation_of
from trajgen.analysis.resampling import segment_blocks
from trajgen.analysis.tica import TicaEstimator, TicaFit, TicaModel
from trajgen.data.mapping import bead_topology
from trajgen.data.records import BeadFrames, join_chunks
from trajgen.data.sources import Frames, FrameSource, Topology
from trajgen.seeding import derive_seed, numpy_generator

#: Frames whose features are held at once.
CHUNK = 16_384
#: Pair distances that are held at once.
_MOST_PAIRS = 20_000_000
#: Slow coordinates that are kept; the states of kinetics can be made of no more.
KEPT_TICS = 4
#: A table of more bytes lies in a temporary file.
_MOST_BYTES = 2_000_000_000

UNDEFINED = "consecutive beads or atoms coincide or lie on a line"
WEIGHTLESS = "weight is zero"


@dataclass(frozen=True)
class FrameTable:
    """The coordinates of all frames of a set that can be measured.

    Attributes:
        topology: the beads, or the atoms.
        features: coordinates by name, see ``representation``.
        tics: slow coordinates, None where there is no TICA.
        contacts: weighted number of frames in contact, of each block and pair.
        contact_labels: the pairs.
        failures: whether each frame fails a check of validity, by check.
        segments: segment of each frame.
        runs: like ``segments``, but a new number after every frame that was left out: only within
            a run are frames consecutive.
        blocks: block of each frame for resampling.
        weights: weight of each frame, 1 where the set has none.
        time_step_ps: time between consecutive frames, None where there is none.
        drawn: some frames, drawn evenly.
        drawn_rows: the rows of those frames.
        left_out: frames of the set that are not in the table, by reason.
    """

    topology: Topology
    features: Mapping[str, Feature]
    tics: Float[np.ndarray, "frames tics"] | None
    contacts: Float[np.ndarray, "blocks pairs"]
    contact_labels: tuple[str, ...]
    failures: Mapping[str, Bool[np.ndarray, " frames"]]
    segments: Int[np.ndarray, " frames"]
    runs: Int[np.ndarray, " frames"]
    blocks: Int[np.ndarray, " frames"]
    weights: Float[np.ndarray, " frames"]
    time_step_ps: float | None
    drawn: Frames
    drawn_rows: Int[np.ndarray, " drawn"]
    left_out: Mapping[str, int]

    @property
    def n_frames(self) -> int:
        """The number of frames in the table."""
        return len(self.segments)

    @property
    def n_segments(self) -> int:
        """The number of segments that have a frame in the table."""
        return len(np.unique(self.segments))


@dataclass(frozen=True)
class Scan:
    """What the first pass found.

    Attributes:
        usable: whether each frame can be measured.
        segments: segment of each usable frame.
        runs: see ``FrameTable``.
        weights: weight of each usable frame.
        time_step_ps: time between consecutive frames, None where there is none or not one.
        left_out: the number of other frames, by reason.
    """

    usable: Bool[np.ndarray, " all_frames"]
    segments: Int[np.ndarray, " frames"]
    runs: Int[np.ndarray, " frames"]
    weights: Float[np.ndarray, " frames"]
    time_step_ps: float | None
    left_out: dict[str, int]


def scan(source: FrameSource, tica: TicaEstimator | None = None) -> Scan:
    """Go through a source once; feed ``tica`` with the features of its usable frames."""
    measured = representation_of(source.topology)
    masks, segments, runs, weights = [], [], [], []
    steps: set[float | None] = set()
    left_out: Counter[str] = Counter()
    run, before = -1, (-1, False)  # the segment of the last frame, and whether it was usable
    for chunk in _pieces(source):
        usable, counts = _usable(measured, chunk)
        left_out.update(counts)
        shares = _weights(chunk)
        last_segments = np.concatenate([[before[0]], chunk.segments[:-1]])
        last_usable = np.concatenate([[before[1]], usable[:-1]])
        begins = usable & ((chunk.segments != last_segments) | ~last_usable)
        numbers = run + np.cumsum(begins)
        run, before = int(numbers[-1]), (int(chunk.segments[-1]), bool(usable[-1]))
        masks.append(usable)
        segments.append(chunk.segments[usable])
        runs.append(numbers[usable])
        weights.append(shares[usable])
        # Frames without a neighbour have no step, and say nothing about that of the others.
        if chunk.time_step_ps is not None or (chunk.segments == last_segments).any():
            steps.add(chunk.time_step_ps)
        if tica is not None and usable.any():
            tica.add(measured.slow_features(chunk.take(usable)), runs[-1], weights[-1])
    return Scan(
        usable=np.concatenate([np.zeros(0, bool), *masks]),
        segments=np.concatenate([np.zeros(0, np.int64), *segments]),
        runs=np.concatenate([np.zeros(0, np.int64), *runs]),
        weights=np.concatenate([np.zeros(0), *weights]),
        time_step_ps=steps.pop() if len(steps) == 1 else None,
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def tabulate(
    source: FrameSource,
    found: Scan,
    tica: TicaModel | None,
    time_blocks: int,
    drawn: int,
    seed: int,
    more: tuple[Callable[[BeadFrames], Feature], ...] = (),
) -> FrameTable:
    """Go through a source a second time and compute the coordinates of its usable frames.

    Args:
        source: the frames.
        found: what the first pass found.
        tica: the slow coordinates, None for none.
        time_blocks: stretches of time that a lone segment is cut into.
        drawn: frames to keep, drawn evenly without replacement.
        seed: base of that draw.
        more: further coordinates of the beads to compute.
    """
    measured = representation_of(source.topology)
    n = len(found.segments)
    blocks = segment_blocks(found.segments, time_blocks)
    rows = _draw(n, drawn, seed)
    empty = measured.no_frames()
    columns = {
        feature.name: replace(feature, values=_room(n, len(feature.labels)))
        for feature in _features(measured, empty, more)
    }
    pairs = contact_indicators(measured.beads(empty))
    contacts = np.zeros((int(blocks.max(initial=0)) + 1, len(pairs.labels)))
    n_tics = 0 if tica is None else min(KEPT_TICS, tica.projection.shape[1])
    tics = None if tica is None else _room(n, n_tics)
    failures = {name: np.zeros(n, dtype=bool) for name in measured.checks}
    kept: list[Any] = [empty]
    begin, gone_by = 0, 0
    for chunk in _pieces(source):
        usable = found.usable[gone_by : gone_by + chunk.n_frames]
        gone_by += chunk.n_frames
        part = chunk if usable.all() else chunk.take(usable)
        if part.n_frames == 0:
            continue
        here = slice(begin, begin + part.n_frames)
        begin = here.stop
        for feature in _features(measured, part, more):
            columns[feature.name].values[here] = feature.values
        if tica is not None and tics is not None:
            tics[here] = tica.transform(measured.slow_features(part))[:, :n_tics]
        touching = contact_indicators(measured.beads(part))
        # Of the blocks in this piece alone: a set may have thousands of them.
        within, places = np.unique(blocks[here], return_inverse=True)
        counts = contact_counts(touching, found.weights[here], places, len(within))
        contacts[within] += counts
        for name, failed in measured.failures(part).items():
            failures[name][here] = failed
        inside = rows[(rows >= here.start) & (rows < here.stop)] - here.start
        kept.append(part.take(inside))
    return FrameTable(
        topology=source.topology,
        features=columns,
        tics=tics,
        contacts=contacts,
        contact_labels=pairs.labels,
        failures=failures,
        segments=found.segments,
        runs=found.runs,
        blocks=blocks,
        weights=found.weights,
        time_step_ps=found.time_step_ps,
        drawn=join_chunks(kept),
        drawn_rows=rows,
        left_out=found.left_out,
    )


def fit_reference_tica(source: FrameSource, lag_frames: int) -> TicaFit:
    """Fit TICA on the frames of a reference."""
    estimator = TicaEstimator(lag_frames)
    scan(source, estimator)
    return estimator.fit()


def slow_coordinates(tica: TicaModel, frames: Frames) -> Float[np.ndarray, "frames tics"]:
    """Return the slow coordinates of frames in memory."""
    return tica.transform(representation_of(frames.topology).slow_features(frames))


def tabulate_reference(
    source: FrameSource,
    lag_frames: int,
    drawn: int,
    seed: int,
    more: tuple[Callable[[BeadFrames], Feature], ...] = (),
) -> tuple[FrameTable, TicaFit]:
    """Fit TICA on a reference and return its table; a lone segment is two blocks of time."""
    estimator = TicaEstimator(lag_frames)
    found = scan(source, estimator)
    fit = estimator.fit()
    return tabulate(source, found, fit.model, 2, drawn, seed, more), fit


def _pieces(source: FrameSource) -> Iterator[Frames]:
    """Yield the chunks of a source, none of them empty or too large for its features."""
    beads = bead_topology(source.topology).n_beads
    most = max(min(_MOST_PAIRS // max(beads * (beads - 1) // 2, 1), CHUNK), 1)
    for chunk in source.chunks():
        for start in range(0, chunk.n_frames, most):
            yield chunk.take(slice(start, start + most))


def _features(
    measured: Representation, frames: Frames, more: tuple[Callable[[BeadFrames], Feature], ...]
) -> tuple[Feature, ...]:
    beads = measured.beads(frames)
    return (*measured.features(frames), *(compute(beads) for compute in more))


def _usable(
    measured: Representation, frames: Frames
) -> tuple[Bool[np.ndarray, " frames"], dict[str, int]]:
    defined = measured.defined(frames)
    weighted = _weights(frames) > 0
    counts = {UNDEFINED: int((~defined).sum()), WEIGHTLESS: int((defined & ~weighted).sum())}
    return defined & weighted, counts


def _weights(frames: Frames) -> Float[np.ndarray, " frames"]:
    return np.ones(frames.n_frames) if frames.weights is None else frames.weights.astype(float)


def _room(frames: int, columns: int) -> Float[np.ndarray, "frames columns"]:
    """Return an array to fill, contiguous by column, in a temporary file where it is large.

    Raises:
        OSError: the disk has no room for the file.
    """
    size = frames * columns
    if 8 * size <= _MOST_BYTES:
        return np.empty((columns, frames)).T
    with tempfile.TemporaryFile() as file:  # its space is free again when the array is
        _allocate(file.fileno(), 8 * size)
        return np.memmap(file, np.float64, "w+", shape=(columns, frames)).T


def _allocate(file: int, size: int) -> None:
    """Take the space of a file now: a full disk under a memory map kills the program."""
    if hasattr(os, "posix_fallocate"):  # macOS has none
        os.posix_fallocate(file, 0, size)


def _draw(available: int, wanted: int, seed: int) -> Int[np.ndarray, " drawn"]:
    if available <= wanted:
        return np.arange(available)
    generator = numpy_generator(derive_seed(seed, "frames to keep"))
    return np.sort(generator.choice(available, wanted, replace=False))
