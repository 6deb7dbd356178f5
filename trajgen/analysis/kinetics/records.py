"""The input and the result of an evaluation of kinetics, as frozen records."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pydantic import TypeAdapter

from trajgen.analysis.kinetics.time_scales import ChapmanKolmogorov, LagTimeScales
from trajgen.analysis.measures import Measure
from trajgen.errors import InputError

#: Version of the layout that ``Kinetics.to_json`` writes.
SCHEMA_VERSION = 1

#: A matrix of numbers, a row for each state; None where there is none.
Matrix = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class TimeSeries:
    """Frames of a set in the slow coordinates of the reference.

    Attributes:
        tics: slow coordinates of each frame, slowest first.
        segments: segment of each frame; the frames of a segment follow each other in file order.
        weights: statistical weight of each frame, None for equal weights.
        time_step_ps: time between frames that follow each other, None where it is not known.
        runs: like ``segments``, but a new number after every frame that is missing: only within a
            run do frames follow each other. None where no frame is missing. Segments stay the
            blocks of the bootstrap.
    """

    tics: Float[np.ndarray, "frames tics"]
    segments: Int[np.ndarray, " frames"]
    weights: Float[np.ndarray, " frames"] | None = None
    time_step_ps: float | None = None
    runs: Int[np.ndarray, " frames"] | None = None

    @property
    def consecutive(self) -> Int[np.ndarray, " frames"]:
        """The run of each frame: those of one run follow each other."""
        return self.segments if self.runs is None else self.runs

    def __post_init__(self) -> None:
        for name in ("segments", "weights", "runs"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.tics):
                raise InputError(
                    f"{name} has {len(values)} entries and tics {len(self.tics)} frames; give "
                    "one a frame"
                )
        if not np.isfinite(self.tics).all():
            raise InputError("tics holds numbers that are not finite; leave those frames out")
        if self.time_step_ps is not None and not self.time_step_ps > 0:
            raise InputError(f"time_step_ps is {self.time_step_ps:g}; give a time above 0, or None")


@dataclass(frozen=True)
class Curve:
    """An autocorrelation function to draw.

    Attributes:
        label: the coordinate, such as ``TIC 0``.
        lags_ps: the lags.
        values: the autocorrelation at each lag.
    """

    label: str
    lags_ps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class PassageTimes:
    """Mean first passage times from each macrostate (row) to each other (column).

    Attributes:
        value_ps: the times; None where one of the two states is absent.
        low_ps: lower ends of the 95 % block-bootstrap intervals.
        high_ps: upper ends of them.
        reason: why all are None, None where there are some.
    """

    value_ps: Matrix
    low_ps: Matrix
    high_ps: Matrix
    reason: str | None = None


@dataclass(frozen=True)
class SetKinetics:
    """The kinetics of one set of frames.

    Attributes:
        n_frames: frames of the set.
        n_segments: segments of the set.
        left_out: what took no part, by reason.
        time_scales: implied time scales of the microstates at several lags.
        decorrelation_times: time until the autocorrelation of a slow coordinate falls to 1/e.
        integrated_times: integral of that autocorrelation.
        autocorrelations: the functions themselves.
        vamp2: VAMP-2 score of the slow coordinates.
        populations: stationary probability of each macrostate.
        transitions: transition matrix of the macrostates at the lag.
        passage_times: mean first passage times between the macrostates.
    """

    n_frames: int
    n_segments: int
    left_out: Mapping[str, int]
    time_scales: tuple[LagTimeScales, ...]
    decorrelation_times: tuple[Measure, ...]
    integrated_times: tuple[Measure, ...]
    autocorrelations: tuple[Curve, ...]
    vamp2: Measure
    populations: tuple[Measure, ...]
    transitions: Matrix
    passage_times: PassageTimes


@dataclass(frozen=True)
class Kinetics:
    """The kinetics of samples beside those of a reference.

    Attributes:
        lag_ps: lag of all models, None where nothing could be measured.
        reason: why nothing could be measured, None where something could.
        n_microstates: k-means states of the reference.
        n_macrostates: sets of them, which the models are of.
        samples: the kinetics of the samples.
        reference: the kinetics of the reference.
        reference_vamp2: VAMP-2 score of the reference, cross-validated: found on one half of its
            blocks and scored on the other, mean over the random splits.
        chapman_kolmogorov: the test of the reference's model, None without states.
        comparison: how far the samples are from the reference, by name; the floor is the same
            between random halves of the reference.
        control: the same numbers for the samples with the frames of each segment shuffled.
        notes: what a reader has to know to judge the numbers.
        settings: the settings as plain values.
        seed: the seed of every draw.
    """

    lag_ps: float | None
    reason: str | None
    n_microstates: int
    n_macrostates: int
    samples: SetKinetics
    reference: SetKinetics
    reference_vamp2: Measure
    chapman_kolmogorov: ChapmanKolmogorov | None
    comparison: Mapping[str, Measure]
    control: Mapping[str, Measure]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values under a versioned schema; no number in it is NaN."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Kinetics":
        """Return what ``to_json`` wrote."""
        own = {name: value for name, value in values.items() if name != "schema_version"}
        return TypeAdapter(cls).validate_python(own)
