"""The plots of the reports: plain arrays in, a figure with its caption out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trajgen.analysis.report.drawing import (
    PALETTE,
    PANELS_IN_A_ROW,
    REFERENCE_COLOUR,
    join_panels,
    legend,
    line_style,
    new_panel,
    new_row,
    plain,
    styled,
    to_svg,
)
from trajgen.analysis.report.sections import Figure

#: Bins of a free-energy surface along each axis, and of a distribution.
SURFACE_BINS = 50
BINS = 60

#: Marked points drawn on a surface at most, evenly picked; more would hide it.
MOST_MARKS = 300

#: Terms drawn at most, evenly picked; a report stays small.
MOST_TERMS = 40

_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")


@dataclass(frozen=True)
class Surface:
    """One panel of ``free_energy_surfaces``.

    Attributes:
        title: such as ``reference`` or ``round 1``.
        tics: first two slow coordinates of each frame.
        weights: statistical weight of each frame, None for equal weights.
        marks: frames to mark, such as the selected ones, by name.
        paths: paths to draw, each as its successive points.
    """

    title: str
    tics: Float[np.ndarray, "frames 2"]
    weights: Float[np.ndarray, " frames"] | None = None
    marks: Mapping[str, Float[np.ndarray, "_ 2"]] = field(default_factory=dict)
    paths: Sequence[Float[np.ndarray, "_ 2"]] = ()


@dataclass(frozen=True)
class Ensemble:
    """One line of ``distributions``: the values of all terms in one set of frames.

    Attributes:
        name: such as ``reference`` or ``round 1``.
        values: a column for each term.
        weights: statistical weight of each frame, None for equal weights.
    """

    name: str
    values: Float[np.ndarray, "frames terms"]
    weights: Float[np.ndarray, " frames"] | None = None


@dataclass(frozen=True)
class RmsdRound:
    """One panel of ``rmsd_histograms``.

    Attributes:
        title: such as ``round 1``.
        training_nm: RMSD of the frames of the training set to the reference frame.
        simulated_nm: RMSD of the simulated frames to it.
        selected_nm: RMSD of the frames chosen for the oracle to it.
    """

    title: str
    training_nm: Float[np.ndarray, " training"]
    simulated_nm: Float[np.ndarray, " simulated"]
    selected_nm: Float[np.ndarray, " selected"] | None = None


@dataclass(frozen=True)
class Curve:
    """One training run of ``training_curves``.

    Attributes:
        name: such as ``round 1``.
        steps: optimizer step of each validation.
        train: training loss there.
        validation: validation loss there.
        baseline: loss of the prior alone, or of any other model without training; None for none.
    """

    name: str
    steps: Num[np.ndarray, " points"]
    train: Float[np.ndarray, " points"]
    validation: Float[np.ndarray, " points"]
    baseline: float | None = None


@styled
def free_energy_surfaces(surfaces: Sequence[Surface], caption: str) -> Figure:
    """Draw −ln p over the first two slow coordinates, one panel a set, in kT.

    All panels have the grid of the first one, the reference, 15 % wider on each side; so no model
    changes the picture of another. Frames off the grid are counted in the title.
    """
    first = surfaces[0].tics
    edges = [_grid(first[:, axis]) for axis in (0, 1)]
    energies, off_grid = zip(*(_free_energy(surface, edges) for surface in surfaces), strict=True)
    top = max(
        [float(np.nanmax(energy)) for energy in energies if not np.isnan(energy).all()] or [1]
    )
    rows = [
        slice(begin, begin + PANELS_IN_A_ROW) for begin in range(0, len(surfaces), PANELS_IN_A_ROW)
    ]
    svgs = [_surface_row(surfaces[row], energies[row], off_grid[row], edges, top) for row in rows]
    return Figure(caption, join_panels(svgs))


def _surface_row(
    surfaces: Sequence[Surface],
    energies: Sequence[Float[np.ndarray, "x y"]],
    off_grid: Sequence[float],
    edges: Sequence[Float[np.ndarray, " edges"]],
    top: float,
) -> str:
    """Draw some surfaces side by side, with their scale."""
    panel_in = min(2.6, 9.9 / len(surfaces))  # as many as a row has fit into a page
    drawing, axes = new_row(panel_in * len(surfaces) + 0.8, 2.75, len(surfaces))
    image = None
    for number, (axis, surface, energy) in enumerate(zip(axes, surfaces, energies, strict=True)):
        image = axis.imshow(
            energy.T,
            origin="lower",
            extent=(edges[0][0], edges[0][-1], edges[1][0], edges[1][-1]),
            aspect="auto",
            cmap="viridis",
            vmin=0.0,
            vmax=top,
            interpolation="nearest",
        )
        _mark(axis, surface)
        lost = (
            f"\n{off_grid[number]:.1%} of the weight off the grid"
            if off_grid[number] >= 5e-4
            else "\n"
        )
        axis.set_title(plain(surface.title) + lost)
        axis.set_xlabel("TIC 0 (TIC units)")
        if number == 0:
            axis.set_ylabel("TIC 1 (TIC units)")
        else:
            axis.tick_params(labelleft=False)
    if image is not None:
        drawing.colorbar(image, ax=list(axes), label="free energy (kT)", pad=0.02)
    return to_svg(drawing)


@styled
def distributions(
    ensembles: Sequence[Ensemble],
    labels: Sequence[str],
    quantity: str,
    unit: str,
    caption: str,
    period: float | None = None,
) -> Figure:
    """Draw the distribution of every term, one panel a term; the first ensemble is the reference.

    The range of a panel is that of the reference, half as wide again on each side, the whole
    circle for a periodic quantity. What lies outside is part of the norm and not drawn; where it is
    more than a hundredth, its share stands in the panel. Of many terms ``MOST_TERMS`` are drawn.
    """
    panels = [_legend([ensemble.name for ensemble in ensembles])]
    drawn = np.unique(np.linspace(0, len(labels) - 1, MOST_TERMS).round().astype(int))
    if len(drawn) < len(labels):
        caption += f" {len(drawn)} of {len(labels)} are shown."
    for term in drawn.tolist():
        drawing, axis = new_panel()
        edges = _edges(ensembles[0].values[:, term], period)
        for number, ensemble in enumerate(ensembles):
            density = _density(ensemble.values[:, term], edges, ensemble.weights, period)
            _line_of_density(axis, density, edges, number)
            _say_outside(axis, 1 - float(density @ np.diff(edges)), number)
        axis.set_title(plain(labels[term]))
        axis.set_xlabel(f"{quantity} ({unit})")
        axis.set_ylabel(f"density (1/{unit})")
        axis.set_ylim(bottom=0)
        axis.set_xlim(edges[0], edges[-1])
        panels.append(to_svg(drawing))
    return Figure(caption, join_panels(panels))


@styled
def rmsd_histograms(rounds: Sequence[RmsdRound], caption: str) -> Figure:
    """Draw the RMSD to the reference frame of training set and simulated frames, round by round.

    All panels have the same bins. The selected frames are marks under the axis.
    """
    largest = [
        values.max() for r in rounds for values in (r.training_nm, r.simulated_nm) if len(values)
    ]
    edges = np.linspace(0.0, 1.02 * max(largest, default=1.0), BINS + 1)
    panels = [_legend(["training set", "simulated frames"], marks="selected frames")]
    for entry in rounds:
        drawing, axis = new_panel()
        for number, values in enumerate((entry.training_nm, entry.simulated_nm)):
            _line_of_density(axis, _density(values, edges, None, None), edges, number)
        if entry.selected_nm is not None and len(entry.selected_nm):
            ground = np.full(len(entry.selected_nm), -0.02)
            axis.plot(
                entry.selected_nm,
                ground,
                "|",
                color=PALETTE[1],
                markersize=6,
                transform=axis.get_xaxis_transform(),
                clip_on=False,
            )
        axis.set_title(plain(entry.title))
        axis.set_xlabel("RMSD to the reference frame (nm)")
        axis.set_ylabel("density (1/nm)")
        axis.set_ylim(bottom=0)
        axis.set_xlim(edges[0], edges[-1])
        panels.append(to_svg(drawing))
    return Figure(caption, join_panels(panels))


@styled
def training_curves(curves: Sequence[Curve], loss: str, caption: str) -> Figure:
    """Draw training and validation loss against the step, one panel a run.

    Args:
        curves: the runs.
        loss: name of the loss with its unit, as the label of the vertical axis.
        caption: what the figure shows.
    """
    panels = []
    for curve in curves:
        drawing, axis = new_panel()
        axis.plot(curve.steps, curve.train, color=PALETTE[4], linewidth=1.2, label="training")
        axis.plot(
            curve.steps, curve.validation, "o-", color=PALETTE[0], markersize=3, label="validation"
        )
        if curve.baseline is not None:
            axis.axhline(
                curve.baseline, color=PALETTE[1], linestyle="--", linewidth=1.2, label="prior only"
            )
        axis.set_title(plain(curve.name))
        axis.set_xlabel("optimizer step")
        axis.set_ylabel(plain(loss))
        # Ticks of more than five signs would push the label off the panel.
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        axis.legend(fontsize=8)
        panels.append(to_svg(drawing))
    return Figure(caption, join_panels(panels))


@styled
def stacked_bars(
    groups: Sequence[str],
    parts: Mapping[str, Num[np.ndarray, " groups"]],
    label: str,
    caption: str,
) -> Figure:
    """Draw a bar a group out of stacked parts: oracle time by source, or outcomes, per round.

    Args:
        groups: name of each bar, such as ``round 0``.
        parts: height of each part in each bar.
        label: what the heights are, with unit.
        caption: what the figure shows.
    """
    drawing, (axis,) = new_row(max(3.4, 1.6 + 0.7 * len(groups)), 2.8, 1)
    places = np.arange(len(groups))
    ground = np.zeros(len(groups))
    for number, (name, heights) in enumerate(parts.items()):
        axis.bar(
            places,
            heights,
            width=0.6,
            bottom=ground,
            color=PALETTE[number % len(PALETTE)],
            hatch=_HATCHES[number % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.5,
            label=plain(name),
        )
        ground = ground + np.asarray(heights, dtype=float)
    axis.set_xticks(places, [plain(group) for group in groups])
    axis.set_ylabel(plain(label))
    drawing.legend(loc="outside upper left", fontsize=8, ncols=2)
    return Figure(caption, to_svg(drawing))


def _grid(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " edges"]:
    low, high = float(values.min()), float(values.max())
    margin = 0.15 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, SURFACE_BINS + 1)


def _free_energy(
    surface: Surface, edges: Sequence[Float[np.ndarray, " edges"]]
) -> tuple[Float[np.ndarray, "x y"], float]:
    """Return −ln p with its minimum at 0 (NaN where no frame is), and the share off the grid."""
    counts, _, _ = np.histogram2d(
        surface.tics[:, 0], surface.tics[:, 1], bins=edges, weights=surface.weights
    )
    total = float(len(surface.tics) if surface.weights is None else surface.weights.sum())
    energy = np.full(counts.shape, np.nan)
    filled = counts > 0
    if filled.any():
        energy[filled] = -np.log(counts[filled] / counts.max())
    share = 1 - float(counts.sum()) / total if total > 0 else 0.0
    return energy, share


def _mark(axis: Axes, surface: Surface) -> None:
    limits = axis.get_xlim(), axis.get_ylim()
    for path in surface.paths:
        axis.plot(path[:, 0], path[:, 1], color="white", linewidth=2.2)
        axis.plot(path[:, 0], path[:, 1], color="black", linewidth=0.9)
    for number, (name, points) in enumerate(surface.marks.items()):
        step = -(-len(points) // MOST_MARKS) if len(points) else 1
        axis.scatter(
            points[::step, 0],
            points[::step, 1],
            s=12,
            color=PALETTE[(1 + number) % len(PALETTE)],
            edgecolors="white",
            linewidths=0.5,
            label=plain(name),
        )
    if surface.marks:
        # Below the axis label, where no point is drawn over.
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    axis.set_xlim(limits[0])
    axis.set_ylim(limits[1])


def _edges(values: Float[np.ndarray, " n"], period: float | None) -> Float[np.ndarray, " edges"]:
    if period is not None:
        return np.linspace(-period / 2, period / 2, BINS + 1)
    low, high = float(values.min()), float(values.max())
    margin = 0.25 * (high - low) or 0.1 * abs(high) or 1.0
    return np.linspace(max(low - margin, 0.0), high + margin, BINS + 1)


def _density(
    values: Float[np.ndarray, " n"],
    edges: Float[np.ndarray, " edges"],
    weights: Float[np.ndarray, " n"] | None,
    period: float | None,
) -> Float[np.ndarray, " bins"]:
    """Return the density on the bins, normalised over all values, those outside too."""
    if period is not None:
        values = np.mod(values + period / 2, period) - period / 2
    counts, _ = np.histogram(values, bins=edges, weights=weights)
    total = float(len(values) if weights is None else weights.sum())
    return counts / (np.diff(edges) * total) if total > 0 else np.zeros(len(edges) - 1)


def _say_outside(axis: Axes, share: float, number: int) -> None:
    """Write how much of an ensemble lies outside the axis, where it is more than a hundredth."""
    if share > 0.01:
        place, colour = (0.98, 1.0 - 0.09 * number), line_style(number - 1)["color"]
        style = {"xycoords": "axes fraction", "ha": "right", "fontsize": 8, "color": colour}
        axis.annotate(f"{share:.0%} outside", place, **style)


def _line_of_density(
    axis: Axes,
    density: Float[np.ndarray, " bins"],
    edges: Float[np.ndarray, " edges"],
    number: int,
) -> None:
    """Draw number 0 as a filled ground, the others as lines over it."""
    if number == 0:
        axis.stairs(density, edges, fill=True, color=REFERENCE_COLOUR, alpha=0.35)
    else:
        axis.stairs(density, edges, **line_style(number - 1))


def _legend(names: Sequence[str], marks: str | None = None) -> str:
    """Return one legend for all panels of ``_line_of_density``."""
    handles: list[Patch | Line2D] = [
        Patch(color=REFERENCE_COLOUR, alpha=0.35, label=plain(names[0]))
    ]
    for number, name in enumerate(names[1:]):
        handles.append(Line2D([], [], label=plain(name), **line_style(number)))
    if marks is not None:
        handles.append(
            Line2D([], [], color=PALETTE[1], marker="|", linestyle="", label=plain(marks))
        )
    return legend(handles)
