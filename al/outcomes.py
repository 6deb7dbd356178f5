"""The labelled outcome of one frame or one task: expected failures are values and are counted."""

from enum import StrEnum


class Rejection(StrEnum):
    """Why a candidate frame was not chosen."""

    NOT_FINITE = "not finite"
    BROKEN_BOND = "broken bond"
    CLASH = "clash"
    EXPLODED = "exploded"
    IMPLODED = "imploded"
    BEYOND_CUTOFF = "beyond the cutoff"
    DUPLICATE = "near-duplicate"
    THINNED = "thinned before scoring"
    NOT_PICKED = "not picked"


class BackmapOutcome(StrEnum):
    """What became of a frame on its way from beads to atoms."""

    ACCEPTED = "accepted"
    CLASH = "clash"
    CHIRALITY = "chirality"
    CIS_PEPTIDE = "cis peptide"
    DIVERGED = "diverged"
    TOO_FAR = "too far"
    PROCESS_FAILED = "process failed"


class TaskOutcome(StrEnum):
    """What became of a task that ran in a process of its own."""

    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
