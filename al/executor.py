"""Where tasks run: each in a process of its own, with a time limit and one retry.

A task is the name of a function, JSON arguments and a folder for its result; nothing is pickled.
The result folder appears when it is whole, and a failure is recorded beside it, so a finished
query is never asked twice, whatever killed the run in between. Children die with their parent.
"""

import errno
import importlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from al.outcomes import TaskOutcome
from trajgen.errors import InputError, TrajgenError, WorkError
from trajgen.files import DISK_FULL, read_json, whole_folder, write_json
from trajgen.processes import ENVIRONMENT_FLAG, die_with_parent
from trajgen.progress import SILENT, Progress
from trajgen.settings import Settings

logger = logging.getLogger(__name__)

_POLL_S = 0.05

#: Exit code of a task that found no space on the disk: no fault of the task, so not recorded.
_DISK_FULL_CODE = 75


class ExecutorSettings(Settings):
    """How tasks run on this machine.

    Attributes:
        workers: processes at a time; 0 means one for each core that this process may use, or with
            device cuda one for each GPU. More of them than GPUs share these evenly.
        time_limit_s: a query that takes longer is stopped and counts as timed out. Plain sampling
            has no limit, since it goes on where it stopped.
        device: where all-atom dynamics runs.
    """

    workers: int = Field(default=0, ge=0)
    time_limit_s: float = Field(default=3600.0, gt=0)
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Task:
    """A piece of work: ``function`` ("package.module:name") called with (arguments, folder)."""

    name: str
    function: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class TaskResult:
    """What became of a task.

    Attributes:
        name: name of the task.
        outcome: done, failed or timed out.
        folder: the files that the task wrote; None where it failed.
        value: what the task's function returned.
        reason: why it failed, empty where it did not.
        record: the file that says so, with which it is not asked again; None where it did not.
    """

    name: str
    outcome: TaskOutcome
    folder: Path | None
    value: dict[str, Any]
    reason: str
    record: Path | None = None


@dataclass(frozen=True)
class _Try:
    """A try of a task: ``attempt`` is told to it, and may change what it does; ``kills`` is not."""

    task: Task
    attempt: int = 0
    kills: int = 0


@dataclass
class _Running:
    tried: _Try
    slot: int
    process: subprocess.Popen[bytes]
    log: Path
    deadline: float


class ProcessExecutor:
    """Runs tasks as processes on this machine, each in one of ``workers`` slots."""

    def __init__(self, settings: ExecutorSettings, gpus: Sequence[str] = ()) -> None:
        """Take the settings, and the names of the GPUs that the slots take in turn."""
        self.settings = settings
        self.gpus = tuple(gpus)
        self.workers = settings.workers or len(self.gpus) or usable_cores()

    def run(
        self,
        tasks: Sequence[Task],
        folder: Path,
        label: str,
        progress: Progress = SILENT,
        limited: bool = True,
    ) -> list[TaskResult]:
        """Run the tasks that have no result yet; return all results in the order of ``tasks``.

        Args:
            tasks: names must differ.
            folder: result folders ``NAME``, logs ``NAME.log`` and records ``NAME.failed.json``.
            label: what the tasks do, for the progress line.
            progress: reports each finished task.
            limited: whether the time limit holds.
        """
        limit_s = self.settings.time_limit_s if limited else math.inf
        folder.mkdir(parents=True, exist_ok=True)
        waiting = [_Try(task) for task in tasks if _read_result(folder, task.name) is None]
        running: list[_Running] = []
        with progress.task(label, len(tasks), len(tasks) - len(waiting)) as shown:
            try:
                while waiting or running:
                    while waiting and len(running) < self.workers:
                        taken = {item.slot for item in running}
                        slot = min(set(range(self.workers)) - taken)
                        running.append(self._start(waiting.pop(0), slot, folder, limit_s))
                    time.sleep(_POLL_S)
                    shown.advance(0)  # long tasks too are seen to be alive
                    for item in list(running):
                        if item.process.poll() is None and time.monotonic() < item.deadline:
                            continue
                        running.remove(item)
                        again = self._end(item, folder)
                        if again is None:
                            shown.advance()
                        else:
                            waiting.append(again)
            finally:
                for item in running:
                    stop_process(item.process)
        results = [_read_result(folder, task.name) for task in tasks]
        missing = [task.name for task, r in zip(tasks, results, strict=True) if r is None]
        if missing:
            raise WorkError(f"results of {missing} vanished from {folder} while tasks ran")
        return [result for result in results if result is not None]

    def _start(self, tried: _Try, slot: int, folder: Path, limit_s: float) -> _Running:
        task = tried.task
        order = folder / f"{task.name}.task.json"
        arguments = {**task.arguments, "attempt": tried.attempt, "device": self.settings.device}
        write_json(order, {"function": task.function, "arguments": arguments})
        log = folder / f"{task.name}.log"
        command = [sys.executable, "-m", "al.executor", str(order), str(folder / task.name)]
        own = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if self.gpus else {}
        with log.open("ab") as stream:
            process = start_process(command, stream, threads=1, own=own)
        return _Running(tried, slot, process, log, time.monotonic() + limit_s)

    def _end(self, item: _Running, folder: Path) -> _Try | None:
        """Return the next try of a task, None where it is over."""
        task, attempt = item.tried.task, item.tried.attempt
        timed_out = item.process.poll() is None
        killed = not timed_out and item.process.returncode < 0
        if timed_out:
            stop_process(item.process)
        if not timed_out and item.process.returncode == 0:
            (folder / f"{task.name}.task.json").unlink()
            return None
        if not timed_out and item.process.returncode == _DISK_FULL_CODE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / task.name))
        if timed_out:
            reason = f"stopped after its time limit of {self.settings.time_limit_s:g} s"
        elif killed:
            reason = f"killed by signal {-item.process.returncode}"
        else:
            reason = last_line(item.log) or f"exit code {item.process.returncode}"
        logger.warning("task %s, attempt %d: %s", task.name, attempt + 1, reason)
        if killed and not item.tried.kills:
            # Nothing is wrong with the task: it is tried as it was, and ends with the same bits.
            return replace(item.tried, kills=1)
        # The same work would only time out again, and wrong input stays wrong.
        hopeless = timed_out or killed or item.process.returncode == InputError.exit_code
        if attempt == 0 and not hopeless:
            return replace(item.tried, attempt=1)
        outcome = TaskOutcome.TIMED_OUT if timed_out else TaskOutcome.FAILED
        record = {"outcome": outcome, "reason": reason}
        write_json(folder / f"{task.name}.failed.json", record)
        return None


