"""Bad input to ``al``: one sentence on stderr, the right exit code, nothing half-written."""

import errno
import os
from pathlib import Path

import pytest
import torch

from al import cli
from al.assembly import clear_partial, refuse_foreign_folder, settle_settings
from al.molecule.dynamics import deterministic_platform
from al.run_settings import load_run_settings
from trajgen.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "configs" / "smoke.yaml"


def al(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["al", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0), capsys.readouterr().err


def one_sentence(error: str) -> bool:
    lines = [line for line in error.strip().splitlines() if line.startswith("error:")]
    return len(lines) == 1 and "Traceback" not in error


def test_unknown_letter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "system.yaml"
    file.write_text("name: odd\nsequence: GAXA\n")
    code, error = al(capsys, "build", str(file), "--out", str(tmp_path / "system"))
    assert code == 2
    assert "'X' at position 3" in error
    assert one_sentence(error)
    assert not (tmp_path / "system").exists()


def test_a_negative_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = al(
        capsys, "sample", "no-system", "--ps", "1", "--out", str(tmp_path / "data"), "--seed", "-1"
    )
    assert code == 2
    assert "--seed is -1; wanted is a whole number of 0 or more" in error
    assert one_sentence(error)


def test_unknown_setting_gives_the_dotted_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = al(
        capsys, "run", str(SMOKE), "--out", str(tmp_path / "run"), "--set", "oracle.pss=3"
    )
    assert code == 2
    assert "'oracle.pss' is not a setting" in error
    assert one_sentence(error)
    assert not (tmp_path / "run").exists()


def test_missing_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = al(capsys, "run", str(tmp_path / "no.yaml"), "--out", str(tmp_path / "run"))
    assert code == 2
    assert "is missing" in error
    assert one_sentence(error)


def test_a_folder_with_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("precious")
    code, error = al(capsys, "run", str(SMOKE), "--out", str(run))
    assert code == 2
    assert "is not empty and holds no run" in error
    assert [file.name for file in run.iterdir()] == ["thesis.txt"]


def test_what_a_killed_start_left_does_not_block_the_run(tmp_path: Path) -> None:
    (tmp_path / ".settings.123.partial.yaml").write_text("seed: ")
    (tmp_path / "lock").touch()
    refuse_foreign_folder(tmp_path)
    clear_partial(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_rounds_may_be_added_and_workers_changed_but_nothing_else(tmp_path: Path) -> None:
    settle_settings(load_run_settings(SMOKE), tmp_path)
    longer = load_run_settings(SMOKE, ["rounds=3", "executor.workers=1"])
    settle_settings(longer, tmp_path)
    assert "rounds: 3" in (tmp_path / "settings.yaml").read_text()
    with pytest.raises(InputError, match="rounds can be added"):
        settle_settings(load_run_settings(SMOKE), tmp_path)
    with pytest.raises(InputError, match=r"oracle\.ps is 1\.0 there and 2\.0 now"):
        settle_settings(load_run_settings(SMOKE, ["rounds=3", "oracle.ps=2.0"]), tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("oracle.ps=0.4", "shorter than two surrogate lags"),  # 4 frames span 3 intervals
        ("sampling.ps=0.4", "shorter than two surrogate lags"),
        ("oracle.ps=1.05", "no multiple of oracle.save_interval_ps"),
        ("sampling.save_interval_ps=0.001", "no multiple of the time step"),
        # Half of the time step would do, and the first try of each task would be refused.
        ("oracle.save_interval_ps=0.05", "no multiple of the time step"),
        ("system.time_step_ps=0.003", "no multiple of the time step"),
        ("surrogate.tasks.interpolate=0", "asks the surrogate for rollouts and for paths"),
        ("exploration.surrogate.lag_ps=3.0", "is trained at lags of 0.2 to at most 0.2 ps"),
        ("exploration.potential.dynamics.recorded=true", "recorded on a GPU"),
        ("exploration.potential.dynamics.tempering={temperatures_K: [300.0]}", "350"),
        ("sampling.ps=.inf", "sampling.ps"),
        ("learner.device=tpu", "learner.device"),
        ("learner.processes=0", "learner.processes"),
        ("executor.workers=-1", "executor.workers"),
        ("exploration.potential.dynamics.save_every=9999", "saves every 9999 steps"),
        ("surrogate.training.max_minutes=5", "every budget is a count"),
        ("nothing=bar", "'nothing' is not a setting"),
        ("seed=abc", "'seed' is 'abc'"),
    ],
)
def test_what_would_fail_after_hours_is_refused_now(override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_run_settings(SMOKE, [override])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("part", ["learner", "exploration"])
def test_a_gpu_that_is_not_there_is_missed_before_the_work(part: str) -> None:
    with pytest.raises(InputError, match="torch sees no GPU"):
        load_run_settings(SMOKE, [f"{part}.device=cuda"])


def test_all_atom_dynamics_on_a_gpu_that_is_not_there_is_refused_before_the_work() -> None:
    try:
        deterministic_platform("cuda")
    except InputError:
        with pytest.raises(InputError, match="device 'cuda' needs the OpenMM platform CUDA"):
            load_run_settings(SMOKE, ["executor.device=cuda"])
    else:
        pytest.skip("this installation has CUDA")


def test_save_intervals_that_share_no_lag() -> None:
    longer = ["sampling.save_interval_ps=0.2", "surrogate.model.longest_lag_ps=null"]
    assert load_run_settings(SMOKE, longer).surrogate.model.shortest_lag_ps == 0.2
    with pytest.raises(InputError, match="the surrogate needs a lag that both have"):
        load_run_settings(SMOKE, [*longer, "surrogate.model.shortest_lag_ps=null"])


def test_a_structure_named_by_an_override_lies_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "system.yaml").write_text("name: own\npdb: first.pdb\n")
    file = tmp_path / "run.yaml"
    file.write_text("system: system.yaml\n")
    assert load_run_settings(file).system.pdb == str(tmp_path / "first.pdb")
    named = load_run_settings(file, ["system.pdb=second.pdb"])
    assert named.system.pdb == str(tmp_path / "second.pdb")


def test_a_text_that_is_no_section_is_no_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"system: {ROOT / 'configs/systems/tetrapeptide.yaml'}\nfoo: bar\n")
    with pytest.raises(InputError, match="'foo' is not a setting"):
        load_run_settings(file)


