"""Kill a run of the loop with kill -9 at many moments and compare its end with a run left alone.

python scripts/check_resume.py --config configs/smoke.yaml --out runs/check-resume

One run is left alone. A second one is killed inside each step in turn (at a moment drawn by seed
from the time that the step took in the first run), started again after each kill, and must end
with the same dataset, the same models and the same metrics.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from al.ledger import read_events, step_seconds
from trajgen.data.store import Dataset


def start(config: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "al.cli", "run", str(config), "--out", str(out)]
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def kill_inside(
    config: Path, out: Path, step: tuple[int, str], delay_s: float
) -> dict[str, object]:
    """Kill the run ``delay_s`` after the step began, or at once where the step is over by then."""
    process = start(config, out)
    begun = None
    while process.poll() is None:
        events = [e for e in read_events(out / "ledger.jsonl") if (e.round, e.step) == step]
        if begun is None and any(e.kind == "started" for e in events):
            begun = time.monotonic()
        if begun is not None and time.monotonic() - begun >= delay_s:
            break
        time.sleep(0.002)
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    over = any(
        (e.kind, e.round, e.step) == ("finished", *step) for e in read_events(out / "ledger.jsonl")
    )
    return {"round": step[0], "step": step[1], "delay_s": round(delay_s, 2), "killed": alive,
            "inside": alive and not over}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=Path("configs/smoke.yaml"))
    parser.add_argument("--out", type=Path, required=True, help="folder for both runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    alone, killed = arguments.out / "alone", arguments.out / "killed"
    if start(arguments.config, alone).wait() != 0:
        print(f"the run left alone failed, see {alone}.log")
        return 1
    events = read_events(alone / "ledger.jsonl")
    durations = step_seconds(events)
    steps = [(e.round, e.step) for e in events if e.kind == "finished"]
    draw = random.Random(arguments.seed)
    kills = []
    for step in steps:
        mean = sum(durations[step[1]]) / len(durations[step[1]])
        kills.append(kill_inside(arguments.config, killed, step, draw.uniform(0.1, 0.8) * mean))
        print(kills[-1], flush=True)
    if start(arguments.config, killed).wait() != 0:
        print(f"the resumed run failed, see {killed}.log")
        return 1
    same_dataset = (
        Dataset.open(alone / "dataset").digest() == Dataset.open(killed / "dataset").digest()
    )
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (alone, killed)]
    finished = [e for e in read_events(killed / "ledger.jsonl") if e.kind == "finished"]
    result = {
        "kills": kills,
        "killed_inside_a_step": sum(bool(kill["inside"]) for kill in kills),
        "same_dataset": same_dataset,
        "same_metrics_and_models": metrics[0] == metrics[1],
        "each_step_finished_once": len(finished) == len({(e.round, e.step) for e in finished}),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    good = same_dataset and result["same_metrics_and_models"] and result["each_step_finished_once"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
