"""The learner: which commands it starts."""

from pathlib import Path

import pytest

from al.parts.learner import LearnerSettings, SubprocessLearner
from trajgen.potential.fit import FitSettings
from trajgen.surrogate.training_settings import TrainSettings


@pytest.mark.parametrize("go_on", [False, True])
def test_a_potential_goes_on_from_the_round_before_only_where_asked(tmp_path: Path, go_on: bool):
    settings = LearnerSettings(continue_potential=go_on)
    learner = SubprocessLearner(tmp_path, settings, FitSettings(), TrainSettings(), seed=0)
    (tmp_path / "potential" / "000").mkdir(parents=True)

    def flags(command: str, round: int) -> list[str]:
        paths = (tmp_path / "config.yaml", round, tmp_path / "data", tmp_path / "out")
        return learner._command(command, *paths)

    before = str(tmp_path / "potential" / "000")
    assert ("--continue-from" in flags("fit", 1)) == go_on
    assert (flags("fit", 1)[-1] == before) == go_on
    assert "--continue-from" not in flags("fit", 0)
    assert "--continue-from" not in flags("train", 1)


def test_trainings_on_several_processes_take_free_ports(tmp_path: Path):
    """Both trainings start at once, and only one can have the port that all would take."""
    settings = LearnerSettings(processes=2)
    learner = SubprocessLearner(tmp_path, settings, FitSettings(), TrainSettings(), seed=0)
    for command in ("fit", "train"):
        paths = (tmp_path / "config.yaml", 0, tmp_path / "data", tmp_path / "out")
        line = " ".join(learner._command(command, *paths))
        assert "--num_processes 2 --main_process_port 0 -m trajgen.cli" in line
