"""Plain sections to one HTML file that opens offline: text, tables, inline SVG, nothing fetched.

All text is escaped here, so that names of files and settings show as they are. Figures are SVG
that ``trajgen.analysis.report.figures`` drew; nothing else may put markup into a report. The page
forbids its own requests: a browser refuses whatever would leave it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from trajgen.analysis.report.sections import Cell, Figure, Movie, Section, Table
from trajgen.analysis.report.viewer import packed_text, packed_viewer
from trajgen.files import write_text

#: What a browser lets the page do: run its own code (the viewer makes functions from text), and
#: load what it holds itself; no request leaves it.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "img-src data: blob:; connect-src data: blob:; font-src data:"
)
_NO_VIEWER = (
    "These structures can be turned and played in reports that are made where the viewer is "
    "installed: pip install -e '.[report]' in the clone of trajgen."
)


def render_report(
    title: str,
    summary_lines: Sequence[str],
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
    numbers: Any = None,
) -> str:
    """Return a whole HTML document.

    Args:
        title: heading of the report.
        summary_lines: what a reader has to know, at the top.
        sections: the parts, in order; at most one of them has structures.
        provenance: versions, seeds, settings and hashes; nested values are shown by dotted key.
        numbers: all numbers, as plain values that readers can save; None for none.
    """
    own = files(__package__)
    movies = [movie for section in sections for movie in section.movies]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>\n{own.joinpath('page.css').read_text(encoding='utf-8')}</style>",
        "</head>",
        "<body>",
        f"<h1>{_text(title)}</h1>",
        '<div class="summary">',
        *(f"<p>{_text(line)}</p>" for line in summary_lines),
        "</div>",
        "<nav>",
        *(
            f'<a href="#section-{number}">{_text(section.title)}</a>'
            for number, section in enumerate(sections)
        ),
        '<a href="#provenance">Provenance</a>',
        "</nav>",
        *(_section(number, section) for number, section in enumerate(sections)),
        _provenance(provenance),
        *_data(movies, numbers),
        f"<script>\n{own.joinpath('page.js').read_text(encoding='utf-8')}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def write_report(
    path: Path,
    title: str,
    summary_lines: Sequence[str],
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
    numbers: Any = None,
) -> None:
    """Write the document of ``render_report`` to a file, whole or not at all."""
    write_text(path, render_report(title, summary_lines, sections, provenance, numbers))


def prefix_ids(svg: str, prefix: str) -> str:
    """Return SVG whose ids, and the references to them, begin with ``prefix``.

    Ids count for a whole HTML document, and every drawing has the same ones.
    """

    def rename(tag: re.Match[str]) -> str:
        return re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}", tag.group())

    return re.sub(r"<[^>]+>", rename, svg)  # in tags only: a label may hold such signs too


def _section(number: int, section: Section) -> str:
    parts = [f'<section id="section-{number}">', f"<h2>{_text(section.title)}</h2>"]
    parts += [f"<p>{_text(paragraph)}</p>" for paragraph in section.paragraphs]
    parts += [_table(table) for table in section.tables]
    for index, figure in enumerate(section.figures):
        parts.append(_figure(figure, f"s{number}f{index}"))
    if section.movies:
        parts.append(_viewer(section.movies))
    return "\n".join([*parts, "</section>"])


def _figure(figure: Figure, name: str) -> str:
    svg, said = prefix_ids(figure.svg, f"{name}-"), _text(figure.caption)
    panels = f'<div class="panels" role="img" tabindex="0" aria-label="{said}">{svg}</div>'
    caption = f"<figcaption>{said}</figcaption>"
    return f'<figure data-name="figure-{name}">\n{panels}\n{caption}\n</figure>'


def _table(table: Table) -> str:
    header = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.header)
    rows = ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows]
    return "\n".join(
        [
            f'<div class="wide" role="region" tabindex="0" aria-label="{_text(table.caption)}">',
            f"<table><caption>{_text(table.caption)}</caption>",
            f"<thead><tr>{header}</tr></thead>",
            "<tbody>",
            *rows,
            "</tbody>",
            "</table></div>",
        ]
    )


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{_text(cell)}</td>"
    colour = "" if cell.level is None else f' class="{cell.level}"'
    return f"<td{colour}>{_text(cell.text)}</td>"


def _viewer(movies: Sequence[Movie]) -> str:
    # The script enables the buttons when the viewer is ready.
    rows = [
        f'<li><button type="button" disabled>{_text(movie.name)}</button> '
        f"{_text(movie.caption)} {_frames(movie.frames)}</li>"
        for movie in movies
    ]
    stage = '<div class="stage" role="region" aria-label="Structure viewer"></div>'
    if packed_viewer() is None:
        stage = f"<p>{_NO_VIEWER}</p>"
    return "\n".join(['<div class="viewer">', stage, "<ul>", *rows, "</ul>", "</div>"])


def _frames(count: int) -> str:
    return "(1 frame)" if count == 1 else f"({count} frames)"


def _data(movies: Sequence[Movie], numbers: Any) -> list[str]:
    """Return what the script of the page works on, as elements that are not shown."""
    found = []
    if numbers is not None:
        plain = json.dumps(numbers, indent=2, allow_nan=False)
        found.append(_element("numbers", packed_text(plain)))
    viewer = packed_viewer()
    if movies and viewer is not None:
        shown = [{"name": m.name, "pdb": m.pdb, "atoms": m.atoms} for m in movies]
        packed = {
            "movies": packed_text(json.dumps(shown)),
            "viewer-script": viewer.script,
            "viewer-style": viewer.style,
        }
        found += [_element(name, text) for name, text in packed.items()]
    return found


def _element(name: str, packed: str) -> str:
    return f'<script type="text/plain" id="{name}">{packed}</script>'


def _provenance(values: Mapping[str, Any]) -> str:
    rows = tuple(_flat(values))
    table = _table(Table("How this report came about", ("entry", "value"), rows))
    return f'<section id="provenance">\n<h2>Provenance</h2>\n{table}\n</section>'


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{name}.")
        else:
            rows.append((name, str(value)))
    return rows


def _text(text: str) -> str:
    """Escape a text; control characters, which HTML forbids, become the replacement sign."""
    return escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "�", text), quote=True)
