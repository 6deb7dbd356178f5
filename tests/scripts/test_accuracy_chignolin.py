"""The script that judges the potential of chignolin says what it is asked to say."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accuracy_chignolin import (
    COLUMNS,
    NATIVE_CUTOFF_NM,
    import_reference,
    measure_seed,
    print_table,
    starts_of,
)
from ensemble_rows import floors, second_half

from trajgen.analysis.evaluate import EvaluationSettings, judge, read_reference, read_samples
from trajgen.analysis.nativeness import native_distances
from trajgen.data.readers import read_bead_structure
from trajgen.data.records import BeadFrames, Rollouts
from trajgen.files import write_json

CHAINS, FRAMES = 4, 40


@pytest.fixture(scope="module")
def reference(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return frames of the data, the native structure, and what they are measured by."""
    frames = import_reference(shared_data, tmp_path_factory.mktemp("out")).read_all_beads()
    native = shared_data / "fastfolder_pdb" / "chignolin_cln025_ca.pdb"
    structure_nm = read_bead_structure(native, frames.topology).astype(float)
    settings = EvaluationSettings(
        tica_lag_frames=1, floor_splits=2, bootstrap_resamples=10, kinetics=None
    )
    return frames, structure_nm, read_reference(frames, settings, 0, structure_nm)


def replayed(frames: BeadFrames, lost: int) -> Rollouts:
    """Return chains that replay the data, of which the last lacks its last frames."""
    positions_nm = frames.positions_nm[: CHAINS * FRAMES].reshape(CHAINS, FRAMES, -1, 3).copy()
    alive = np.ones((CHAINS, FRAMES), dtype=bool)
    alive[-1, FRAMES - lost :] = False
    positions_nm[~alive] = np.nan
    return Rollouts(frames.topology, positions_nm, alive, None, 1.6)


def test_starts_are_native_or_not(reference: Any) -> None:
    frames, structure_nm, _ = reference
    for native in (True, False):
        starts_nm = starts_of(frames, structure_nm, native, 8, seed=1)
        made = BeadFrames(frames.topology, starts_nm, np.arange(8, dtype=np.int64))
        found = native_distances(made, structure_nm)
        folded = (found.native_nm < NATIVE_CUTOFF_NM) & (found.native_nm < found.mirror_nm)
        assert (folded == native).all()


def test_the_second_half_counts_and_what_is_lost_in_it(reference: Any) -> None:
    late, lost = second_half(replayed(reference[0], lost=7))
    assert (late.n_frames, lost) == (CHAINS * FRAMES // 2 - 7, 7)


def test_the_table_has_all_that_a_reader_needs(
    reference: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, _, known = reference
    folder = tmp_path / "seed-5"
    card = {"steps": 2900, "wall_seconds": 900.0, "readout": {"wall_seconds": 600.0}}
    (folder / "potential").mkdir(parents=True)
    write_json(folder / "potential" / "card.json", card)
    write_json(folder / "rollouts.json", {"seconds": 4567.0})
    rollouts = replayed(frames, lost=5)
    runs = {name: (rollouts.positions_nm[:, 0], rollouts) for name in ("native", "other")}
    arguments = Namespace(out=tmp_path, chains=CHAINS, save_every=200)
    row = measure_seed(5, runs, known, arguments)
    assert row["fit"]["minutes"] == 25
    assert row["tica_0_between_runs"] == 0
    run = row["runs"]["native"]
    assert run["steps"] == FRAMES * 200
    assert run["share_of_frames_lost"] == 5 / (CHAINS * FRAMES // 2)
    assert {*COLUMNS, "native", "mirror", "transitions_per_chain"} <= run.keys()
    itself = floors(judge(read_samples(frames, known), known), COLUMNS)
    # Shares of the weighted data, as they were measured by others.
    assert itself["native"] == pytest.approx(0.49, abs=0.01)
    assert itself["mirror"] == pytest.approx(0.009, abs=0.001)
    print_table([row], itself, 30.0)
    printed = " ".join(capsys.readouterr().out.split())
    assert "the fit took" not in printed
    for said in ("2900", "25.0", "8000", "4567", "6.25%"):
        assert said in printed, said
    print_table([row], itself, 24.0)
    assert "seed 5: the fit took 25.0 minutes of 24" in capsys.readouterr().out
