"""The script that times the surrogate prints what it timed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import bench_surrogate
import pytest
from bench_surrogate import main

from trajgen.surrogate.transformer import DIMENSIONS


@pytest.mark.slow
def test_the_whole_script_writes_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in ("DECAPEPTIDE", "TETRAPEPTIDE"):
        shorter = replace(getattr(bench_surrogate, case), frames=12, size=DIMENSIONS["tiny"])
        monkeypatch.setattr(bench_surrogate, case, shorter)
    monkeypatch.setattr(bench_surrogate, "WINDOWS", 3)
    monkeypatch.setenv("TRAJGEN_THREADS", "1")
    words = (
        "--replicas 1 2 --lengths 12 32 --evaluations 2 --seconds 0.01 --device cpu --published "
        "--json"
    )
    monkeypatch.setattr(sys, "argv", ["bench_surrogate.py", *words.split(), str(tmp_path / "b")])
    main()
    found = json.loads((tmp_path / "b").read_text())
    assert found["training"].keys() == {"4"}
    assert found["sampling"].keys() == {"1", "2"}
    assert found["chained"].keys() == {"12", "32"}
    assert found["published"]["frames"] == 10_000
    assert found["published"]["ratio"] == pytest.approx(60 / found["published"]["seconds"])
    printed = capsys.readouterr().out
    assert "32 frames" in printed
    assert "10000 frames of a tetrapeptide" in printed
