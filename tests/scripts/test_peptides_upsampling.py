"""Upsampling is judged at the joins that there are, beside straight lines between known frames."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import peptides.upsampling
import pytest
from peptides.upsampling import upsampling_scores
from toy_peptide import wobbling_peptide

from trajgen.data.records import AtomFrames, Rollouts
from trajgen.progress import SILENT
from trajgen.surrogate.completing import RolloutSettings

FACTOR, STEP_PS = 10, 0.1
#: Frames that came apart, all in the gap before the known frame 20.
LOST = np.arange(13, 17)


@pytest.fixture(scope="module")
def fine() -> AtomFrames:
    topology, positions_nm = wobbling_peptide(2009, seed=1)
    return AtomFrames(topology, positions_nm, np.zeros(len(positions_nm), np.int64), STEP_PS)


def scored(fine: AtomFrames, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[Any]]:
    """Score other dynamics with lost frames as if they were upsampled; return all joins too."""
    joins: list[Any] = []

    def upsample(_: Any, known_nm: np.ndarray, factor: int, *__: Any) -> Rollouts:
        frames = factor * (len(known_nm) - 1) + 1
        _, positions_nm = wobbling_peptide(frames, seed=2)
        alive = np.ones((1, frames), dtype=bool)
        alive[0, LOST] = False
        return Rollouts(fine.topology, np.where(alive[..., None, None], positions_nm, np.nan),
                        alive, STEP_PS)  # fmt: skip

    measures = peptides.upsampling.upsampling_measures

    def recorded(*values: Any) -> Any:
        joins.append(values[2])
        return measures(*values)

    monkeypatch.setattr(peptides.upsampling, "upsample", upsample)
    monkeypatch.setattr(peptides.upsampling, "upsampling_measures", recorded)
    surrogate: Any = SimpleNamespace()
    other = replace(fine, positions_nm=wobbling_peptide(2009, seed=3)[1])
    found, made = upsampling_scores(surrogate, fine, other, FACTOR, RolloutSettings(), 0, SILENT)
    assert made.n_frames == 2001 - len(LOST)
    return found, joins


def test_joins_are_known_frames_though_others_are_lost(
    fine: AtomFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, joins = scored(fine, monkeypatch)
    known = np.arange(FACTOR, 2001, FACTOR)
    np.testing.assert_array_equal(joins[0], np.where(known < 13, known, known - len(LOST)))
    assert found["surrogate"]["lost"] == len(LOST)


def test_straight_lines_stand_beside_and_are_too_smooth(
    fine: AtomFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = scored(fine, monkeypatch)
    made, lines = found["surrogate"], found["straight lines"]
    assert set(lines) == {"backbone", "side_chain"} < set(made)
    for kind in lines:
        assert lines[kind].keys() == made[kind].keys()
        assert lines[kind]["power_ratio"]["value"] < 0.2
        assert made[kind]["power_ratio"]["value"] == pytest.approx(1, abs=0.2)


def test_other_dynamics_is_near_and_its_shuffled_frames_are_not(
    fine: AtomFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = scored(fine, monkeypatch)
    near, mixed = (found[name]["backbone"] for name in ("independent run", "its frames shuffled"))
    assert near["log_autocorrelation_error"]["value"] < 0.5
    assert near["power_ratio"]["value"] == pytest.approx(1, abs=0.2)
    # White noise has nearly all of its power where the known frames say nothing.
    assert mixed["power_ratio"]["value"] > 2
