"""Windows that follow each other: each begins with the last frames of the one before."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ChainedWindow:
    """A window of a longer trajectory.

    Attributes:
        number: its number.
        first: its first frame.
        done: the first frame that it adds; those from ``first`` on are known by then.
        end: the frame after its last one.
    """

    number: int
    first: int
    done: int
    end: int


def chained_windows(begin: int, frames: int, length: int, context: int) -> list[ChainedWindow]:
    """Return windows of ``length`` that fill frames ``begin`` to ``frames``.

    They share ``context`` frames, or fewer at the begin; the last one may be cut.
    """
    windows: list[ChainedWindow] = []
    done = begin
    while done < frames:
        first = done - min(context, done, length - 1)
        windows.append(ChainedWindow(len(windows), first, done, min(first + length, frames)))
        done = windows[-1].end
    return windows


def frames_done(windows: Sequence[ChainedWindow], finished: int, frames: int) -> int:
    """Return the frame that is the next to be generated after so many finished windows."""
    return windows[finished].done if finished < len(windows) else frames
