"""Saved frames in the order of chains, in memory or in a file that is read as it is needed."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from trajgen.errors import InputError


def joined(
    frames_nm: Iterable[Float32[np.ndarray, "chains beads 3"]],
    starts_nm: Float32[np.ndarray, "chains beads 3"],
    n_frames: int,
) -> Float32[np.ndarray, "chains frames beads 3"]:
    """Return frames by chain; those that no chain lived to see are NaN."""
    chains, beads = starts_nm.shape[:2]
    by_chain = np.full((chains, n_frames, beads, 3), np.nan, dtype=np.float32)
    for number, frame in enumerate(frames_nm):
        by_chain[:, number] = frame
    return by_chain


def joined_in_file(
    path: Path,
    chunks_nm: Iterable[Float32[np.ndarray, "frames chains beads 3"]],
    starts_nm: Float32[np.ndarray, "chains beads 3"],
    n_frames: int,
) -> Float32[np.ndarray, "chains frames beads 3"]:
    """Return the same as ``joined`` with the numbers in a file, a chunk of which is in memory."""
    chains, beads = starts_nm.shape[:2]
    shape = (chains, n_frames, beads, 3)
    frame_bytes = beads * 3 * 4
    # Written, not mapped: a full disk is then an error and not the end of the process.
    with path.open("wb") as file:

        def place(first: int, by_chain: np.ndarray) -> None:
            for chain in range(chains):
                file.seek((chain * n_frames + first) * frame_bytes)
                file.write(by_chain[chain].tobytes())

        done = 0
        for chunk in chunks_nm:
            if done + len(chunk) > n_frames:
                raise InputError(
                    f"{path.parent} holds more frames than the run has; remove it to begin anew"
                )
            place(done, chunk.swapaxes(0, 1))
            done += len(chunk)
        missing = np.full((1, beads, 3), np.nan, dtype=np.float32)
        for number in range(done, n_frames):
            place(number, np.broadcast_to(missing, (chains, 1, beads, 3)))
    return np.memmap(path, dtype=np.float32, mode="r", shape=shape)
