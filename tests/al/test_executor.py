"""Tasks run in processes: results are whole, failures recorded, finished tasks not asked again."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from al.executor import ExecutorSettings, ProcessExecutor, Task, usable_cores
from al.outcomes import TaskOutcome


@pytest.fixture
def task_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a module with task functions on the path of child processes, as part of ``al``."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import sys, types, time, os
            module = types.ModuleType("al_tasks")

            def square(arguments, out):
                (out / "number.txt").write_text(str(arguments["x"] ** 2))
                with open(arguments["asked"], "a") as file:
                    file.write("x")
                return {"square": arguments["x"] ** 2}

            def fail_first(arguments, out):
                if arguments["attempt"] == 0:
                    raise RuntimeError("the first attempt fails")
                return {"attempt": arguments["attempt"]}

            def fail(arguments, out):
                raise RuntimeError("it always fails")

            def refuse(arguments, out):
                from trajgen.errors import InputError
                with open(arguments["asked"], "a") as file:
                    file.write("x")
                raise InputError("it was asked wrongly")

            def killed(arguments, out):
                with open(arguments["asked"], "a") as file:
                    file.write(str(arguments["attempt"]))
                with open(arguments["asked"]) as file:
                    if len(file.read()) <= arguments["kills"]:
                        os.kill(os.getpid(), 9)
                return {"attempt": arguments["attempt"]}

            def sleep(arguments, out):
                time.sleep(60)

            def gpu(arguments, out):
                return {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}

            def full(arguments, out):
                import errno
                raise OSError(errno.ENOSPC, "No space left on device", str(out))

            for function in (square, fail_first, fail, refuse, killed, sleep, gpu, full):
                setattr(module, function.__name__, function)
            sys.modules["al.for_tests"] = module
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return "al.for_tests"


def executor(limit_s: float = 30.0) -> ProcessExecutor:
    return ProcessExecutor(ExecutorSettings(workers=2, time_limit_s=limit_s))


def test_results_come_in_order_and_are_not_asked_twice(tmp_path: Path, task_module: str) -> None:
    asked = tmp_path / "asked"
    tasks = [
        Task(f"t{x}", f"{task_module}:square", {"x": x, "asked": str(asked)}) for x in (3, 1, 2)
    ]
    for _ in range(2):
        results = executor().run(tasks, tmp_path / "out", "squares")
        assert [result.value["square"] for result in results] == [9, 1, 4]
        assert results[0].folder is not None
        assert (results[0].folder / "number.txt").read_text() == "9"
    assert len(asked.read_text()) == 3


def test_a_failed_task_is_retried_once_then_recorded(tmp_path: Path, task_module: str) -> None:
    tasks = [Task("once", f"{task_module}:fail_first", {}), Task("ever", f"{task_module}:fail", {})]
    once, ever = executor().run(tasks, tmp_path / "out", "failures")
    assert (once.outcome, once.value) == (TaskOutcome.DONE, {"attempt": 1})
    assert ever.outcome == TaskOutcome.FAILED
    assert "it always fails" in ever.reason
    assert ever.folder is None


def test_wrong_input_is_not_tried_again(tmp_path: Path, task_module: str) -> None:
    asked = tmp_path / "asked"
    task = Task("wrong", f"{task_module}:refuse", {"asked": str(asked)})
    (result,) = executor().run([task], tmp_path / "out", "refusal")
    assert (result.outcome, result.reason) == (TaskOutcome.FAILED, "it was asked wrongly")
    assert asked.read_text() == "x"


def test_a_killed_task_is_tried_again_as_it_was(tmp_path: Path, task_module: str) -> None:
    tasks = [
        Task(
            f"t{kills}",
            f"{task_module}:killed",
            {"asked": str(tmp_path / f"{kills}"), "kills": kills},
        )
        for kills in (1, 2)
    ]
    once, twice = executor().run(tasks, tmp_path / "out", "killed")
    assert (once.outcome, once.value) == (TaskOutcome.DONE, {"attempt": 0})
    assert (twice.outcome, twice.reason) == (TaskOutcome.FAILED, "killed by signal 9")
    assert (tmp_path / "2").read_text() == "00"


def test_a_task_beyond_its_time_is_stopped(tmp_path: Path, task_module: str) -> None:
    (result,) = executor(1.5).run([Task("slow", f"{task_module}:sleep", {})], tmp_path / "o", "s")
    assert result.outcome == TaskOutcome.TIMED_OUT
    assert len(list((tmp_path / "o").glob("slow.failed.json"))) == 1


def test_a_full_disk_is_no_fault_of_the_task(tmp_path: Path, task_module: str) -> None:
    with pytest.raises(OSError, match="No space left"):
        executor().run([Task("t", f"{task_module}:full", {})], tmp_path / "out", "full")
    assert not (tmp_path / "out" / "t.failed.json").exists()  # asked again after the disk is mended


def test_slots_take_the_gpus_in_turn(tmp_path: Path, task_module: str) -> None:
    tasks = [Task(f"t{number}", f"{task_module}:gpu", {}) for number in range(3)]
    every = ProcessExecutor(ExecutorSettings(workers=3, device="cuda"), gpus=("5", "GPU-7"))
    results = every.run(tasks, tmp_path / "side by side", "gpus")
    assert [result.value["gpu"] for result in results] == ["5", "GPU-7", "5"]
    one = ProcessExecutor(ExecutorSettings(workers=1, device="cuda"), gpus=("5", "GPU-7"))
    results = one.run(tasks, tmp_path / "in turn", "gpus")
    assert [result.value["gpu"] for result in results] == ["5", "5", "5"]  # a slot keeps its GPU


def test_tasks_of_a_cpu_see_what_their_parent_sees(
    tmp_path: Path, task_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    (result,) = executor().run([Task("t", f"{task_module}:gpu", {})], tmp_path / "out", "gpus")
    assert result.value["gpu"] == "2,3"


def test_by_default_there_is_a_process_for_each_gpu_or_core() -> None:
    on_gpus = ProcessExecutor(ExecutorSettings(device="cuda"), gpus=("0", "1", "2"))
    assert on_gpus.workers == 3
    assert ProcessExecutor(ExecutorSettings()).workers == usable_cores()


def test_foreign_functions_are_refused(tmp_path: Path) -> None:
    (result,) = executor().run([Task("bad", "os:system", {})], tmp_path / "out", "foreign")
    assert result.outcome == TaskOutcome.FAILED
    assert "not part of al or trajgen" in result.reason


@pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")
def test_children_die_with_their_parent(tmp_path: Path, task_module: str) -> None:
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from al.executor import ExecutorSettings, ProcessExecutor, Task
        ProcessExecutor(ExecutorSettings(workers=1)).run(
            [Task("slow", "{task_module}:sleep", {{}})], Path({str(tmp_path / "out")!r}), "s")
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    order = tmp_path / "out" / "slow.task.json"
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    for _ in range(200):
        if order.exists() and children.read_text().split():
            break
        time.sleep(0.05)
    child = int(children.read_text().split()[0])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not _alive(child):
            break
        time.sleep(0.05)
    assert not _alive(child)
    assert json.loads(order.read_text())["function"].endswith(":sleep")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_of_all_atom_dynamics_start_without_torch() -> None:
    """It takes longer to import than all else together, and each query is a process."""
    code = "import sys, al.oracle.tasks, al.molecule.sampling; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
