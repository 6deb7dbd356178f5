"""The result of an evaluation: all measures of one set of samples against a reference."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trajgen.analysis.kinetics.records import Kinetics
from trajgen.analysis.legacy import LegacyNumbers
from trajgen.analysis.measures import Coverage, Distance, Share, Verdict, compare_measures

#: Version of the layout that ``Evaluation.to_json`` writes.
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class FrameCount:
    """How many frames of a set were used, and why the others were not.

    Attributes:
        used: frames that the distances used.
        segments: segments among them.
        left_out: number of frames left out, by reason.
    """

    used: int
    segments: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """All measures of one set of samples against a reference.

    Attributes:
        distances: Wasserstein-1 distances, in a fixed order.
        divergences: other measures of one ensemble against another, in a fixed order.
        shares: frames that fail a check, or that are at a structure.
        coverage: coverage both ways, and between halves of the reference as its floor.
        samples: counts of the samples.
        reference: counts of the reference.
        notes: what a reader has to know to judge the numbers.
        settings: the settings as plain values.
        seed: the seed of every draw.
        kinetics: states and time scales, None where they were not asked for.
        legacy: the numbers of a published benchmark, None where they were not asked for.
    """

    distances: tuple[Distance, ...]
    divergences: tuple[Distance, ...]
    shares: tuple[Share, ...]
    coverage: tuple[Coverage, ...]
    samples: FrameCount
    reference: FrameCount
    notes: tuple[str, ...]
    settings: dict[str, Any]
    seed: int
    kinetics: Kinetics | None = None
    legacy: LegacyNumbers | None = None

    def distance(self, name: str) -> Distance:
        """Return the distance of that name.

        Raises:
            KeyError: there is none of that name.
        """
        for distance in (*self.distances, *self.divergences):
            if distance.name == name:
                return distance
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return plain values under a versioned schema; no number in it is NaN."""
        values = asdict(self)
        for kind in ("distances", "divergences", "shares"):
            values[kind] = {entry.pop("name"): entry for entry in values[kind]}
        if self.kinetics is not None:
            values["kinetics"] = self.kinetics.to_json()
        return {"schema_version": SCHEMA_VERSION, **values}


def compare(before: Evaluation, after: Evaluation) -> dict[str, Verdict]:
    """Say for each pooled distance whether ``after`` is better than ``before``."""
    return {
        distance.name: compare_measures(distance.pooled, after.distance(distance.name).pooled)
        for distance in before.distances
    }
