"""Figures of kinetics: implied time scales by lag, autocorrelations, populations of states."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from trajgen.analysis.kinetics.records import SetKinetics
from trajgen.analysis.measures import Measure
from trajgen.analysis.report.drawing import (
    REFERENCE_COLOUR,
    join_panels,
    legend,
    line_style,
    new_panel,
    plain,
    styled,
    to_svg,
)
from trajgen.analysis.report.sections import Figure


@styled
def time_scale_figure(sets: Mapping[str, SetKinetics], processes: int) -> Figure:
    """Draw implied time scales against the lag, a panel for each process.

    Args:
        sets: kinetics by name, the reference first.
        processes: slowest processes to draw.
    """
    panels = [_names(sets)]
    for process in range(processes):
        drawing, axis = new_panel()
        for number, kinetics in enumerate(sets.values()):
            rows = [(lag.lag_ps, lag.time_scales) for lag in kinetics.time_scales]
            found = [(lag, row[process]) for lag, row in rows if process < len(row)]
            _curve(axis, found, number)
        lags = [lag.lag_ps for lag in next(iter(sets.values())).time_scales]
        # What is faster than the lag cannot be told at that lag.
        axis.fill_between(lags, lags, color="#000000", alpha=0.08, linewidth=0)
        axis.set_yscale("log")
        _plain_numbers(axis.yaxis)
        axis.set_xlabel("lag (ps)")
        axis.set_ylabel("implied time scale (ps)")
        axis.set_title(f"process {process}")
        panels.append(to_svg(drawing))
    caption = (
        "Implied time scales −τ/ln|λ| of Markov models at rising lags τ, with 95 % intervals; "
        "level where the lag is long enough. In the grey they are faster than the lag."
    )
    return Figure(caption, join_panels(panels))


@styled
def autocorrelation_figure(sets: Mapping[str, SetKinetics]) -> Figure:
    """Draw the autocorrelation of slow coordinates, a panel for each.

    Args:
        sets: kinetics by name, the reference first.
    """
    first = next(iter(sets.values()))
    panels = [_names(sets)]
    for place, curve in enumerate(first.autocorrelations):
        drawing, axis = new_panel()
        for number, kinetics in enumerate(sets.values()):
            if place < len(kinetics.autocorrelations):
                mine = kinetics.autocorrelations[place]
                lags_ps = np.asarray(mine.lags_ps)
                axis.plot(lags_ps, mine.values, **_style(number))
        axis.axhline(np.exp(-1), color="#999999", linewidth=0.7)
        axis.set_xscale("log")
        _plain_numbers(axis.xaxis)
        axis.set_ylim(-0.3, 1.02)
        axis.set_xlabel("lag (ps)")
        axis.set_ylabel("autocorrelation")
        axis.set_title(plain(curve.label))
        panels.append(to_svg(drawing))
    caption = (
        "Normalised autocorrelation of the slow coordinates of the reference; where it crosses "
        "the thin line, 1/e, is the decorrelation time."
    )
    return Figure(caption, join_panels(panels))


@styled
def population_figure(sets: Mapping[str, SetKinetics]) -> Figure:
    """Draw the population of each state.

    Args:
        sets: kinetics by name, the reference first.
    """
    drawing, axis = new_panel()
    for number, kinetics in enumerate(sets.values()):
        shift = 0.8 * (number - (len(sets) - 1) / 2) / len(sets)
        found = [(i + shift, share) for i, share in enumerate(kinetics.populations)]
        _curve(axis, found, number, joined=False)
    axis.set_xticks(range(len(next(iter(sets.values())).populations)))
    axis.set_ylim(bottom=0)
    axis.set_xlabel("state, numbered along TIC 0")
    axis.set_ylabel("population")
    caption = "Stationary probability of each state of the reference, with 95 % intervals."
    return Figure(caption, join_panels([_names(sets), to_svg(drawing)]))


def _names(sets: Mapping[str, SetKinetics]) -> str:
    """Return one legend for all panels."""
    lines = [Line2D([], [], label=plain(name), **_style(i)) for i, name in enumerate(sets)]
    return legend(lines)


def _plain_numbers(axis: Axis) -> None:
    """Write ticks of a logarithmic axis as numbers: labels are text, not formulas."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _curve(
    axis: Axes,
    found: Sequence[tuple[float, Measure]],
    number: int,
    joined: bool = True,
) -> None:
    """Draw measures with their intervals; those without a value are not there."""
    known = [(place, measure) for place, measure in found if measure.value is not None]
    places = [place for place, _ in known]
    values = np.array([measure.value for _, measure in known], dtype=float)
    low = [m.value if m.low is None else m.low for _, m in known]
    high = [m.value if m.high is None else m.high for _, m in known]
    errors = np.clip([values - np.array(low, float), np.array(high, float) - values], 0, None)
    style = _style(number) | ({} if joined else {"linestyle": "none"})
    axis.errorbar(places, values, yerr=errors, marker="o", markersize=3, capsize=2, **style)


def _style(number: int) -> dict[str, Any]:
    """Return the style of a set: the reference is grey, the others as everywhere."""
    if number == 0:
        return {"color": REFERENCE_COLOUR, "linestyle": "-", "linewidth": 1.6}
    return line_style(number - 1)
