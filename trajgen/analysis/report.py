"""Plain sections to one HTML file that opens offline: text, tables, inline SVG, nothing fetched.

All text is escaped here, so that names of files and settings show as they are. Figures are SVG
that ``trajgen.analysis.figures`` drew; nothing else may put markup into a report.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from trajgen.files import write_text

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1rem 1.25rem 3rem; background: #fff;
  color: #1b1b1b; font: 1rem/1.55 system-ui, "Segoe UI", Verdana, Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0 .75rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid #d5d5d5; }
h1, h2, p, figcaption { overflow-wrap: anywhere; }
td, th, caption { overflow-wrap: break-word; }
p { margin: .5rem 0; max-width: 48rem; }
.summary { background: #eef4f9; border-left: 4px solid #0072b2; margin: 1rem 0;
  padding: .6rem 1rem; }
.summary p { margin: .25rem 0; }
nav { margin: 1rem 0; }
nav a { display: inline-block; margin: 0 1rem .3rem 0; color: #00568a; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left;
  vertical-align: top; min-width: 4.5rem; max-width: 24rem; }
th { border-bottom: 2px solid #888; }
figure { margin: 1.25rem 0; }
figcaption { color: #444; font-size: .9rem; max-width: 48rem; }
.panels { display: flex; flex-wrap: wrap; align-items: flex-start; gap: .25rem .75rem;
  overflow-x: auto; }
.panels svg { display: block; height: auto; max-width: none; flex: 0 0 auto; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .wide, .panels { overflow: visible; }
  .panels svg { max-width: 100%; }
  table, figure { break-inside: avoid; }
}
"""


@dataclass(frozen=True)
class Table:
    """A table; cells are text.

    Attributes:
        caption: what it shows, with units.
        header: a text for each column.
        rows: a text for each cell.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        caption: what it shows.
        svg: one or more ``svg`` elements, as ``trajgen.analysis.figures`` draws them.
    """

    caption: str
    svg: str


@dataclass(frozen=True)
class Section:
    """A part of a report under its own heading.

    Attributes:
        title: the heading.
        paragraphs: plain texts.
        tables: shown behind the paragraphs.
        figures: shown behind the tables.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


def render_report(
    title: str,
    summary_lines: Sequence[str],
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
) -> str:
    """Return a whole HTML document.

    Args:
        title: heading of the report.
        summary_lines: what a reader has to know, at the top.
        sections: the parts, in order.
        provenance: versions, seeds, settings and hashes; nested values are shown by dotted key.
    """
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>{_STYLE}</style>",
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
) -> None:
    """Write the document of ``render_report`` to a file, whole or not at all."""
    write_text(path, render_report(title, summary_lines, sections, provenance))


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
        svg = prefix_ids(figure.svg, f"s{number}f{index}-")
        caption = f"<figcaption>{_text(figure.caption)}</figcaption>"
        parts.append(f'<figure>\n<div class="panels">{svg}</div>\n{caption}\n</figure>')
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    header = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.header)
    rows = [
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    ]
    return "\n".join(
        [
            '<div class="wide"><table>',
            f"<caption>{_text(table.caption)}</caption>",
            f"<thead><tr>{header}</tr></thead>",
            "<tbody>",
            *rows,
            "</tbody>",
            "</table></div>",
        ]
    )


def _provenance(values: Mapping[str, Any]) -> str:
    rows = tuple(_flat(values))
    table = _table(Table("How this report came about", ("entry", "value"), rows))
    return f'<section id="provenance">\n<h2>Provenance</h2>\n{table}\n</section>'


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name}.")
        else:
            rows.append((name, str(value)))
    return rows


def _text(text: str) -> str:
    """Escape a text; control characters, which HTML forbids, become the replacement sign."""
    return escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "�", text), quote=True)
