"""Frames as structures that the viewer of a report plays."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from trajgen.analysis.report.sections import Movie, Section
from trajgen.data.sources import FrameSource
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.data.writers import write_pdb
from trajgen.geometry.superposition import superposed

#: Frames of a movie at most, and lines of its text; a report stays small.
MOST_FRAMES = 100
MOST_LINES = 30_000


def movie(
    name: str,
    caption: str,
    topology: BeadTopology | AtomTopology,
    positions_nm: Float[np.ndarray, "frames sites 3"],
) -> Movie:
    """Return frames as a movie: evenly picked where there are many, each placed on the first one.

    Args:
        name: what stands on its button.
        caption: what it shows.
        topology: the sites.
        positions_nm: successive frames, at least one, finite.
    """
    most = max(min(MOST_FRAMES, MOST_LINES // topology.n_sites), 1)
    picked = np.unique(np.linspace(0, len(positions_nm) - 1, most).round().astype(int))
    frames = torch.from_numpy(np.ascontiguousarray(positions_nm[picked]))
    frames = frames - frames[:1].mean(dim=1, keepdim=True)
    placed = superposed(frames, frames[:1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movie.pdb"
        write_pdb(path, topology, placed.numpy())
        text = path.read_text(encoding="ascii")
    return Movie(name, caption, text, len(picked), isinstance(topology, AtomTopology))


def trajectory_movie(name: str, caption: str, source: FrameSource) -> Movie | None:
    """Return the first trajectory of a source, as far as its first chunk; None without a frame."""
    for chunk in source.chunks():
        if chunk.n_frames:
            first = chunk.positions_nm[chunk.segments == chunk.segments[0]]
            return movie(name, caption, source.topology, first)
    return None


def movie_sections(movies: Sequence[Movie]) -> list[Section]:
    """Return the section that shows structures; none where there are none."""
    text = (
        "One structure at a time: drag to turn it, and play its frames. All of them are placed on "
        "the first; of long trajectories "
        f"{MOST_FRAMES} frames are shown at most."
    )
    return [Section("Structures and movies", (text,), movies=movies)] if movies else []
