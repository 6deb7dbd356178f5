"""The training of the benchmark on peptides lasts as long as is asked."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import peptides.models
import pytest

from trajgen.surrogate.training_settings import TrainSettings


def settings_of_training(tmp_path: Path, monkeypatch: Any, given: list[str]) -> TrainSettings:
    """Return the settings that a training of 600 minutes is started with."""
    seen = []
    monkeypatch.setattr(peptides.models, "train_surrogate", lambda *args: seen.append(args))
    arguments = Namespace(
        out=tmp_path, data=tmp_path, minutes=600.0, set=given, seed=0, device="cpu"
    )
    peptides.models.trained(arguments, [], ["model.shortest_lag_ps=0.1"])
    return seen[0][2]


def test_minutes_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of_training(tmp_path, monkeypatch, [])
    assert settings.training.max_minutes == 600
    a_thousandth_of_a_second_each = 600 * 60 * 1000
    assert settings.training.steps > a_thousandth_of_a_second_each


def test_steps_decide_where_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of_training(tmp_path, monkeypatch, ["training.steps=7"])
    assert settings.training.steps == 7
