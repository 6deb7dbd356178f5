"""The script that times the potential: all paths evaluate the same, and ratios are of its rates."""

import json
import sys
from pathlib import Path

import pytest
from bench_potential import CHIGNOLIN, compare, main, time_committee, time_training


def test_paths_agree_and_the_ratio_is_that_of_the_rates() -> None:
    row = compare(CHIGNOLIN, 2, 0.01, ["torch-geometric"])
    rates = row["evaluations_per_s"]
    assert rates.keys() == {"fast", "plain", "torch-geometric"}
    assert row["ratio_to_best_rival"] == rates["fast"] / rates["torch-geometric"]
    assert row["ratio_to_plain"] == rates["fast"] / rates["plain"]
    # Relative to the forces of the network alone.
    assert all(error < 1e-4 for error in row["force_error"].values())


def test_a_step_of_training_is_timed_without_its_rival() -> None:
    found = time_training(0.01, [])
    assert found["seconds_per_step"].keys() == {"ours"}
    assert found["ratio_to_torchmd_net"] is None


def test_a_committee_is_timed_in_each_way() -> None:
    found = time_committee(2, [3], 0.01)
    assert found.keys() == {"3 frames"}
    assert found["3 frames"].keys() == {"in turn, tables", "in turn", "batched"}
    assert min(found["3 frames"].values()) > 0


@pytest.mark.slow
def test_the_whole_script_writes_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "--chains 1 --beads --lengths 20 --drift-steps 20 --seconds 0.01 --threads 1 "
        "--rivals torch-geometric --json"
    )
    monkeypatch.setattr(sys, "argv", ["bench_potential.py", *words.split(), str(tmp_path / "b")])
    main()
    found = json.loads((tmp_path / "b").read_text())
    assert found["ratio_to_best_rival"].keys() == {"1"}
    assert "torch-geometric" in found["rivals"]
    assert found["s_by_beads"]["20"] > 0
    assert found["drift_kJ_per_mol_ns"].keys() == {"fast", "plain"}
    assert "2 x 64, handed, 1 chains" in found["chain_steps_per_s"]
    assert "rivals: torch-geometric 2." in capsys.readouterr().out
