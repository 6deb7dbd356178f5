"""Design of peptides is scored for single samples and for the mean of what they say."""

from types import SimpleNamespace

import numpy as np
import peptides.redesign
import pytest
from peptides.redesign import design_scores

from trajgen.progress import SILENT
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.design import LETTERS, Designs


def test_the_mean_of_chances_is_a_design_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three samples barely prefer A, the third is sure of Y: so is the mean."""
    alanine, tyrosine, aspartate = (LETTERS.index(letter) for letter in "AYD")
    chances = np.zeros((3, 2, 20))
    chances[:, 0, alanine] = 0.51, 0.51, 0.0
    chances[:, 0, tyrosine] = 0.49, 0.49, 1.0
    chances[:, 1, aspartate] = 1.0
    inner = np.array([False, True, True, False])
    monkeypatch.setattr(peptides.redesign, "design", lambda *_: Designs(inner, chances))
    surrogate = SimpleNamespace(beads=SimpleNamespace(sequence="GYDP"), lags_ps=(1.0, 2.0))
    dynamics = SimpleNamespace(positions_nm=np.zeros((2, 4, 3), np.float32), time_step_ps=1.0)
    found = design_scores(surrogate, dynamics, ["GAAP"], 3, RolloutSettings(), 0, SILENT)
    assert found["recovery_of_single_samples"] == pytest.approx(4 / 6)
    assert found["recovery_of_mean_chances"] == 1.0
    assert found["designs"] == 3
