"""What the loop asks of its parts, in terms of records and folders.

Every method gets the folder of its step. It may be called again after the process was killed in
the middle, and then takes up what it finds there; the same arguments give the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from al.executor import TaskResult
from trajgen.data.records import AtomFrames, BeadFrames
from trajgen.data.store import Dataset


@dataclass(frozen=True)
class Models:
    """The checkpoints of one round."""

    potential: Path
    surrogate: Path


@dataclass(frozen=True)
class Candidates:
    """Frames that the generators propose.

    Attributes:
        frames: the proposals.
        sources: index into ``source_names`` for each frame.
        source_names: the generators.
        heavy: heavy atoms of those that a generator made atom by atom, with the number of the
            candidate as the segment; None where there are none.
    """

    frames: BeadFrames
    sources: Int64[np.ndarray, " frames"]
    source_names: tuple[str, ...]
    heavy: AtomFrames | None = None


@dataclass(frozen=True)
class Selection:
    """Which candidates are worth a query.

    Attributes:
        chosen: candidate indices, in the order of choosing.
        scores: score of each chosen candidate.
        rejected: number of the other candidates, by reason.
    """

    chosen: Int64[np.ndarray, " chosen"]
    scores: np.ndarray
    rejected: dict[str, int]


@runtime_checkable
class Sampler(Protocol):
    """Makes the all-atom data of round 0."""

    def sample(self, folder: Path) -> dict[str, Any]:
        """Fill the dataset and the reference that is never trained on; return a summary."""


@runtime_checkable
class Learner(Protocol):
    """Trains both models."""

    def learn(self, round: int, dataset: Dataset, folder: Path) -> Models:
        """Train on the dataset; finished models are taken as they are."""

    def count_windows(self, dataset: Dataset) -> int:
        """Return the number of windows that the surrogate can train on."""


@runtime_checkable
class Explorer(Protocol):
    """Generates coarse-grained trajectories."""

    def explore(self, round: int, models: Models, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Write the rollouts of both models into ``folder``; return a summary."""

    def candidates(self, round: int, folder: Path) -> Candidates:
        """Read the rollouts of an exploration as candidates."""


@runtime_checkable
class Selector(Protocol):
    """Chooses frames."""

    def select(self, round: int, candidates: Candidates, dataset: Dataset) -> Selection:
        """Choose frames that the dataset does not cover."""


@runtime_checkable
class Backmapper(Protocol):
    """Lifts beads to atoms."""

    def backmap(
        self,
        round: int,
        chosen: BeadFrames,
        heavy: AtomFrames | None,
        dataset: Dataset,
        folder: Path,
    ) -> list[dict[str, Any]]:
        """Return a record for each frame with ``frame``, ``outcome`` and ``reason``.

        ``heavy`` has the heavy atoms of those that are known, with the frame as the segment.
        """


@runtime_checkable
class Oracle(Protocol):
    """Answers queries with all-atom dynamics."""

    def query(
        self, round: int, backmapped: list[dict[str, Any]], atoms: Path, folder: Path
    ) -> list[TaskResult]:
        """Run a segment from each accepted frame, whose atoms lie in the folder ``atoms``."""

    def append(self, round: int, results: Sequence[TaskResult], dataset: Dataset) -> dict[str, Any]:
        """Append the answers that the dataset does not have yet; return a summary."""


@runtime_checkable
class Evaluator(Protocol):
    """Measures the models of a round against the reference."""

    def evaluate(
        self, round: int, exploration: Path, dataset: Dataset, folder: Path
    ) -> dict[str, Any]:
        """Return the distances, floors and coverage as plain values."""


@runtime_checkable
class Judge(Protocol):
    """Turns the history of metrics into a verdict."""

    def judge(self, history: Sequence[dict[str, Any]]) -> list[str]:
        """Return the verdict as a few sentences."""


@runtime_checkable
class Reporter(Protocol):
    """Writes the report."""

    def report(self, run: Path, metrics: dict[str, Any]) -> Path:
        """Write ``report.html`` from what the run has on disk; return its path.

        ``metrics`` are the numbers of its rounds and the verdict, as in ``metrics.json``.
        """
