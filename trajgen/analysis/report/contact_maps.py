"""Contact maps: how often each pair of residues touches, beside the reference."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from trajgen.analysis.report.drawing import join_panels, new_row, plain, styled, to_svg
from trajgen.analysis.report.sections import Figure

#: Size of a panel, and panels of sets beside each other.
_PANEL_IN, _ROW_IN = 2.5, 2.9
_IN_A_ROW = 3


@styled
def contact_maps(
    reference: Float[np.ndarray, " pairs"],
    sets: Mapping[str, Float[np.ndarray, " pairs"]],
    pairs: Int[np.ndarray, "pairs 2"],
    residues: int,
    caption: str,
) -> Figure:
    """Draw the contact probabilities of the reference, and those of each set less these.

    Args:
        reference: probability of each pair.
        sets: the same for each set, by name.
        pairs: the residues of each pair, counted from 0.
        residues: the number of residues.
        caption: what the figure shows.
    """
    drawing, (axis,) = new_row(_PANEL_IN + 0.7, _ROW_IN, 1)
    whole = _map(axis, reference, pairs, residues, "viridis", (0.0, 1.0), "reference")
    drawing.colorbar(whole, ax=axis, label="probability", shrink=0.8)
    svgs = [to_svg(drawing)]
    differences = [(name, values - reference) for name, values in sets.items()]
    far = max((float(np.abs(values).max()) for _, values in differences), default=0.0)
    far = max(far, 0.01)
    for begin in range(0, len(differences), _IN_A_ROW):
        row = differences[begin : begin + _IN_A_ROW]
        drawing, axes = new_row(_PANEL_IN * len(row) + 0.7, _ROW_IN, len(row))
        for axis, (name, values) in zip(axes, row, strict=True):
            image = _map(axis, values, pairs, residues, "RdBu_r", (-far, far), plain(name))
        drawing.colorbar(image, ax=list(axes), label="difference", shrink=0.8)
        svgs.append(to_svg(drawing))
    return Figure(caption, join_panels(svgs))


def _map(
    axis: Axes,
    values: Float[np.ndarray, " pairs"],
    pairs: Int[np.ndarray, "pairs 2"],
    residues: int,
    colours: str,
    limits: tuple[float, float],
    title: str,
) -> AxesImage:
    grid = np.full((residues, residues), np.nan)
    first, second = pairs.T
    grid[first, second] = grid[second, first] = values
    edges = (0.5, residues + 0.5)
    image = axis.imshow(
        grid,
        origin="lower",
        extent=(*edges, *edges),
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_title(title)
    axis.set_xlabel("residue")
    axis.set_ylabel("residue")
    return image
