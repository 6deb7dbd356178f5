"""Memory and time of training a surrogate on datasets larger than the memory it may take.

python scripts/bench_dataset.py --frames 1_000_000 16_000_000 --limit-gib 1.5 --out runs/large

Made-up walkers of ten beads are written shard by shard, and a small surrogate is trained on each
dataset for some steps in a process of its own, which fails where its own memory goes beyond the
limit. Pages of files that are mapped into it are not its own: the system takes them back when it
needs room. Only where frames have weights, or are shown more often where they are rare, is anything
kept of each.
"""

import argparse
import shutil
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from trajgen.console import configure_logging, exit_with_code
from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.device import fix_threads
from trajgen.files import write_json
from trajgen.seeding import derive_seed, numpy_generator
from trajgen.settings import parse_settings
from trajgen.surrogate.train import train_surrogate
from trajgen.surrogate.training_settings import TrainSettings

TOPOLOGY = BeadTopology.from_residues(("GLY",) * 10)
SHARD_FRAMES = 250_000
GIB = 2**30


def make_dataset(folder: Path, frames: int) -> Dataset:
    """Write walkers about a helix, a segment a shard."""
    dataset = Dataset.create(folder, DatasetHeader(beads=TOPOLOGY))
    turn = np.deg2rad(100) * np.arange(10)
    helix = np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * np.arange(10)], axis=1)
    for shard, begin in enumerate(range(0, frames, SHARD_FRAMES)):
        count = min(SHARD_FRAMES, frames - begin)
        draws = numpy_generator(derive_seed(0, "walkers", index=shard))
        positions = 0.02 * draws.standard_normal((count, 10, 3), dtype=np.float32) + helix
        label = ShardLabel(
            name=f"walkers-{shard:04d}", source="import", hamiltonian="none", temperature_K=300.0,
            save_interval_ps=1.0,
        )  # fmt: skip
        segments = np.zeros(count, dtype=np.int64)
        walkers = BeadFrames(TOPOLOGY, positions.astype(np.float32), segments, time_step_ps=1.0)
        dataset.append_beads(label, walkers)
    return dataset


def memory(kind: str) -> int:
    """Return ``RssAnon``, ``RssFile`` or another number of this process, bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(kind)


def train(folder: Path, out: Path, steps: int, answer: Any) -> None:
    """Train in this process; tell how long it took, and how much memory of its own."""
    ended, highest = Event(), [0]

    def look() -> None:
        while not ended.wait(0.02):
            highest[0] = max(highest[0], memory("RssAnon"))

    fix_threads()
    watcher = Thread(target=look)
    watcher.start()
    flat = {"steps": steps, "batch": 16, "validation_windows": 64, "save_every": steps}
    values = {"model": {"network": {"size": "tiny"}}, "training": flat}
    settings = parse_settings(TrainSettings, values, "bench_dataset")
    times: list[float] = [time.monotonic()]
    try:
        train_surrogate([Dataset.open(folder)], out, settings, 0, torch.device("cpu"))
    finally:
        ended.set()
        watcher.join()
    times.append(time.monotonic())
    answer.send({"seconds": times[1] - times[0], "own_bytes": highest[0]})


def measure(folder: Path, steps: int, limit_gib: float) -> dict[str, Any]:
    """Return the seconds and the peak memory of a training."""
    here, there = get_context("spawn").Pipe(duplex=False)
    out = folder.with_name(f"{folder.name}-model-{steps}")
    arguments = (folder, out, steps, there)
    process = get_context("spawn").Process(target=train, args=arguments)
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    except EOFError:
        process.join()
        sys.exit(f"the training on {folder} ended with code {process.exitcode}")
    process.join()
    shutil.rmtree(out)
    if found["own_bytes"] > limit_gib * GIB:
        sys.exit(
            f"the training on {folder} took {found['own_bytes'] / GIB:.2f} GiB of its own, and "
            f"{limit_gib:g} are allowed"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--steps", type=int, nargs=2, default=[10, 60], help="of two trainings")
    parser.add_argument("--limit-gib", type=float, default=2.0, help="own memory of a training")
    parser.add_argument("--out", type=Path, required=True, help="folder of the datasets")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    rows = []
    for frames in arguments.frames:
        folder = arguments.out / str(frames)
        dataset = Dataset.open(folder) if folder.is_dir() else make_dataset(folder, frames)
        short, long = (measure(folder, steps, arguments.limit_gib) for steps in arguments.steps)
        step_s = (long["seconds"] - short["seconds"]) / (arguments.steps[1] - arguments.steps[0])
        rows.append(
            {
                "frames": frames,
                "dataset_gib": sum(
                    (folder / entry.file).stat().st_size for entry in dataset.entries
                ) / GIB,
                "before_the_first_step_s": short["seconds"] - arguments.steps[0] * step_s,
                "step_s": step_s,
                "own_memory_gib": long["own_bytes"] / GIB,
            }
        )  # fmt: skip
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
                        for value in row.values()))  # fmt: skip
    Console(width=120).print(table)
    if arguments.json is not None:
        write_json(arguments.json, {"limit_gib": arguments.limit_gib, "rows": rows})


if __name__ == "__main__":
    configure_logging()
    with exit_with_code():
        main()
