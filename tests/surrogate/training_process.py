"""A training in a process of its own, or in several, as a user starts them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from trajgen.data.store import Dataset
from trajgen.settings import write_settings
from trajgen.surrogate.training_settings import TrainSettings

#: Trains as a user's process would, so that it can be killed or started twice.
SCRIPT = """
import sys
from pathlib import Path
import torch
from trajgen.data.store import Dataset
from trajgen.settings import load_settings
from trajgen.surrogate.train import train_surrogate
from trajgen.surrogate.training_settings import TrainSettings
torch.set_num_threads(1)
*datasets, settings, out = map(Path, sys.argv[1:])
settings = load_settings(TrainSettings, settings)
train_surrogate([Dataset.open(path) for path in datasets], out, settings, 1, torch.device("cpu"))
"""


def command(
    datasets: list[Dataset], settings: TrainSettings, out: Path, before: str = ""
) -> list[str]:
    """Return the script of a training and its arguments; ``before`` is run before it."""
    script, file = out.parent / f"{out.name}.py", out.parent / f"{out.name}.yaml"
    script.write_text(before + SCRIPT)
    write_settings(file, settings)
    return [str(script), *(str(dataset.path) for dataset in datasets), str(file), str(out)]


def card(out: Path) -> dict:
    return json.loads((out / "card.json").read_text())


@contextmanager
def launched(processes: int, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a training on several processes of this machine; none of them outlives the context."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += [f"--num_processes={processes}", "--num_machines=1", f"--main_process_port={port}"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no"]
    process = subprocess.Popen([*launch, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a launcher and the processes that it started, the launcher first."""
    if process.poll() is None:
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers)
        process.wait()
