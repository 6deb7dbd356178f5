"""How all figures are drawn: Matplotlib's object interface to SVG that fits into a page.

The same arrays give the same bytes: ids come from a fixed salt, and no date or version is written.
Text stays text, in a font that every browser has, so that it can be searched and enlarged.
"""

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trajgen.analysis.report.page import prefix_ids

#: Colours that people with any colour vision can tell apart (Okabe, Ito 2008).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C510A", "#000000")
REFERENCE_COLOUR = "#555555"
#: Lines differ in their dashes too, for print in grey.
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))

PANEL_WIDTH_IN = 3.4
PANELS_IN_A_ROW = 4

_LONGEST_LABEL = 48
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trajgen",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}
_FONT = "Verdana, 'DejaVu Sans', Arial, sans-serif"

#: Decorates a function that draws: sizes and fonts hold while it runs, and nowhere else.
styled = matplotlib.rc_context(_STYLE)


def new_panel() -> tuple[Drawing, Axes]:
    """Return a drawing with one pair of axes, as wide as a telephone and a third of a page.

    The margins are fixed: room for tick labels of five signs, both axis labels and a title.
    """
    drawing = Drawing(figsize=(PANEL_WIDTH_IN, 2.5))
    drawing.subplots_adjust(left=0.21, right=0.96, bottom=0.18, top=0.88)
    return drawing, drawing.add_subplot()


def new_row(width_in: float, height_in: float, columns: int) -> tuple[Drawing, Sequence[Axes]]:
    """Return a drawing with a row of panels, laid out when everything is in it."""
    drawing = Drawing(figsize=(width_in, height_in), layout="constrained")
    return drawing, list(drawing.subplots(1, columns, squeeze=False)[0])


def legend(handles: Sequence[Patch | Line2D]) -> str:
    """Return the ``svg`` element of a legend alone, as wide as a panel."""
    drawing = Drawing(figsize=(PANEL_WIDTH_IN, 0.1 + 0.21 * len(handles)))
    drawing.legend(handles=list(handles), loc="upper left", borderaxespad=0.2)
    return to_svg(drawing)


def to_svg(drawing: Drawing) -> str:
    """Return the ``svg`` element of a drawing, with no reference to anything outside of it."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The width of a letter that Matplotlib's own font lacks is guessed; browsers have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # One pass of the layout moves ticks, which changes what it laid out: the second one fits.
        drawing.draw_without_rendering()
        FigureCanvasSVG(drawing).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    return re.sub(r'(style="[^"]*?font-family: )[^;"]*', rf"\1{_FONT}", svg)


def join_panels(svgs: Sequence[str]) -> str:
    """Return several drawings side by side, as wide as the page allows."""
    return "\n".join(prefix_ids(svg, f"p{number}-") for number, svg in enumerate(svgs))


def plain(text: str) -> str:
    """Return a label that can be drawn: no control characters, not too long."""
    text = "".join(sign if sign.isprintable() else "�" for sign in text)
    if len(text) > _LONGEST_LABEL:
        text = text[: _LONGEST_LABEL - 1] + "…"
    return text


def line_style(number: int) -> dict[str, Any]:
    """Return colour and dashes of the ``number``-th line."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        # Colours that come again come with other dashes.
        "linestyle": DASHES[(number + number // len(PALETTE)) % len(DASHES)],
        "linewidth": 1.4,
    }
