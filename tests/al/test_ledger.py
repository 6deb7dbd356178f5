"""The ledger survives a crash, the lock keeps a second process out, the status needs no process."""

from pathlib import Path

import pytest

from al.ledger import Ledger, read_events
from al.lock import FolderLock
from al.loop import planned_steps
from al.status import RecordingProgress, read_status
from trajgen.errors import InputError
from trajgen.progress import SILENT


def test_finished_steps_are_read_back(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.jsonl")
    ledger.start(1, "select")
    assert ledger.finished(1, "select") is None
    ledger.finish(1, "select", {"chosen": [1, 2]})
    again = Ledger.open(tmp_path / "ledger.jsonl")
    assert again.finished(1, "select") == {"chosen": [1, 2]}
    assert again.finished(2, "select") is None


def test_a_line_cut_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger.open(path)
    ledger.finish(0, "sample", {})
    with path.open("a") as file:
        file.write('{"time": 1, "kind": "fini')
    assert len(read_events(path)) == 1
    Ledger.open(path).finish(0, "train", {})
    assert [event.step for event in read_events(path)] == ["sample", "train"]


def test_a_second_process_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("al.lock.LOCK_WAIT_S", 0.1)
    lock = FolderLock(tmp_path)
    with pytest.raises(InputError, match="another al command"):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


def test_status_from_disk_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        read_status(tmp_path)
    ledger = Ledger.open(tmp_path / "ledger.jsonl")
    ledger.note_opened({"rounds": 1, "steps": planned_steps(1)})
    for step in ("sample", "train"):
        ledger.start(0, step)
        ledger.finish(0, step, {"dataset": {"failed": 0}, "reference": {"failed": 1}})
    ledger.start(0, "explore")
    lock = FolderLock(tmp_path)
    with RecordingProgress(SILENT, tmp_path / "progress.json").task("Langevin", 10) as task:
        task.advance(4)
        status = read_status(tmp_path)
    assert (status.state, status.round, status.step) == ("running", 0, "explore")
    assert status.work == "Langevin: 0/10"
    assert status.failures == {"sampling: failed": 1}
    assert status.seconds_left is not None
    lock.release()
    assert read_status(tmp_path).state == "stopped"


def test_status_of_a_finished_run(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.jsonl")
    ledger.note_opened({"rounds": 1, "steps": planned_steps(1)})
    data = {
        "sample": {"dataset": {"failed": 0}, "reference": {"failed": 0}},
        "backmap": {"outcomes": {"accepted": 3, "clash": 2}},
        "query": {"tasks": [{"outcome": "done"}, {"outcome": "timed out"}]},
    }
    for round, step in planned_steps(1):
        ledger.start(round, step)
        ledger.finish(round, step, data.get(step, {}))
    status = read_status(tmp_path)
    assert (status.state, status.seconds_left) == ("finished", 0.0)
    assert status.failures == {"backmapping: clash": 2, "oracle: timed out": 1}
