"""Stages of the benchmark on peptides are done again where what they depend on is another."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import accuracy_peptides
import numpy as np
import pytest
from toy_peptide import peptide

from trajgen.data.records import AtomFrames
from trajgen.surrogate.completing import RolloutSettings


class NoForward:
    """Stands in for the judge of forward simulation, which is not asked here."""

    reference = states = judges = other = None

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def rows(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the function that judges one peptide with so many evaluations, without a model."""
    topology, start_nm = peptide()
    frame = AtomFrames(topology, start_nm[None].numpy().astype(np.float32), np.zeros(1, np.int64))

    def scored(*values: Any) -> tuple[dict[str, Any], AtomFrames]:
        (settings,) = (value for value in values if isinstance(value, RolloutSettings))
        return {"evaluations": settings.evaluations}, frame

    for name in ("trained", "read_run", "first_ps", "open_model"):
        monkeypatch.setattr(accuracy_peptides, name, lambda *_: None)
    for name in ("upsampling_scores", "path_scores"):
        monkeypatch.setattr(accuracy_peptides, name, scored)
    monkeypatch.setattr(accuracy_peptides, "round_trip_scores", lambda *_: {})
    monkeypatch.setattr(accuracy_peptides, "ForwardJudge", NoForward)

    def run(evaluations: int) -> dict[str, Any]:
        arguments = Namespace(
            name="GYDP", out=tmp_path, data=tmp_path, evaluations=[evaluations], batch=1, seed=0,
            restart=None, upsampled_ps=1.0, paths=1, ns_per_day=100.0, pictures=None,
        )  # fmt: skip
        return accuracy_peptides.run_one(arguments)

    return run


def test_other_evaluations_are_other_stages(asked_once: Any, tmp_path: Path) -> None:
    assert asked_once(2)["upsampling"] == {"evaluations": 2}
    again = asked_once(4)
    assert again["upsampling"] == again["interpolation"] == {"evaluations": 4}
    assert asked_once(2)["interpolation"] == {"evaluations": 2}
    for task in ("upsampling", "interpolation"):
        for evaluations in (2, 4):
            assert (tmp_path / f"GYDP-{task}-{evaluations}.safetensors").is_file()
