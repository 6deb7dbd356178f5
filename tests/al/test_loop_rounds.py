"""Rounds of the loop with stand-ins for its parts: what a round without any new frame does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from al.executor import TaskResult
from al.ledger import Ledger
from al.loop import Loop, Parts
from al.outcomes import BackmapOutcome, TaskOutcome
from al.ports import Candidates, Models, Selection
from trajgen.data.records import AtomFrames, BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.errors import WorkError

TOPOLOGY = BeadTopology.from_residues(("GLY", "TYR", "ASP"))
LABEL = ShardLabel("r00-sample-000", "sample", "unknown", 300.0, 1.0)


def beads(count: int) -> BeadFrames:
    places = np.random.default_rng(count).normal(size=(count, 3, 3)).astype(np.float32)
    return BeadFrames(TOPOLOGY, places, np.zeros(count, dtype=np.int64), 1.0)


class StandIns:
    """All parts at once: two frames are chosen a round, whose fate the test sets."""

    def __init__(
        self,
        run: Path,
        fates: Sequence[BackmapOutcome],
        answer: TaskOutcome,
        chosen: Sequence[int] = (2, 0),
    ) -> None:
        self.run, self.fates, self.answer = run, fates, answer
        self.chosen = np.array(chosen, dtype=np.int64)
        self.trained: list[int] = []

    def sample(self, folder: Path) -> dict[str, Any]:
        dataset = Dataset.create(self.run / "dataset", DatasetHeader(TOPOLOGY))
        dataset.append_beads(LABEL, beads(5))
        return {}

    def learn(self, round: int, dataset: Dataset, folder: Path) -> Models:
        self.trained.append(round)
        models = Models(self.run / f"potential-{round}", self.run / f"surrogate-{round}")
        for path in (models.potential, models.surrogate):
            path.mkdir()
            (path / "model.safetensors").write_bytes(b"weights")
        return models

    def count_windows(self, dataset: Dataset) -> int:
        return dataset.n_frames

    def explore(self, round: int, models: Models, dataset: Dataset, folder: Path) -> dict[str, Any]:
        return {}

    def candidates(self, round: int, folder: Path) -> Candidates:
        return Candidates(beads(4), np.zeros(4, dtype=np.int64), ("potential",))

    def select(self, round: int, candidates: Candidates, dataset: Dataset) -> Selection:
        return Selection(self.chosen, np.full(len(self.chosen), 0.3), {"too near": 4})

    def backmap(
        self,
        round: int,
        chosen: BeadFrames,
        heavy: AtomFrames | None,
        dataset: Dataset,
        folder: Path,
    ) -> list[dict[str, Any]]:
        return [
            {"frame": frame, "outcome": str(fate), "reason": ""}
            for frame, fate in enumerate(self.fates)
        ]

    def query(
        self, round: int, backmapped: list[dict[str, Any]], atoms: Path, folder: Path
    ) -> list[TaskResult]:
        return [
            TaskResult(f"frame-{record['frame']}", self.answer, None, {}, "")
            for record in backmapped
            if record["outcome"] == BackmapOutcome.ACCEPTED
        ]

    def append(self, round: int, results: Sequence[TaskResult], dataset: Dataset) -> dict[str, Any]:
        for result in results:
            name = f"r{round:02d}-{result.name}"
            dataset.append_beads(replace(LABEL, name=name, source="oracle"), beads(3))
        return {"accepted": len(results)}

    def evaluate(
        self, round: int, exploration: Path, dataset: Dataset, folder: Path
    ) -> dict[str, Any]:
        return {}

    def judge(self, history: Sequence[dict[str, Any]]) -> list[str]:
        return [f"{len(history)} rounds"]

    def report(self, run: Path, metrics: dict[str, Any]) -> Path:
        return run / "report.html"


def loop_of(run: Path, parts: StandIns, rounds: int = 2) -> Loop:
    every: Any = parts
    return Loop(run, rounds, Parts(*([every] * 9)), Ledger.open(run / "ledger.jsonl"))


def test_frames_that_are_lifted_become_windows(tmp_path: Path) -> None:
    parts = StandIns(tmp_path, [BackmapOutcome.ACCEPTED, BackmapOutcome.CLASH], TaskOutcome.DONE)
    loop = loop_of(tmp_path, parts)
    assert loop.run() == ["3 rounds"]
    appended = [loop.ledger.finished(round, "append") for round in (1, 2)]
    assert [summary["new_windows"] for summary in appended if summary] == [3, 3]


def test_a_round_whose_frames_cannot_be_lifted_goes_on_without_them(tmp_path: Path) -> None:
    parts = StandIns(tmp_path, [BackmapOutcome.CLASH, BackmapOutcome.TOO_FAR], TaskOutcome.DONE)
    loop = loop_of(tmp_path, parts)
    assert loop.run() == ["3 rounds"]
    assert parts.trained == [0, 1, 2]
    assert loop.ledger.finished(1, "query") == {"tasks": []}
    assert loop.ledger.finished(1, "append") == {"accepted": 0, "new_windows": 0}


def test_a_round_without_a_frame_worth_a_query_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = StandIns(tmp_path, [], TaskOutcome.DONE, chosen=[])
    loop = loop_of(tmp_path, parts)
    assert loop.run() == ["3 rounds"]
    assert parts.trained == [0, 1, 2]
    assert loop.ledger.finished(2, "backmap") == {"frames": [], "outcomes": {}}
    assert "none of 4 candidates is worth a query ({'too near': 4})" in caplog.text


def test_processes_that_failed_can_be_mended(tmp_path: Path) -> None:
    failed = [BackmapOutcome.PROCESS_FAILED, BackmapOutcome.CLASH]
    with pytest.raises(WorkError, match="processes failed"):
        loop_of(tmp_path, StandIns(tmp_path, failed, TaskOutcome.DONE)).run()
    mended = StandIns(tmp_path, [BackmapOutcome.ACCEPTED, BackmapOutcome.CLASH], TaskOutcome.DONE)
    loop = loop_of(tmp_path, mended)
    assert loop.run() == ["3 rounds"]
    assert mended.trained == [1, 2]


def test_an_oracle_that_always_fails_stops_the_run_and_can_be_mended(tmp_path: Path) -> None:
    fates = [BackmapOutcome.ACCEPTED, BackmapOutcome.CLASH]
    with pytest.raises(WorkError, match="no oracle result from 1 frames"):
        loop_of(tmp_path, StandIns(tmp_path, fates, TaskOutcome.FAILED)).run()
    loop = loop_of(tmp_path, StandIns(tmp_path, fates, TaskOutcome.DONE))
    assert loop.run() == ["3 rounds"]
