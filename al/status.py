"""The state of a run, read from its folder alone, also while the run is on."""

import fcntl
import json
import os
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from al.ledger import Event, estimate_left, read_events, step_seconds
from al.outcomes import TaskOutcome
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.files import read_json
from trajgen.progress import Progress, ProgressTask

#: The progress file is written at most this often.
_WRITE_INTERVAL_S = 2.0


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: ``running``, ``stopped`` or ``finished``.
        round: the round it is in.
        rounds: the last round of its plan.
        step: the step it is in, empty when finished.
        work: what the step is doing, with counts; empty where unknown.
        frames: frames in the dataset.
        oracle_ps: all-atom time in the dataset.
        failures: number of failed frames and tasks by outcome.
        seconds_spent: time in steps so far.
        seconds_left: estimate of the time left, None before there is anything to judge by.
    """

    state: str
    round: int
    rounds: int
    step: str
    work: str
    frames: int
    oracle_ps: float
    failures: dict[str, int]
    seconds_spent: float
    seconds_left: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def read_status(run: Path) -> Status:
    """Read the status of a run.

    Raises:
        InputError: the folder holds no run.
    """
    events = read_events(run / "ledger.jsonl")
    plans = [event.data for event in events if event.kind == "opened"]
    if not plans:
        raise InputError(f"{run} holds no run of the loop: it has no ledger; see al run --help")
    planned = [(int(r), str(step)) for r, step in plans[-1]["steps"]]
    finished = {(e.round, e.step) for e in events if e.kind == "finished"}
    remaining = [item for item in planned if item not in finished]
    spent = step_seconds(events)
    current = remaining[0] if remaining else (planned[-1][0], "")
    active = is_locked(run)
    state = "finished" if not remaining else "running" if active else "stopped"
    progress = _read_progress(run) if state == "running" else None
    dataset = Dataset.open(run / "dataset") if (run / "dataset").is_dir() else None
    return Status(
        state=state,
        round=current[0],
        rounds=int(plans[-1]["rounds"]),
        step=current[1],
        work=f"{progress['label']}: {progress['done']}/{progress['total']}" if progress else "",
        frames=dataset.n_frames if dataset else 0,
        oracle_ps=dataset.oracle_ps if dataset else 0.0,
        failures=count_failures(events),
        seconds_spent=sum(sum(times) for times in spent.values()),
        seconds_left=estimate_left(events, remaining, time.time() if active else None),
    )


def count_failures(events: list[Event]) -> dict[str, int]:
    """Count frames and tasks that failed, by outcome."""
    counts: dict[str, int] = defaultdict(int)
    for event in events:
        if event.kind != "finished":
            continue
        if event.step == "backmap":
            for outcome, number in event.data["outcomes"].items():
                if outcome != "accepted":
                    counts[f"backmapping: {outcome}"] += number
        elif event.step == "query":
            for row in event.data["tasks"]:
                if row["outcome"] != TaskOutcome.DONE:
                    counts[f"oracle: {row['outcome']}"] += 1
        elif event.step == "sample":
            failed = sum(event.data[group]["failed"] for group in ("dataset", "reference"))
            if failed:
                counts["sampling: failed"] += failed
    return dict(counts)


def is_locked(run: Path) -> bool:
    """Say whether a process is working on a run."""
    if not (run / "lock").exists():
        return False
    descriptor = os.open(run / "lock", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read_progress(run: Path) -> dict[str, Any] | None:
    try:
        return read_json(run / "progress.json")
    except (InputError, FileNotFoundError):  # between two tasks there is no such file
        return None


class RecordingProgress(Progress):
    """Passes progress on, and writes the newest state to a file that ``al status`` reads."""

    def __init__(self, inner: Progress, file: Path) -> None:
        self._inner = inner
        self._file = file

    def task(
        self, label: str, total: int, done: int = 0, limit_s: float | None = None
    ) -> ProgressTask:
        """Begin a task that is shown and recorded."""
        inner = self._inner.task(label, total, done, limit_s)
        return _RecordingTask(inner, self._file, label, total, done)


class _RecordingTask(ProgressTask):
    def __init__(self, inner: ProgressTask, file: Path, label: str, total: int, done: int) -> None:
        self._inner, self._file = inner, file
        self._label, self._total, self._done = label, total, done
        self._written = 0.0

    def __enter__(self) -> "_RecordingTask":
        self._inner.__enter__()
        self._write()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, trace)
        self._file.unlink(missing_ok=True)

    def advance(self, steps: int = 1, status: str = "") -> None:
        self._done += steps
        self._inner.advance(steps, status)
        if time.monotonic() - self._written > _WRITE_INTERVAL_S:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        state = {"label": self._label, "done": self._done, "total": self._total}
        # Not synced: a lost progress line harms nothing, and syncs would slow short steps.
        temporary = self._file.with_suffix(".partial")
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self._file)
