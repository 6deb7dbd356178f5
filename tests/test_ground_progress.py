"""The time left that progress tells."""

import logging

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from al.status import RecordingProgress
from trajgen import console
from trajgen.console import LineProgress, duration
from trajgen.progress import Progress, ProgressTask


@pytest.mark.parametrize(
    ("limit_s", "wanted"),
    [(None, "3/10, 35 s left"), (100.0, "3/10, 35 s left"), (20.0, "3/10, 5 s left"), (9.0, "0 s")],
)
def test_lines_tell_the_time_left_until_the_end_or_the_limit(monkeypatch, caplog, limit_s, wanted):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, logger=console.logger.name)
    with LineProgress().task("work", 10, limit_s=limit_s) as task:
        now[0] = 15.0
        task.advance(3, "well")
        now[0] = 16.0
        task.advance()  # lines come now and then
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "work: 10 steps"
    assert wanted in told[1]
    assert told[1].endswith("left, well")
    assert told[2] == "work: done in 16 s, well"


@pytest.mark.parametrize(
    ("limit_s", "wanted"), [(None, "0:00:35"), (20.0, "0:00:05"), (9.0, "0:00:00")]
)
def test_bars_tell_it_too(limit_s, wanted):
    now = [0.0]
    bar = RichProgress(
        console._TimeLeft(),
        console=Console(quiet=True),
        get_time=lambda: now[0],
        speed_estimate_period=100,
    )
    number = bar.add_task("work", total=10, limit_s=limit_s)
    for now[0], steps in ((5.0, 1), (15.0, 2)):  # from one to the other 0.2 steps a second
        bar.update(number, advance=steps)
    (column,) = bar.columns
    assert str(column.render(bar.tasks[0])) == wanted


def test_durations_are_words():
    assert [duration(s) for s in (0.4, 59.6, 3599.0, 7260.0)] == [
        "0 s", "1 min 00 s", "59 min 59 s", "2 h 01 min",
    ]  # fmt: skip


def test_what_records_progress_passes_the_limit_on(tmp_path):
    asked = []

    class Listener(Progress):
        def task(self, *arguments) -> ProgressTask:
            asked.append(arguments)
            return ProgressTask()

    with RecordingProgress(Listener(), tmp_path / "progress.json").task("work", 10, 2, 20.0):
        assert asked == [("work", 10, 2, 20.0)]
