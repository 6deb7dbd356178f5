"""What a report is made of: plain texts, tables, figures and structures, without markup."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: How a number compares with what the reference can tell: a colour behind it, beside its words.
Level = Literal["within", "near", "far"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is coloured.

    Attributes:
        text: its text, which says all that the colour does.
        level: its colour, None for none.
    """

    text: str
    level: Level | None


@dataclass(frozen=True)
class Table:
    """A table; readers can save it as CSV.

    Attributes:
        caption: what it shows, with units.
        header: a text for each column.
        rows: a text or a coloured cell for each place.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]


@dataclass(frozen=True)
class Figure:
    """A picture; readers can save it as SVG.

    Attributes:
        caption: what it shows.
        svg: one or more ``svg`` elements, as ``trajgen.analysis.report.figures`` draws them.
    """

    caption: str
    svg: str


@dataclass(frozen=True)
class Movie:
    """Structures to turn and to play, as ``trajgen.analysis.report.movies`` makes them.

    Attributes:
        name: such as ``surrogate, round 2``.
        caption: what it shows.
        pdb: a text in the PDB format with a model for each frame.
        frames: the number of frames.
        atoms: whether they are of atoms, and not of beads.
    """

    name: str
    caption: str
    pdb: str
    frames: int
    atoms: bool


@dataclass(frozen=True)
class Section:
    """A part of a report under its own heading.

    Attributes:
        title: the heading.
        paragraphs: plain texts.
        tables: shown behind the paragraphs.
        figures: shown behind the tables.
        movies: shown one at a time in a viewer behind the figures.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    movies: Sequence[Movie] = ()
