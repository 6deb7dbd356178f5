"""The script that measures the memory of trainings tells what they took."""

import json
import sys
from pathlib import Path

import pytest
from bench_dataset import main


@pytest.mark.slow
def test_memory_and_time_of_a_training_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--frames", "2000", "--steps", "1", "3", "--out", str(tmp_path / "data"), "--json"]
    monkeypatch.setattr(sys, "argv", ["bench_dataset.py", *words, str(tmp_path / "b")])
    main()
    (row,) = json.loads((tmp_path / "b").read_text())["rows"]
    assert row["frames"] == 2000
    assert 0 < row["dataset_gib"] < 0.001
    assert 0.05 < row["own_memory_gib"] < 2


@pytest.mark.slow
def test_a_training_beyond_its_memory_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--frames", "2000", "--steps", "1", "3", "--limit-gib", "0.01", "--out"]
    monkeypatch.setattr(sys, "argv", ["bench_dataset.py", *words, str(tmp_path / "data")])
    with pytest.raises(SystemExit, match=r"GiB of its own, and 0\.01 are allowed"):
        main()
