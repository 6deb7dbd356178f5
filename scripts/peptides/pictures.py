"""Pictures of a rollout, of paths and of an upsampled trajectory beside dynamics."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trajgen.analysis.evaluate import Reference
from trajgen.analysis.frame_table import slow_coordinates
from trajgen.analysis.torsions import backbone_torsions
from trajgen.data.records import AtomFrames
from trajgen.files import whole_file

BINS, DEEPEST_KT = 50, 6.0
#: Of one segment, so that a picture can be read.
SHOWN_PS = 60.0


def forward_picture(path: Path, dynamics: AtomFrames, made: AtomFrames, known: Reference) -> None:
    """Draw the free-energy surfaces of dynamics and of rollouts, and the slowest coordinate."""
    figure = _figure(9.0, 5.6)
    both = {"dynamics": _tics(dynamics, known), "surrogate": _tics(made, known)}
    edges = _edges(np.concatenate(list(both.values())))
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1))
    for column, (name, tics) in enumerate(both.items()):
        axis = figure.add_subplot(grid[0, column])
        _surface(axis, tics, edges)
        axis.set_title(name)
    axis = figure.add_subplot(grid[1, :])
    for (name, tics), frames in zip(both.items(), (dynamics, made), strict=True):
        one = tics[frames.segments == frames.segments[0], 0]
        axis.plot(np.arange(len(one)) * float(frames.time_step_ps or 1.0), one, lw=0.7, label=name)
    axis.set(xlabel="time (ps)", ylabel="TIC 0")
    axis.legend(frameon=False, ncols=2)
    _save(figure, path)


def path_picture(path: Path, dynamics: AtomFrames, paths: AtomFrames, known: Reference) -> None:
    """Draw paths between two states on the free-energy surface of dynamics."""
    figure = _figure(5.2, 4.6)
    axis = figure.add_subplot()
    tics, walked = _tics(dynamics, known), _tics(paths, known)
    _surface(axis, tics, _edges(np.concatenate([tics, walked])))
    for segment in np.unique(paths.segments):
        line = walked[paths.segments == segment]
        axis.plot(line[:, 0], line[:, 1], lw=1.0, marker=".", ms=3)
        axis.plot(*line[0, :2], "ko", ms=5)
        axis.plot(*line[-1, :2], "ks", ms=5)
    _save(figure, path)


def upsampling_picture(path: Path, fine: AtomFrames, made: AtomFrames, factor: int) -> None:
    """Draw backbone torsions of dynamics, those that were known, and those that were filled in."""
    figure = _figure(9.0, 4.8)
    step_ps = float(fine.time_step_ps or 1.0)
    made = made.take(made.segments == made.segments[0])  # behind lost frames times are others
    count = min(round(SHOWN_PS / step_ps) + 1, made.n_frames)
    mine, theirs = backbone_torsions(made), backbone_torsions(fine)
    times = np.arange(count) * step_ps
    axes = figure.subplots(2, 1, sharex=True)
    for axis, column in zip(axes, (0, 1), strict=True):
        for name, feature in (("dynamics", theirs), ("surrogate", mine)):
            values = np.degrees(np.unwrap(feature.values[:count, column]))
            axis.plot(times, values, lw=0.7, label=name)
        known = np.degrees(np.unwrap(theirs.values[:count, column]))[::factor]
        axis.plot(times[::factor], known, "ko", ms=4, label="known")
        axis.set_ylabel(f"{mine.labels[column]} (°)")
    axes[0].legend(frameon=False, ncols=3)
    axes[1].set_xlabel("time (ps)")
    _save(figure, path)


def _tics(frames: AtomFrames, known: Reference) -> np.ndarray:
    if known.fit.model is None:
        raise ValueError(f"the reference has no slow coordinates: {known.fit.reason}")
    return slow_coordinates(known.fit.model, frames)[:, :2]


def _edges(tics: np.ndarray) -> list[np.ndarray]:
    return [np.linspace(column.min(), column.max(), BINS + 1) for column in tics.T]


def _surface(axis: Axes, tics: np.ndarray, edges: list[np.ndarray]) -> None:
    counts = np.histogram2d(tics[:, 0], tics[:, 1], bins=edges)[0]
    with np.errstate(divide="ignore"):
        energy = -np.log(counts / counts.max())
    shown = np.where(np.isfinite(energy), energy, np.nan).T
    mesh = axis.pcolormesh(*edges, shown, cmap="viridis", vmin=0, vmax=DEEPEST_KT)
    axis.figure.colorbar(mesh, ax=axis, label="free energy (kT)")
    axis.set(xlabel="TIC 0", ylabel="TIC 1")


def _figure(width: float, height: float) -> Figure:
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
