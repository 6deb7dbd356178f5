"""Disagreement beside error: known values of springs, and reasons where there is nothing to say."""

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


def labels(frames: int) -> ForceLabels:
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(frames, 1, 1, generator=generator) * 3
    positions = size * torch.randn(frames, 4, 3, generator=generator)
    noise = NOISE * torch.randn(frames, 4, 3, generator=generator)
    return ForceLabels(positions, noise - TRUE * positions, torch.ones(frames), np.arange(frames))


def test_groups_hold_the_known_spread_and_error() -> None:
    known = labels(1600)
    found = calibrate(Springs(STIFFNESS), known)
    groups = found["groups"]
    assert len(groups) == BINS
    assert sum(group["frames"] for group in groups) == 1600
    apart = [group["disagreement"] for group in groups]
    assert apart == sorted(apart)
    square = known.positions_nm.square().mean(dim=(1, 2)).sort().values.reshape(BINS, -1).mean(1)
    assert apart == pytest.approx((np.var(STIFFNESS) * square).tolist(), rel=1e-4)
    for group, x2 in zip(groups, square.tolist(), strict=True):
        wanted = (np.mean(STIFFNESS) - TRUE) ** 2 * x2 + NOISE**2
        assert abs(group["error"] - wanted) < 5 * group["standard_error"]
    assert found["rank_correlation"] > 0.9
    assert found["reason"] is None


def test_noise_alone_is_level() -> None:
    known = labels(1600)
    right = (TRUE - 1, TRUE, TRUE + 1)  # their mean is the truth
    found = calibrate(Springs(right), known)
    assert abs(found["rank_correlation"]) < 0.1
    for group in found["groups"]:
        assert abs(group["error"] - NOISE**2) < 5 * group["standard_error"]


@pytest.mark.parametrize(
    ("stiffness", "frames", "reason"),
    [
        ((1.0,), 100, "1 network; a disagreement takes two or more"),
        ((), 100, "0 network"),
        (STIFFNESS, 2 * LEAST_FRAMES - 1, "only 19 frames are held out"),
    ],
)
def test_what_cannot_be_said_has_a_reason(
    stiffness: tuple[float, ...], frames: int, reason: str
) -> None:
    found = calibrate(Springs(stiffness), labels(frames))
    assert found["groups"] == []
    assert found["rank_correlation"] is None
    assert reason in found["reason"]
