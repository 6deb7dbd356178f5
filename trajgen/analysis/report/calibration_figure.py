"""The error of a committee's forces against its disagreement."""

from collections.abc import Mapping, Sequence
from typing import Any

from trajgen.analysis.report.drawing import (
    PALETTE,
    join_panels,
    new_panel,
    plain,
    styled,
    to_svg,
)
from trajgen.analysis.report.sections import Figure

#: One committee: its title, groups of frames, and the noise floor where it is known.
Calibrated = tuple[str, Sequence[Mapping[str, Any]], float | None]


@styled
def calibration_figure(committees: Sequence[Calibrated]) -> Figure:
    """Draw the squared error of forces against the disagreement, a panel for each committee.

    Args:
        committees: title, groups with ``disagreement``, ``error`` and ``standard_error``, and the
            noise floor, None where it is not known; all in (kJ/mol/nm)².
    """
    panels = []
    for title, groups, floor in committees:
        drawing, axis = new_panel()
        axis.errorbar(
            [group["disagreement"] for group in groups],
            [group["error"] for group in groups],
            yerr=[2 * (group["standard_error"] or 0.0) for group in groups],
            color=PALETTE[0],
            marker="o",
            markersize=3,
            capsize=2,
            linewidth=1.2,
        )
        if floor is not None:
            axis.axhline(floor, color=PALETTE[1], linestyle="--", linewidth=1.2, label="noise")
            axis.legend(fontsize=8)
        axis.set_title(plain(title))
        axis.set_xlabel("squared disagreement ((kJ/mol/nm)²)")
        axis.set_ylabel("squared error ((kJ/mol/nm)²)")
        axis.ticklabel_format(axis="both", style="sci", scilimits=(-3, 4))
        panels.append(to_svg(drawing))
    caption = (
        "Squared error of the forces of held-out frames, in groups of rising disagreement of the "
        "committee, with twice the standard error where enough segments tell it; noise of the "
        "labels is in each of them. A committee that knows where it is wrong rises, one that does "
        "not is level."
    )
    return Figure(caption, join_panels(panels))
