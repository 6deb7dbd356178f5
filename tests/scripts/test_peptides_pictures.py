"""The three pictures of the peptide benchmark are drawn, of any dynamics."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from peptides.forward import evaluation_settings
from peptides.pictures import forward_picture, path_picture, upsampling_picture
from toy_peptide import wobbling_peptide

from trajgen.analysis.evaluate import Reference, read_reference
from trajgen.data.records import AtomFrames

FRAMES = 600
NAMES = ("forward", "paths", "upsampling")


def dynamics(seed: int) -> AtomFrames:
    topology, positions_nm = wobbling_peptide(FRAMES, seed, memory=0.9)
    return AtomFrames(topology, positions_nm, np.zeros(FRAMES, np.int64), 1.0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return read_reference(dynamics(0), evaluation_settings(1.0, 5.0), 0)


def test_pictures_show_the_frames_that_they_are_given(tmp_path: Path, reference: Reference) -> None:
    judges, drawn = dynamics(0), []
    for seed in (1, 2):
        made = dynamics(seed)
        paths = replace(made.take(slice(40)), segments=np.repeat(np.arange(4), 10))
        forward_picture(tmp_path / "forward.png", judges, made, reference)
        path_picture(tmp_path / "paths.png", judges, paths, reference)
        upsampling_picture(tmp_path / "upsampling.png", judges, made, 10)
        drawn.append([imread(tmp_path / f"{name}.png") for name in NAMES])
    for name, one, other in zip(NAMES, *drawn, strict=True):
        changed = (one != other).any(axis=2).mean()
        assert 0.001 < changed < 0.5, name
