"""The three pictures of the peptide benchmark are drawn, of any dynamics."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from peptides.forward import evaluation_settings
from peptides.pictures import forward_picture, path_picture, upsampling_picture
from toy_peptide import wobbling_peptide

from trajgen.analysis.evaluate import Reference, read_reference
from trajgen.data.records import AtomFrames

FRAMES = 600


def dynamics(seed: int) -> AtomFrames:
    topology, positions_nm = wobbling_peptide(FRAMES, seed, memory=0.9)
    return AtomFrames(topology, positions_nm, np.zeros(FRAMES, np.int64), 1.0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return read_reference(dynamics(0), evaluation_settings(1.0, 5.0), 0)


def colours_of(path: Path) -> int:
    """Return the number of colours of a picture: a frame without curves has few."""
    pixels = matplotlib.image.imread(path)[..., :3].reshape(-1, 3)
    return len(np.unique(np.round(255 * pixels).astype(int), axis=0))


def test_pictures_are_drawn(tmp_path: Path, reference: Reference) -> None:
    judges, made = dynamics(0), dynamics(1)
    forward_picture(tmp_path / "forward.png", judges, made, reference)
    paths = replace(made.take(slice(40)), segments=np.repeat(np.arange(4), 10))
    path_picture(tmp_path / "paths.png", judges, paths, reference)
    upsampling_picture(tmp_path / "upsampling.png", judges, made, 10)
    for name in ("forward", "paths", "upsampling"):
        assert colours_of(tmp_path / f"{name}.png") > 50, name
