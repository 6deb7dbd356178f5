"""Validity of C-alpha frames as shares: bonds, clashes, explosion, and frames that are lost."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from trajgen.analysis.atom_validity import weighted_share
from trajgen.analysis.features import CHUNK
from trajgen.analysis.measures import Measure
from trajgen.data.records import BeadFrames
from trajgen.errors import InputError
from trajgen.geometry.validity import ChainLimits, check_chain


@dataclass(frozen=True, eq=False)
class BeadValidity:
    """What the checks found in each frame.

    Attributes:
        bond: a bond is too short or too long.
        clash: two beads are too near.
        explosion: a bond or the radius of gyration is beyond the limits of explosion.
        weights: weight of each frame.
        n_lost: frames that are not among these, since their chain had failed.
    """

    bond: Bool[np.ndarray, " frames"]
    clash: Bool[np.ndarray, " frames"]
    explosion: Bool[np.ndarray, " frames"]
    weights: Float[np.ndarray, " frames"]
    n_lost: int

    @property
    def valid(self) -> Bool[np.ndarray, " frames"]:
        """All checks hold."""
        return ~(self.bond | self.clash | self.explosion)

    def shares(self) -> dict[str, Measure]:
        """Return the weighted share of frames that fail each check, that fail ``any``, and lost.

        ``lost`` is the share of lost frames among all, lost ones included; the others are shares
        among the frames that are there.
        """
        failed = {
            "bond": self.bond,
            "clash": self.clash,
            "explosion": self.explosion,
            "any": ~self.valid,
        }
        shares = {
            name: weighted_share(name, column, self.weights, 1, None)
            for name, column in failed.items()
        }
        n = len(self.bond) + self.n_lost
        lost = self.n_lost / n if n else None
        reason = None if n else "there is no frame to look at"
        return {**shares, "lost": Measure("lost", "share", lost, reason=reason)}

    def counts(self) -> dict[str, int]:
        """Return the number of frames that fail each check, and of those that are lost."""
        return {
            "bond": int(self.bond.sum()),
            "clash": int(self.clash.sum()),
            "explosion": int(self.explosion.sum()),
            "lost": self.n_lost,
        }


def bead_validity(
    frames: BeadFrames, limits: ChainLimits | None = None, n_lost: int = 0
) -> BeadValidity:
    """Check bead frames against the limits of a C-alpha chain (``geometry.validity``).

    Args:
        frames: the frames that are there.
        limits: the limits; those of a C-alpha chain where none are given.
        n_lost: frames that are not there, since their chain had failed (``Rollouts.n_lost``).

    Raises:
        InputError: the beads are no C-alpha atoms and no limits are given, or ``n_lost`` is
            below 0.
    """
    others = sorted(set(frames.topology.names) - {"CA"})
    if limits is None and others:
        raise InputError(
            f"beads are named {', '.join(others[:5])}, but the limits are those of CA beads; "
            "give limits for these beads"
        )
    if n_lost < 0:
        raise InputError(f"n_lost is {n_lost}; wanted is a number of frames, 0 or more")
    bonds = torch.tensor(frames.topology.bonds, dtype=torch.int64).reshape(-1, 2)
    bond, clash, explosion = failed = np.zeros((3, frames.n_frames), dtype=bool)
    for start in range(0, frames.n_frames, CHUNK):
        part = slice(start, start + CHUNK)
        positions = torch.from_numpy(frames.positions_nm[part].copy())  # may be read-only
        report = check_chain(positions, limits, bonds)
        for row, passed in enumerate((report.bonds_ok, report.no_clash, report.not_exploded)):
            failed[row, part] = ~passed.numpy()
    weights = np.ones(frames.n_frames) if frames.weights is None else frames.weights
    return BeadValidity(bond, clash, explosion, weights, n_lost)
