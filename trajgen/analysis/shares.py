"""Shares of frames that fail a check, or that are at a structure or at its mirror image."""

import numpy as np
from jaxtyping import Bool, Float

from trajgen.analysis.ensemble import Comparison
from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.measures import Measure, Share, measures_of_rows
from trajgen.analysis.nativeness import NativeDistances, at_mirror, at_native
from trajgen.analysis.resampling import Weightings

_CHECKS = {
    "bond": "a bond is too short or too long",
    "clash": "two beads or atoms are too near each other",
    "explosion": "the chain has come apart",
    "chirality": "an alpha carbon is not L",
    "peptide plane": "a peptide bond is not planar",
    "cis peptide": "a peptide bond is cis, not before proline",
    "ramachandran": "phi and psi are outliers",
}


def shares(pair: Comparison, native_cutoff_nm: float) -> tuple[Share, ...]:
    """Return the shares of invalid frames and, where a structure was given, of native ones.

    Args:
        pair: the two sets.
        native_cutoff_nm: RMSD within which a frame is at the structure or at its mirror image.
    """
    found = [
        _share(pair, name, _CHECKS[name], pair.samples.failures[name], failed)
        for name, failed in pair.reference.failures.items()
    ]
    if "rmsd" in pair.reference.features:
        mine, theirs = _native(pair.samples), _native(pair.reference)
        for name, picks in (("native", at_native), ("mirror", at_mirror)):
            what = f"within {native_cutoff_nm:g} nm of the " + (
                "structure, and nearer to it than to its mirror image"
                if name == "native"
                else "mirror image of the structure, and nearer to it"
            )
            flags = picks(mine, native_cutoff_nm), picks(theirs, native_cutoff_nm)
            found.append(_share(pair, name, what, *flags))
    return tuple(found)


def _share(
    pair: Comparison,
    name: str,
    what: str,
    mine: Bool[np.ndarray, " samples"],
    theirs: Bool[np.ndarray, " references"],
) -> Share:
    one, other = _sides(pair.halves, theirs)
    floor = np.abs(one - other)
    rows, known = None, float(np.average(theirs, weights=pair.reference.weights))
    if pair.against is not None:
        rows = _sides(pair.against, np.concatenate([mine, theirs]))[0]
    column = None if rows is None else rows[:, None]
    (samples,) = measures_of_rows(("samples",), "share", column, floor[:, None], largest=1.0)
    reference = Measure(
        "reference", "share", known, floor_mean=float(floor.mean()), floor_max=float(floor.max())
    )
    return Share(name, what, samples, reference)


def _sides(
    weightings: Weightings, flags: Bool[np.ndarray, " frames"]
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    one, other = weightings.histograms(np.where(flags, 0, -1), 1)
    return one[:, 0], other[:, 0]


def _native(table: FrameTable) -> NativeDistances:
    values = table.features["rmsd"].values
    return NativeDistances(values[:, 0], values[:, 1])