def test_sampling_of_no_system_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", str(tmp_path / "none"), "--ps", "1", "--out", str(tmp_path / "data")]
    code, error = al(capsys, *arguments)
    assert code == 2
    assert one_sentence(error)
    assert list(tmp_path.iterdir()) == []


def test_status_of_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = al(capsys, "status", str(tmp_path))
    assert code == 2
    assert "holds no run" in error


def test_segments_too_short_for_the_surrogate() -> None:
    with pytest.raises(InputError, match="shorter than two surrogate lags"):
        load_run_settings(SMOKE, ["oracle.ps=0.3"])


def test_lag_that_fits_no_save_interval() -> None:
    with pytest.raises(InputError, match="no multiple of sampling"):
        load_run_settings(SMOKE, ["sampling.save_interval_ps=0.12"])


def test_existing_output_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "system"
    out.mkdir()
    (out / "kept").write_text("kept")
    file = ROOT / "configs/systems/tetrapeptide.yaml"
    code, error = al(capsys, "build", str(file), "--out", str(out))
    assert code == 2
    assert "exists already" in error
    assert (out / "kept").read_text() == "kept"


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, 1, "no space left"),
        (errno.EACCES, 2, "no permission"),
    ],
)
def test_full_disk_and_no_permission(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
    words: str,
) -> None:
    def refuse(path: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("trajgen.files.sync_file", refuse)
    out = tmp_path / "run"
    got, error = al(capsys, "run", str(SMOKE), "--out", str(out))
    assert got == code
    assert words in error
    assert one_sentence(error)
    assert not (out / "settings.yaml").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_write_permission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, error = al(capsys, "run", str(SMOKE), "--out", str(locked / "run"))
    assert code == 2
    assert one_sentence(error)
