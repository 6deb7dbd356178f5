"""A run as it is shown in a terminal: to its end, with the distances of its rounds."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from al.ledger import Ledger
from al.lock import FolderLock
from al.loop import planned_steps
from al.watch import watch_run
from trajgen.errors import InputError

DISTANCES = {
    "potential": {"tica_0": {"value": 0.5, "unit": "TIC units"}},
    "surrogate": {"tica_0": {"value": None, "unit": "TIC units"}},
}


def begun(run: Path) -> Ledger:
    ledger = Ledger.open(run / "ledger.jsonl")
    ledger.note_opened({"rounds": 0, "steps": planned_steps(0)})
    sampled = {"dataset": {"failed": 0}, "reference": {"failed": 0}}
    for step in ("sample", "train", "explore"):
        ledger.start(0, step)
        ledger.finish(0, step, sampled)
    return ledger


def shown(run: Path) -> str:
    console = Console(file=io.StringIO(), record=True, width=100)
    watch_run(run, console)
    return console.export_text()


def test_it_is_watched_until_its_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, lock = begun(tmp_path), FolderLock(tmp_path)
    looks = []

    def work(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            ledger.start(0, "evaluate")
            ledger.finish(0, "evaluate", {"distances": DISTANCES})
        else:
            ledger.start(0, "report")
            ledger.finish(0, "report", {})
            lock.release()

    monkeypatch.setattr("al.watch.time.sleep", work)
    text = shown(tmp_path)
    assert len(looks) == 2
    assert "finished: round 0 of 0" in text
    assert "tica 0 (TIC units)" in text
    row = next(line for line in text.splitlines() if "potential" in line)
    assert "0.5" in row


def test_a_run_that_nobody_works_on_is_shown_once(tmp_path: Path) -> None:
    begun(tmp_path)
    assert "stopped: round 0 of 0, evaluate" in shown(tmp_path)


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        shown(tmp_path)
