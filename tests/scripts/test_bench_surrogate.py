"""The script that times the surrogate prints what it timed."""

import json
import sys
from pathlib import Path

import bench_surrogate
import pytest
from bench_surrogate import main


@pytest.mark.slow
def test_the_whole_script_writes_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_surrogate, "FRAMES", 12)
    monkeypatch.setenv("TRAJGEN_THREADS", "1")
    words = "--replicas 1 2 --lengths 12 32 --evaluations 2 --seconds 0.01 --device cpu --json"
    monkeypatch.setattr(sys, "argv", ["bench_surrogate.py", *words.split(), str(tmp_path / "b")])
    main()
    found = json.loads((tmp_path / "b").read_text())
    assert found["training"].keys() == {"4"}
    assert found["sampling"].keys() == {"1", "2"}
    assert found["chained"].keys() == {"12", "32"}
    assert "32 frames" in capsys.readouterr().out