def start_process(
    command: Sequence[str], log: Any, threads: int, own: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that works with ``threads`` threads and dies with this process.

    Call it from the main thread only: on Linux the child is killed when the thread that started
    it ends. Open files marked inheritable (such as the lock of a run) are passed on.

    Args:
        command: the program and its arguments.
        log: an open file for what it says.
        threads: threads of all libraries.
        own: variables of its environment beside those of this process.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "MKL_DYNAMIC": "FALSE",
        "TRAJGEN_THREADS": str(threads),
        "OPENMM_CPU_THREADS": str(threads),
        ENVIRONMENT_FLAG: "1",
        **(own or {}),
    }
    parent_pid = os.getpid()
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        close_fds=False,
        preexec_fn=lambda: die_with_parent(parent_pid),
    )


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and wait for its end."""
    if process.poll() is None:
        process.kill()
    process.wait()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_result(folder: Path, name: str) -> TaskResult | None:
    if (folder / name / "result.json").is_file():
        value = read_json(folder / name / "result.json")
        return TaskResult(name, TaskOutcome.DONE, folder / name, value, "")
    failed = folder / f"{name}.failed.json"
    if failed.is_file():
        said = read_json(failed)
        return TaskResult(name, TaskOutcome(said["outcome"]), None, {}, said["reason"], failed)
    return None


def last_line(log: Path) -> str:
    """Return the last line of a log, as far as it says why a process failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else ""


def run_task(order: Path, out: Path) -> None:
    """Run one task in this process: read its order, call the function, write the result folder.

    Raises:
        WorkError: the function is not one of this project's.
    """
    content = read_json(order)
    module, _, name = content["function"].partition(":")
    if module.split(".")[0] not in ("al", "trajgen"):
        raise WorkError(f"task function {content['function']} is not part of al or trajgen")
    function = getattr(importlib.import_module(module), name)
    # A process of the same number that was killed may have left its unfinished folder.
    for left in out.parent.glob(f".{out.name}.*.partial"):
        shutil.rmtree(left)
    with whole_folder(out) as folder:
        value = function(content["arguments"], folder)
        (folder / "result.json").write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    try:
        run_task(Path(sys.argv[1]), Path(sys.argv[2]))
    except TrajgenError as failure:
        sys.stderr.write(f"{failure}\n")
        sys.exit(failure.exit_code)
    except OSError as failure:
        if failure.errno not in DISK_FULL:
            raise
        sys.exit(_DISK_FULL_CODE)
