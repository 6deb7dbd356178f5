"""The state of a run as text, and live in a terminal."""

import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from al.ledger import read_events
from al.status import Status, read_status
from trajgen.console import duration

#: Time between two looks at a run, s.
INTERVAL_S = 2.0


def status_lines(now: Status) -> list[str]:
    """Return the state of a run as lines of text."""
    where = f"round {now.round} of {now.rounds}" + (f", {now.step}" if now.step else "")
    failures = ", ".join(f"{count} {what}" for what, count in now.failures.items())
    left = "unknown" if now.seconds_left is None else f"about {duration(now.seconds_left)}"
    return [
        f"{now.state}: {where}" + (f" ({now.work})" if now.work else ""),
        f"dataset: {now.frames} frames, {now.oracle_ps:.0f} ps of all-atom dynamics",
        f"failures: {failures or 'none'}",
        f"time: {duration(now.seconds_spent)} spent, {left} left",
    ]


def watch_run(run: Path, console: Console) -> None:
    """Show a run until no process works on it any more.

    Raises:
        InputError: the folder holds no run.
    """
    now = read_status(run)
    with Live(view(run, now), console=console, auto_refresh=False) as live:
        while now.state == "running":
            time.sleep(INTERVAL_S)
            now = read_status(run)
            live.update(view(run, now), refresh=True)


def view(run: Path, now: Status) -> Group:
    """Return what is shown of a run: its state, a bar, and the distances of each round."""
    done = now.seconds_spent
    whole = done + (now.seconds_left or 0.0)
    known = now.state == "finished" or now.seconds_left is not None
    bar = ProgressBar(total=whole if known else None, completed=done, width=60, pulse=not known)
    lines = [Text(line) for line in status_lines(now)]
    table = _distances(run)
    return Group(*lines, bar, *([table] if table.row_count else []))


def _distances(run: Path) -> Table:
    """Return the pooled distances to the reference, a row for each round and model."""
    table = Table("round", "model")
    for event in read_events(run / "ledger.jsonl"):
        if event.kind != "finished" or event.step != "evaluate":
            continue
        for model, distances in event.data.get("distances", {}).items():
            if len(table.columns) == 2:
                for name, entry in distances.items():
                    table.add_column(f"{name.replace('_', ' ')} ({entry['unit']})")
            values = (entry["value"] for entry in distances.values())
            cells = ("-" if value is None else f"{value:.3g}" for value in values)
            table.add_row(str(event.round), model, *cells)
    return table
