"""Rollouts of an unseen peptide are whole runs, scored on as many frames as the run that judges."""

import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peptides.forward
import peptides.judge
import pytest
from accuracy_peptides import mean_rows
from peptides.judge import ForwardJudge
from peptides.models import FINE_PS
from run_folder import Stages
from toy_peptide import peptide, wobbling_peptide

from trajgen.data.frame_files import load_atom_frames
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.records import AtomFrames, Rollouts
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.errors import InputError

NAME, REPLICAS = "GYDP", 4
FINE_FRAMES, INTERVAL_PS = 1200, 1.0
JUDGING = 120
SECONDS_OF_ROLLOUT = 50.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two runs of a peptide."""
    folder = tmp_path_factory.mktemp("runs")
    topology, _ = peptide(sequence=NAME)
    beads, alpha = alpha_carbon_beads(topology)
    for run in (0, 1):
        _, positions_nm = wobbling_peptide(FINE_FRAMES, seed=run, memory=0.99)
        frames = AtomFrames(topology, positions_nm, np.zeros(FINE_FRAMES, np.int64), FINE_PS)
        label = ShardLabel(f"{NAME}-{run}", "sample", "none", 350.0, FINE_PS)
        (folder / NAME).mkdir(exist_ok=True)
        header = DatasetHeader(beads, topology, alpha)
        Dataset.create(folder / NAME / f"run-{run}", header).append_atoms(label, frames)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return replicas and frames of each rollout, which other dynamics of the peptide stand for."""
    asked: list[tuple[int, int]] = []
    now = [0.0]
    topology, _ = peptide(sequence=NAME)

    def forward(_: Any, starts_nm: np.ndarray, frames: int, lag_ps: float, *__: Any) -> Rollouts:
        asked.append((len(starts_nm), frames))
        now[0] += SECONDS_OF_ROLLOUT
        made = [wobbling_peptide(frames, seed, memory=0.9)[1] for seed in range(len(starts_nm))]
        alive = np.ones((len(starts_nm), frames), dtype=bool)
        return Rollouts(topology, np.stack(made), alive, lag_ps)

    monkeypatch.setattr(peptides.forward, "forward", forward)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    model = SimpleNamespace(
        settings=SimpleNamespace(window_frames=20),
        molecule=SimpleNamespace(tasks=("forward", "ensemble")),
    )
    monkeypatch.setattr(peptides.judge, "open_model", lambda *_: model)
    return asked


def judge(data: Path, out: Path, unseen: bool, **given: Any) -> ForwardJudge:
    arguments = Namespace(
        **{"data": data, "out": out, "interval_ps": INTERVAL_PS, "lag_ps": 2.0, "batch": 64,
           "restart": None, "replicas": REPLICAS, "seed": 0, "ns_per_day": 0.1,
           "evaluations": [2], **given}
    )  # fmt: skip
    return ForwardJudge(arguments, Stages(out), NAME, unseen)


def test_replicas_of_an_unseen_peptide_run_the_whole_length(
    data: Path, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    found = judge(data, tmp_path, unseen=True).surrogate(2)
    assert asked == [(REPLICAS, JUDGING)]
    assert found["frames"] == JUDGING
    assert load_atom_frames(tmp_path / f"{NAME}-forward-2.safetensors").n_frames == 4 * JUDGING
    # All generated frames cost time; those of one replica follow each other and have times.
    assert found["seconds"] == SECONDS_OF_ROLLOUT
    assert found["frames_per_s"] == REPLICAS * (JUDGING - 1) / SECONDS_OF_ROLLOUT
    assert found["relaxation_ratio"] is not None
    assert found["joins"] == pytest.approx(1, abs=0.2)  # it has none
    assert "kinetics_reason" not in found


def test_replicas_of_the_training_peptide_share_the_length(
    data: Path, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    found = judge(data, tmp_path, unseen=False).surrogate(2)
    assert asked == [(REPLICAS, JUDGING // REPLICAS)]
    assert found["frames"] == JUDGING


def test_single_frames_have_distances_and_no_times(
    data: Path, tmp_path: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    topology, positions_nm = wobbling_peptide(JUDGING, seed=9, memory=0.0)

    def drawn(_: Any, frames: int, *__: Any) -> Rollouts:
        assert frames == JUDGING
        return Rollouts(topology, positions_nm[None], np.ones((1, frames), dtype=bool), None)

    monkeypatch.setattr(peptides.judge, "ensemble", drawn)
    found = judge(data, tmp_path, unseen=False).single_frames(2)
    assert 0 < found["jensen_shannon_torsions"] < 0.8
    assert found["relaxation_reason"] == "the frames have no time step"


def test_scored_frames_are_spread_over_whole_rollouts(
    data: Path, tmp_path: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    monkeypatch.setattr(peptides.judge, "scores", lambda frames, *_: scored.append(frames) or {})
    judge(data, tmp_path, unseen=True).surrogate(2)
    (frames,) = scored
    for replica in range(REPLICAS):
        _, run_nm = wobbling_peptide(JUDGING, replica, memory=0.9)
        mine = frames.positions_nm[frames.segments == replica]
        np.testing.assert_array_equal(mine, run_nm[REPLICAS - 1 :: REPLICAS])
    assert frames.time_step_ps == REPLICAS * INTERVAL_PS


def test_equal_time_is_that_of_all_generated_frames(
    data: Path, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    of_forty_ps = 0.04 / (SECONDS_OF_ROLLOUT / 86400)
    found = judge(data, tmp_path, unseen=True, ns_per_day=of_forty_ps).brief_dynamics(2)
    assert found["length_ps"] == pytest.approx(40.0, abs=2 * FINE_PS)
    assert found["frames"] == JUDGING  # of 400 that were saved
    much = judge(data, tmp_path, unseen=True, ns_per_day=100 * of_forty_ps).brief_dynamics(2)
    assert much["length_ps"] == pytest.approx((FINE_FRAMES - 1) * FINE_PS)


def test_more_replicas_than_frames_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--replicas is 61, .* 120 frames; give at most 60"):
        _ = judge(data, tmp_path, unseen=True, replicas=61).length


def test_ratios_of_peptides_have_a_geometric_mean() -> None:
    rows = [{"surrogate": {"relaxation_ratio": ratio, "valid": valid}}
            for ratio, valid in ((0.5, 0.8), (2.0, 1.0))]  # fmt: skip
    means = mean_rows(rows)["surrogate"]
    assert means == {"relaxation_ratio": pytest.approx(1.0), "valid": pytest.approx(0.9)}
