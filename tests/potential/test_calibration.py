"""Disagreement beside error: known values of springs, and reasons where there is nothing to say."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trajgen.potential.calibration import BINS, LEAST_FRAMES, calibrate
from trajgen.potential.committee import Committee
from trajgen.potential.force_labels import ForceLabels

#: Springs of the members, of the truth, and the noise of the labels.
STIFFNESS, TRUE, NOISE = (3.0, 4.0, 5.0), 2.5, 0.5


class Springs(Committee):
    """A committee of E = ½ k x², each member with its own k."""

    def __init__(self, stiffness: tuple[float, ...]) -> None:
        nn.Module.__init__(self)
        self.members = nn.ModuleList(nn.Identity() for _ in stiffness)
        self.stiffness = stiffness

    def member_energies(self, positions_nm: Tensor) -> Tensor:
        k = torch.tensor(self.stiffness)[:, None]
        return 0.5 * k * positions_nm.square().sum(dim=(2, 3))


def labels(frames: int, noises: tuple[float, float] = (NOISE, NOISE)) -> ForceLabels:
    """Frames of two noises by turns, each weighing as one over its variance."""
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(frames, 1, 1, generator=generator) * 3
    positions = size * torch.randn(frames, 4, 3, generator=generator)
    spread = torch.tensor(noises).repeat(frames)[:frames, None, None]
    noise = spread * torch.randn(frames, 4, 3, generator=generator)
    weights = spread[:, 0, 0] ** -2
    known = noise - TRUE * positions
    return ForceLabels(positions, known, weights / weights.mean(), np.arange(frames))


def judged(stiffness: tuple[float, ...], known: ForceLabels, length: int = 1) -> dict[str, Any]:
    """Judge springs, with segments of some length."""
    return calibrate(Springs(stiffness), known, np.arange(known.n_frames) // length, seed=0)


def test_groups_hold_the_known_spread_and_error() -> None:
    known = labels(1600)
    groups = judged(STIFFNESS, known)["groups"]
    assert len(groups) == BINS
    assert sum(group["frames"] for group in groups) == 1600
    apart = [group["disagreement"] for group in groups]
    assert apart == sorted(apart)
    square = known.positions_nm.square().mean(dim=(1, 2)).sort().values.reshape(BINS, -1).mean(1)
    assert apart == pytest.approx((np.var(STIFFNESS) * square).tolist(), rel=1e-4)
    for group, x2 in zip(groups, square.tolist(), strict=True):
        wanted = (np.mean(STIFFNESS) - TRUE) ** 2 * x2 + NOISE**2
        assert abs(group["error"] - wanted) < 5 * group["standard_error"]


@pytest.mark.parametrize("noises", [(NOISE, NOISE), (0.5, 5.0)])
def test_of_a_right_mean_the_error_is_the_weighted_noise(noises: tuple[float, float]) -> None:
    right = (TRUE - 1, TRUE, TRUE + 1)  # their mean is the truth
    floor = 1 / np.mean(np.array(noises) ** -2.0)
    for group in judged(right, labels(1600, noises))["groups"]:
        assert abs(group["error"] - floor) < 5 * group["standard_error"]
        assert group["standard_error"] < 0.2 * floor


def test_frames_of_a_segment_are_not_taken_for_independent_ones() -> None:
    one = labels(200)
    copies = one.take(np.repeat(np.arange(200), 16))
    alone, copied = judged(STIFFNESS, one), judged(STIFFNESS, copies, length=16)
    for known, again in zip(alone["groups"], copied["groups"], strict=True):
        assert again["error"] == pytest.approx(known["error"], rel=1e-4)
        assert again["standard_error"] == pytest.approx(known["standard_error"], rel=0.5)
    few = judged(STIFFNESS, one, length=100)
    assert [group["standard_error"] for group in few["groups"]] == [None] * BINS


def test_frames_without_weight_are_not_judged() -> None:
    known = labels(1600)
    apart = (np.arange(1600) % 2 == 0) | (np.arange(1600) >= 1200)  # and whole segments with them
    weights = torch.where(torch.from_numpy(apart), known.weights, 0.0)
    groups = judged(STIFFNESS, replace(known, weights=weights), length=40)["groups"]
    alone = judged(STIFFNESS, known.take(np.flatnonzero(apart)))["groups"]
    assert [group["error"] for group in groups] == [group["error"] for group in alone]
    assert all(group["standard_error"] > 0 for group in groups)


@pytest.mark.parametrize(
    ("stiffness", "frames", "reason"),
    [
        ((1.0,), 100, "1 network; a disagreement takes two or more"),
        ((), 100, "0 networks"),
        (STIFFNESS, 2 * LEAST_FRAMES - 1, "only 19 frames with a weight are held out"),
    ],
)
def test_what_cannot_be_said_has_a_reason(
    stiffness: tuple[float, ...], frames: int, reason: str
) -> None:
    found = judged(stiffness, labels(frames))
    assert found["groups"] == []
    assert reason in found["reason"]
