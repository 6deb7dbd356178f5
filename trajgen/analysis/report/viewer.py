"""The viewer of structures that reports carry: Mol*, from a package that ships it.

Mol*: Sehnal et al., Nucleic Acids Res. 49, W431 (2021). The package ipymolstar holds it as one
module of JavaScript, which is packed into the page as text, so that it works without a network.
"""

import base64
import gzip
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "ipymolstar"


@dataclass(frozen=True)
class PackedViewer:
    """The files of the viewer, as ``packed_text`` packs them.

    Attributes:
        script: a module whose default export has ``render({model, el})``, as anywidget defines it.
        style: its style sheet.
    """

    script: str
    style: str


@cache
def packed_viewer() -> PackedViewer | None:
    """Return the viewer, None where its package is not installed."""
    found = find_spec(_PACKAGE)  # not imported: it would bring the whole of Jupyter's widgets
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "static"
    script, style = (
        (folder / f"molviewspec.{kind}").read_text(encoding="utf-8") for kind in ("js", "css")
    )
    return PackedViewer(packed_text(script), packed_text(style))


def packed_text(text: str) -> str:
    """Return a text as gzip in base64, the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), mtime=0)).decode("ascii")
