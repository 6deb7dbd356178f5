"""Frames as structures that the viewer of a report plays."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from trajgen.analysis.report.sections import Movie, Section
from trajgen.data.sources import FrameSource
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.data.writers import write_pdb
from trajgen.geometry.superposition import superposed

#: Frames of a movie at most, lines of all movies of a report, and movies that share them at least.
MOST_FRAMES = 100
MOST_LINES = 150_000
LEAST_SHARES = 5
#: Sites farther from the centre of their frame have no room in a PDB file: the frame exploded.
FARTHEST_NM = 900.0


def movie(
    name: str,
    caption: str,
    topology: BeadTopology | AtomTopology,
    positions_nm: Float[np.ndarray, "frames sites 3"],
    shares: int = LEAST_SHARES,
) -> Movie | None:
    """Return frames as a movie: evenly picked where there are many, each placed on the first one.

    Args:
        name: what stands on its button.
        caption: what it shows.
        topology: the sites.
        positions_nm: successive frames.
        shares: the movies of the report.

    Returns:
        The movie, None where no frame can be shown; frames that exploded are left out, and counted
        in the caption.
    """
    centred = positions_nm - positions_nm.mean(axis=1, keepdims=True)
    whole = np.abs(centred).max(axis=(1, 2), initial=0.0) < FARTHEST_NM  # false where it is NaN
    if not whole.any():
        return None
    if not whole.all():
        caption += f" Without {int((~whole).sum())} frames that exploded."
    lines = MOST_LINES // max(shares, LEAST_SHARES)
    most = max(min(MOST_FRAMES, lines // topology.n_sites), 1)
    picked = np.unique(np.linspace(0, whole.sum() - 1, most).round().astype(int))
    frames = torch.from_numpy(np.ascontiguousarray(centred[whole][picked]))
    placed = superposed(frames, frames[:1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.pdb"
        write_pdb(path, topology, placed.numpy())
        text = path.read_text(encoding="ascii")
    return Movie(name, caption, text, len(picked), isinstance(topology, AtomTopology))


def trajectory_movie(
    name: str, caption: str, source: FrameSource, shares: int = LEAST_SHARES
) -> Movie | None:
    """Return the first trajectory of a source as a movie; None where no frame can be shown."""
    frames = _thinned(_first_segment(source))
    return None if frames is None else movie(name, caption, source.topology, frames, shares)


def _first_segment(source: FrameSource) -> Iterator[Float[np.ndarray, "_ sites 3"]]:
    """Yield the frames of the first segment, chunk by chunk."""
    first = None
    for chunk in source.chunks():
        if not chunk.n_frames:
            continue
        first = chunk.segments[0] if first is None else first
        yield chunk.positions_nm[chunk.segments == first]
        if chunk.segments[-1] != first:
            return


def _thinned(
    parts: Iterable[Float[np.ndarray, "_ sites 3"]],
) -> Float[np.ndarray, "frames sites 3"] | None:
    """Return evenly spaced frames of a stream, two times ``MOST_FRAMES`` at most; None of none."""
    kept: np.ndarray | None = None
    count, stride = 0, 1
    for part in parts:
        places = np.arange(count, count + len(part))
        mine = part[places % stride == 0]
        kept = mine if kept is None else np.concatenate([kept, mine])
        count += len(part)
        while len(kept) > 2 * MOST_FRAMES:
            kept, stride = kept[::2], 2 * stride
    return kept


def movie_sections(movies: Sequence[Movie]) -> list[Section]:
    """Return the section that shows structures; none where there are none."""
    text = (
        "One structure at a time: drag to turn it, and play its frames. All of them are placed on "
        "the first; of long trajectories "
        f"{MOST_FRAMES} frames are shown at most."
    )
    return [Section("Structures and movies", (text,), movies=movies)] if movies else []
