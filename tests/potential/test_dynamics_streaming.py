"""Simulations that go to disk: the same frames, in constant memory, through any interruption."""

import copy
import fcntl
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch
from command import succeed, trajgen
from potential_molecules import grow_chains
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from trajgen.data.frame_files import load_rollouts
from trajgen.data.readers import read_starts
from trajgen.data.sources import open_samples, read_all
from trajgen.errors import InputError, WorkError
from trajgen.potential.dynamics import simulation as loop
from trajgen.potential.dynamics import streaming
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.dynamics.simulation_folder import SimulationFolder
from trajgen.potential.dynamics.streaming import simulate_to_file
from trajgen.progress import Progress, ProgressTask

SETTINGS = SimulationSettings(steps=90, save_every=10)


@pytest.fixture
def potential(make_potential):
    return make_potential(blocks=1, features=8).float()


@pytest.fixture
def starts() -> np.ndarray:
    return grow_chains(3, 6, seed=8).astype(np.float32)


@pytest.fixture
def always_store(monkeypatch) -> None:
    monkeypatch.setattr(streaming, "STORE_SECONDS", 0.0)


def poison(monkeypatch, potential, chain: int | slice, evaluation: int) -> None:
    """Let a chain, or some, break in the step after an evaluation; resumed runs begin with one."""
    seen: list[int] = []

    def field(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energies, forces = potential.energy_and_forces(positions)
        seen.append(0)
        if len(seen) == evaluation:
            forces[chain] = np.nan
        return energies, forces

    monkeypatch.setattr(loop, "force_field", lambda potential: field)


class InterruptedRunError(Exception):
    pass


class StopAt(Progress, ProgressTask):
    """Stops the work once so many steps are done."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def task(
        self, label: str, total: int, done: int = 0, limit_s: float | None = None
    ) -> ProgressTask:
        self.done_before, self.left = done, self.left - done
        return self

    def advance(self, steps: int = 1, status: str = "") -> None:
        self.left -= steps
        if self.left <= 0:
            raise InterruptedRunError


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("store", [True, False])
def test_the_file_holds_what_stays_in_memory_otherwise(
    potential, starts, tmp_path, monkeypatch, store
):
    if store:
        monkeypatch.setattr(streaming, "STORE_SECONDS", 0.0)
    report = simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"sim.npz", "sim.json"}
    wanted = simulate(potential, starts, SETTINGS, seed=5)
    with np.load(tmp_path / "sim.npz", allow_pickle=False) as arrays:
        assert arrays["positions"].tobytes() == wanted.positions_nm.tobytes()
        assert arrays["alive"].all()
        assert float(arrays["time_step_cg_ps"]) == pytest.approx(0.04)
        assert "time_step_ps" not in arrays
    card = json.loads((tmp_path / "sim.json").read_text())
    assert card["simulation"] == report
    assert card["time_step_cg_ps"] == pytest.approx(0.04)
    assert "time_step_ps" not in card
    assert (report["chains"], report["chains_lost"], report["frames_lost"]) == (3, 0, 0)
    assert (report["temperature_K"], report["device"]) == (350.0, "cpu")
    assert report["kinetic_temperature_K"] == pytest.approx(350.0, rel=0.8)
    assert report["configurational_temperature_K"] == pytest.approx(350.0, rel=1.5)
    assert read_all(open_samples([tmp_path / "sim.npz"])).time_step_ps is None


def test_other_formats_hold_the_same_frames(potential, starts, tmp_path, always_store):
    wanted = simulate(potential, starts, SETTINGS, seed=5).positions_nm
    simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.xtc")
    simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "all.safetensors")
    for chain in range(3):
        file, topology = tmp_path / f"sim_{chain:03d}.xtc", tmp_path / "sim.pdb"
        read = mdtraj.load(str(file), top=str(topology))
        np.testing.assert_allclose(read.xyz, wanted[chain], atol=6e-4)
        np.testing.assert_allclose(read.time, 0.04 * np.arange(9), atol=1e-6)
    rollouts = load_rollouts(tmp_path / "all.safetensors")
    np.testing.assert_array_equal(rollouts.positions_nm, wanted)
    assert rollouts.time_step_cg_ps == pytest.approx(0.04)


@pytest.mark.parametrize("suffix", [".npz", ".xtc", ".safetensors"])
def test_the_last_frames_of_a_broken_chain_lie_beside_the_output(
    potential, starts, tmp_path, monkeypatch, always_store, suffix
):
    poison(monkeypatch, potential, chain=1, evaluation=27)
    report = simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / f"sim{suffix}")
    entry = {"chain": 1, "temperature_K": 350.0, "step": 27, "reason": "not finite"}
    assert report["losses"] == [entry]
    assert (report["chains_lost"], report["frames_lost"]) == (1, 7)
    assert json.loads((tmp_path / "sim.json").read_text())["simulation"]["losses"] == [entry]
    lost = read_all(open_samples([tmp_path / "sim_lost.npz"]))
    assert lost.n_frames == 3
    assert len(set(lost.segments)) == 3  # not taken for consecutive frames
    with np.load(tmp_path / "sim_lost.npz") as arrays:
        assert arrays["chain"].tolist() == [1, 1, 1]
    if suffix == ".safetensors":
        (loss,) = load_rollouts(tmp_path / "sim.safetensors").losses
        np.testing.assert_array_equal(loss.last_frames_nm, lost.positions_nm)


@pytest.mark.parametrize("steps", [10, 40, 64, 90])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    potential, starts, tmp_path, always_store, steps
):
    settings = SETTINGS.model_copy(update={"save_every": 30})
    (tmp_path / "whole").mkdir()
    simulate_to_file(potential, starts, settings, 5, tmp_path / "whole" / "sim.npz")
    out = tmp_path / "cut" / "sim.npz"
    with pytest.raises(InterruptedRunError):
        simulate_to_file(potential, starts, settings, 5, out, StopAt(steps))
    assert not out.exists()
    later = StopAt(1_000)
    simulate_to_file(potential, starts, settings, 5, out, later)
    # The stretch that was under way is lost, and no other.
    assert later.done_before == max(stop for stop in (0, 30, 60, 64) if stop < steps)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def run_and_die(potential, starts, out: Path, dies_at: str | None) -> None:
    """Run in a process of its own, killed from within where files are renamed to ``dies_at``."""
    torch.set_num_threads(1)
    streaming.STORE_SECONDS = 0.0
    rename = os.replace

    def replace(source, target) -> None:
        if dies_at is not None and Path(target).name.startswith(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace
    simulate_to_file(potential, starts, SETTINGS, 5, out)


def in_process(*arguments: object) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=run_and_die, args=arguments)
    process.start()
    return process


@pytest.mark.parametrize(
    "dies_at", ["run.json", "frames-", "state", "publishing", "sim.npz", "sim.json"]
)
def test_a_run_killed_before_any_rename_ends_with_the_same_bytes(
    potential, starts, tmp_path, always_store, dies_at
):
    (tmp_path / "whole").mkdir()
    simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "whole" / "sim.npz")
    out = tmp_path / "cut" / "sim.npz"
    process = in_process(potential, starts, out, dies_at)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    simulate_to_file(potential, starts, SETTINGS, 5, out)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_several_files_half_of_which_had_appeared_are_written_anew(
    potential, starts, tmp_path, always_store
):
    (tmp_path / "whole").mkdir()
    simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "whole" / "sim.xtc")
    out = tmp_path / "cut" / "sim.xtc"
    in_process(potential, starts, out, "sim.pdb").join(60)
    assert (out.parent / "sim_001.xtc").is_file()
    assert not (out.parent / "sim.pdb").exists()
    simulate_to_file(potential, starts, SETTINGS, 5, out)
    whole = content(tmp_path / "whole")
    cut = content(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    for name in ("sim_000.xtc", "sim_001.xtc", "sim_002.xtc", "sim.json"):
        assert cut[name] == whole[name], name


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(
    potential, starts, tmp_path, always_store
):
    (tmp_path / "whole").mkdir()
    simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "whole" / "sim.npz")
    out = tmp_path / "cut" / "sim.npz"
    began = time.monotonic()
    in_process(potential, starts, tmp_path / "timed" / "sim.npz", None).join(60)
    # From shortly after a run begins to shortly before it ends, however fast the machine is.
    shares = np.sort(np.random.default_rng(1).uniform(0.02, 0.9, size=8))
    waits = shares * (time.monotonic() - began)
    kills = 0

    def finished() -> bool:
        return out.with_suffix(".json").is_file() and len(list(out.parent.iterdir())) == 2

    for wait in waits:
        process = in_process(potential, starts, out, None)
        time.sleep(wait)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join(60)
        if finished():
            break
    assert kills
    if not finished():
        simulate_to_file(potential, starts, SETTINGS, 5, out)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


@pytest.mark.parametrize("left", ["everything", "run.json"])
def test_a_run_killed_after_its_output_appeared_has_ended(
    potential, starts, tmp_path, monkeypatch, always_store, left
):
    out = tmp_path / "sim.npz"
    remove = SimulationFolder.remove

    def die(folder: SimulationFolder) -> None:
        if left == "run.json":
            for file in folder.path.iterdir():
                if file.name != "run.json":
                    file.unlink()
        raise InterruptedRunError

    monkeypatch.setattr(SimulationFolder, "remove", die)
    with pytest.raises(InterruptedRunError):
        simulate_to_file(potential, starts, SETTINGS, 5, out)
    monkeypatch.setattr(SimulationFolder, "remove", remove)
    before = out.read_bytes()
    with pytest.raises(InputError, match="another seed"):
        simulate_to_file(potential, starts, SETTINGS, 6, out)
    report = simulate_to_file(potential, starts, SETTINGS, 5, out)
    assert report == json.loads((tmp_path / "sim.json").read_text())["simulation"]
    assert content(tmp_path).keys() == {"sim.npz", "sim.json"}
    assert out.read_bytes() == before
    with pytest.raises(InputError, match="exists already"):
        simulate_to_file(potential, starts, SETTINGS, 5, out)


def interrupt(potential, starts, out: Path) -> Path:
    with pytest.raises(InterruptedRunError):
        simulate_to_file(potential, starts, SETTINGS, 5, out, StopAt(50))
    return out.with_name("sim.npz.simulation")


def test_a_state_of_another_simulation_is_refused(
    make_potential, potential, starts, tmp_path, always_store
):
    out = tmp_path / "sim.npz"
    interrupt(potential, starts, out)
    other = make_potential(blocks=1, features=8).float()
    other.priors.bond.stiffness *= 1.01
    longer = SETTINGS.model_copy(update={"steps": 100})
    for arguments, named in (
        ((potential, starts, longer, 5), "settings"),
        ((potential, starts, SETTINGS, 6), "seed"),
        ((potential, starts[:2], SETTINGS, 5), "starts"),
        ((other, starts, SETTINGS, 5), "potential"),
        ((other, starts, SETTINGS, 6), "potential and seed"),
    ):
        with pytest.raises(InputError, match=f"another {named}; give the arguments") as refused:
            simulate_to_file(*arguments, out)
        assert "sim.npz.simulation" in str(refused.value)
    precise = copy.deepcopy(potential).double()
    with pytest.raises(InputError, match="another potential;"):
        simulate_to_file(precise, starts, SETTINGS, 5, out)
    simulate_to_file(potential, starts, SETTINGS, 5, out)


def test_a_damaged_state_is_refused(potential, starts, tmp_path, always_store):
    folder = interrupt(potential, starts, tmp_path / "sim.npz")
    chunk = sorted(folder.glob("frames-*"))[0]
    frames = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(InputError, match="holds 3 frames of 4 that were saved"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    chunk.write_bytes(frames[:40])
    with pytest.raises(InputError, match=r"is damaged .* remove the folder"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    chunk.write_bytes(frames)
    (folder / "state.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(InputError, match=r"is damaged .* remove the folder"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")


def test_a_state_without_what_is_kept_now_is_refused(potential, starts, tmp_path, always_store):
    state = interrupt(potential, starts, tmp_path / "sim.npz") / "state.safetensors"
    with safe_open(state, framework="np") as file:
        counts = file.metadata()
    older = load_file(state)
    older.pop("exchanges_accepted")
    save_file(older, state, metadata=counts)
    with pytest.raises(InputError, match=r"another version of trajgen; remove the folder"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")


def test_frames_beyond_the_stored_state_are_drawn_again(potential, starts, tmp_path, always_store):
    out = tmp_path / "sim.npz"
    folder = interrupt(potential, starts, out)
    (folder / f"frames-{4:012d}.safetensors").write_bytes(b"of a crash")
    simulate_to_file(potential, starts, SETTINGS, 5, out)
    with np.load(out) as arrays:
        wanted = simulate(potential, starts, SETTINGS, seed=5).positions_nm
        np.testing.assert_array_equal(arrays["positions"], wanted)


def test_an_output_that_cannot_be_written_keeps_what_was_simulated(
    potential, starts, tmp_path, monkeypatch, always_store
):
    out = tmp_path / "sim.npz"

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        simulate_to_file(potential, starts, SETTINGS, 5, out)
    assert [path.name for path in tmp_path.iterdir()] == ["sim.npz.simulation"]
    monkeypatch.undo()
    later = StopAt(1_000)
    simulate_to_file(potential, starts, SETTINGS, 5, out, later)
    assert later.done_before == 90


def test_a_short_run_that_cannot_be_written_leaves_nothing(
    potential, starts, tmp_path, monkeypatch
):
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    assert list(tmp_path.iterdir()) == []


def test_all_chains_lost_ends_early_with_nan_frames(
    potential, starts, tmp_path, monkeypatch, always_store
):
    poison(monkeypatch, potential, chain=0, evaluation=27)
    simulate_to_file(potential, starts[:1], SETTINGS, 5, tmp_path / "sim.npz")
    with np.load(tmp_path / "sim.npz") as arrays:
        assert arrays["alive"].tolist() == [[True] * 2 + [False] * 7]
        assert np.isnan(arrays["positions"][0, 2:]).all()
        assert np.isfinite(arrays["positions"][0, :2]).all()


@pytest.mark.parametrize("suffix", [".npz", ".xtc"])
@pytest.mark.parametrize("store", [True, False])
def test_chains_that_all_break_before_a_frame_is_saved_leave_what_is_known(
    potential, starts, tmp_path, monkeypatch, suffix, store
):
    if store:
        monkeypatch.setattr(streaming, "STORE_SECONDS", 0.0)
    poison(monkeypatch, potential, chain=slice(None), evaluation=5)
    out = tmp_path / f"sim{suffix}"
    with pytest.raises(WorkError, match=r"all 3 chains exploded before a frame was saved: .*_lost"):
        simulate_to_file(potential, starts, SETTINGS, 5, out)
    assert {path.name for path in tmp_path.iterdir()} == {"sim_lost.npz", "sim.json"}
    report = json.loads((tmp_path / "sim.json").read_text())["simulation"]
    assert [loss["step"] for loss in report["losses"]] == [5] * 3
    assert (report["chains_lost"], report["frames_lost"]) == (3, 27)
    assert report["configurational_temperature_K"] is None
    monkeypatch.undo()
    until = SimulationSettings(steps=4, save_every=4)
    held = simulate(potential, starts, until, seed=5).positions_nm[:, 0]
    np.testing.assert_allclose(
        read_starts(tmp_path / "sim_lost.npz", potential.topology), held, atol=1e-5
    )
    with pytest.raises(InputError, match="exists already"):
        simulate_to_file(potential, starts, SETTINGS, 5, out)


def test_lost_chains_of_another_format_do_not_end_a_simulation_under_way(
    potential, starts, tmp_path, monkeypatch, always_store
):
    with pytest.raises(InterruptedRunError):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz", StopAt(40))
    with monkeypatch.context() as patched:
        poison(patched, potential, chain=slice(None), evaluation=5)
        with pytest.raises(WorkError, match="all 3 chains"):
            simulate_to_file(potential, starts, SETTINGS, 6, tmp_path / "sim.xtc")
    with pytest.raises(InputError, match="exists already"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    assert (tmp_path / "sim.npz.simulation").is_dir()


@contextmanager
def sampled_memory() -> Iterator[list[int]]:
    """Watch the memory of this process, but for pages of files that are mapped into it, bytes."""
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            (line,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
            seen.append(1024 * int(line))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        done.set()
        watching.join()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames(
    make_potential, tmp_path, monkeypatch, always_store
):
    monkeypatch.setattr(streaming, "STORE_SECONDS", 1e9)
    monkeypatch.setattr(streaming, "STORE_BYTES", 2**22)

    def still(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return positions.sum(dim=(1, 2)), torch.zeros_like(positions)

    monkeypatch.setattr(loop, "force_field", lambda potential: still)
    chains, steps = 600, (300, 1_500)
    starts = np.repeat(grow_chains(1, 6, seed=8), chains, axis=0).astype(np.float32)
    potential = make_potential(blocks=1, features=8).float()

    def report_peaks(pipe: Connection) -> None:
        peaks = []
        for n in steps:
            settings = SimulationSettings(
                steps=n, save_every=1, friction_per_ps=0.0, time_step_ps=1e-6
            )
            with sampled_memory() as seen:
                simulate_to_file(potential, starts, settings, 5, tmp_path / f"{n}.npz")
            peaks.append(max(seen))
        pipe.send(peaks)

    # In a process of its own, whose peak is that of nothing else.
    forked = multiprocessing.get_context("fork")
    here, there = forked.Pipe()
    process = forked.Process(target=report_peaks, args=(there,))
    process.start()
    there.close()  # a process that dies then ends the wait
    assert here.poll(300)
    short, long = here.recv()
    process.join()
    more = chains * (steps[1] - steps[0]) * 6 * 12
    assert (tmp_path / f"{steps[1]}.npz").stat().st_size > more
    assert long - short < 0.3 * more


def test_a_work_folder_without_a_state_is_no_simulation(tmp_path):
    folder = SimulationFolder(tmp_path / "sim.npz", {"seed": 1})
    assert folder.load() is None
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_integrator_and_ladder_and_reports_them(made, tmp_path):
    out = tmp_path / "sim.npz"
    told = succeed(
        "simulate", made.potential, "--dataset", made.dataset, "--chains", 2, "--steps", 40,
        "--save-every", 10, "--set", "integrator=overdamped", "--set", "tempering.replicas=3",
        "--set", "tempering.highest_K=400", "--set", "tempering.exchange_every=5",
        "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert "2 of 2 chains are whole" in told.out
    assert "of exchanges accepted" in told.err
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["positions"].shape == (2, 4, 5, 3)  # the base replicas alone
    card = json.loads((tmp_path / "sim.json").read_text())
    assert card["settings"]["integrator"] == "overdamped"
    report = card["simulation"]
    assert report["friction_per_cg_ps"] == 200.0
    np.testing.assert_allclose(
        report["tempering"]["temperatures_K"], 300.0 * (4 / 3) ** np.array([0, 0.5, 1])
    )
    assert report["tempering"]["attempted"] == [2 * 4, 2 * 4]
    refused = trajgen(
        "simulate", made.potential, "--dataset", made.dataset, "--set", "tempering.replicas=3",
        "--out", tmp_path / "other.npz",
    )  # fmt: skip
    assert refused.code == 2
    assert "replicas and highest_K, or by temperatures_K" in refused.error


def test_an_output_of_another_format_does_not_end_a_simulation_under_way(
    potential, starts, tmp_path, always_store
):
    with pytest.raises(InterruptedRunError):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz", StopAt(40))
    simulate_to_file(potential, starts, SETTINGS, 6, tmp_path / "sim.xtc")
    with pytest.raises(InputError, match="exists already"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    assert (tmp_path / "sim.npz.simulation").is_dir()
    assert (tmp_path / "sim_000.xtc").is_file()


def test_files_that_appear_meanwhile_are_not_touched(potential, starts, tmp_path, monkeypatch):
    def appear(*_: object) -> None:
        (tmp_path / "sim.npz").write_text("mine")

    monkeypatch.setattr(streaming, "log_outcome", appear)
    with pytest.raises(InputError, match="exists already"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    assert (tmp_path / "sim.npz").read_text() == "mine"


def test_two_processes_do_not_work_on_one_output(potential, starts, tmp_path, always_store):
    with pytest.raises(InterruptedRunError):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz", StopAt(40))
    folder = os.open(tmp_path / "sim.npz.simulation", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another process is at work"):
        simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
    os.close(folder)
    simulate_to_file(potential, starts, SETTINGS, 5, tmp_path / "sim.npz")
