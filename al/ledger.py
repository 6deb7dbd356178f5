"""The state of the rounds on disk: one line for each event, enough to go on or to report from.

``ledger.jsonl`` is only appended to. A step is finished when its line says so; what a step left
behind without that line is taken up again by the step itself, which is idempotent.
"""

import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trajgen.errors import InputError
from trajgen.files import append_line, drop_cut_line, read_lines

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """A line of the ledger.

    Attributes:
        time: seconds since the epoch.
        kind: ``opened`` (a process took up the run), ``started`` or ``finished`` (a step).
        round: round of the step, 0 for ``opened``.
        step: name of the step, empty for ``opened``.
        data: summary of a finished step, or the plan of the run.
    """

    time: float
    kind: str
    round: int
    step: str
    data: dict[str, Any]


class Ledger:
    """Writes and reads the events of one run."""

    def __init__(self, path: Path, events: list[Event]) -> None:
        self.path = path
        self.events = events

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open the ledger for writing; a line that a crash cut off is removed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_cut_line(path)
        return cls(path, read_events(path))

    def note_opened(self, plan: dict[str, Any]) -> None:
        """Record that a process took up the run, with the plan that it follows."""
        self._append("opened", 0, "", plan)

    def start(self, round: int, step: str) -> None:
        """Record that a step began."""
        self._append("started", round, step, {})

    def finish(self, round: int, step: str, summary: dict[str, Any]) -> None:
        """Record that a step is done, with its summary."""
        self._append("finished", round, step, summary)

    def finished(self, round: int, step: str) -> dict[str, Any] | None:
        """Return the summary of a finished step, or None."""
        for event in self.events:
            if (event.kind, event.round, event.step) == ("finished", round, step):
                return event.data
        return None

    def _append(self, kind: str, round: int, step: str, data: dict[str, Any]) -> None:
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        row = {"time": now, "at": stamp, "kind": kind, "round": round, "step": step, "data": data}
        append_line(self.path, json.dumps(row, allow_nan=False))
        self.events.append(Event(now, kind, round, step, data))


def read_events(path: Path) -> list[Event]:
    """Read all events of a ledger; an absent file has none.

    Raises:
        InputError: the file is something else.
    """
    rows = read_lines(path)
    try:
        return [
            Event(row["time"], row["kind"], row["round"], row["step"], row["data"]) for row in rows
        ]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is no ledger of a run: a line lacks {error}") from error


def step_seconds(events: list[Event]) -> dict[str, list[float]]:
    """Return how long the finished steps of each name took, in the order of the rounds."""
    begun: dict[tuple[int, str], float] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.kind == "started":
            begun[event.round, event.step] = event.time
        elif event.kind == "finished":
            start = begun.get((event.round, event.step), event.time)
            seconds[event.step].append(event.time - start)
    return dict(seconds)


#: Rough shares of the time of a run, as the quickstart has them on two cores. They are used only
#: for steps that this run has not yet finished once.
TYPICAL_SHARE = {
    "sample": 1.0, "train": 0.31, "explore": 0.19, "evaluate": 0.01, "select": 0.005,
    "backmap": 0.25, "query": 0.38, "append": 0.005, "report": 0.03,
}  # fmt: skip


def estimate_left(
    events: list[Event], remaining: list[tuple[int, str]], now: float | None
) -> float | None:
    """Return the seconds that the remaining steps will take, None before any step is finished.

    A step counts as the mean of the earlier steps of its name, one not yet seen by its typical
    share. With ``now`` the time that the current step has run already is taken off.
    """
    spent = step_seconds(events)
    mean = {step: sum(times) / len(times) for step, times in spent.items()}
    if not remaining:
        return 0.0
    if not mean:
        return None
    unit = sum(mean.values()) / sum(TYPICAL_SHARE[step] for step in mean)
    expected = [mean.get(step, unit * TYPICAL_SHARE[step]) for _, step in remaining]
    if now is not None and events[-1].kind == "started":
        expected[0] -= min(now - events[-1].time, expected[0])
    return sum(expected)
