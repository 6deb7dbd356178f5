"""Measures as the texts of table cells, and the names that readers know them by."""

from trajgen.analysis.measures import Measure
from trajgen.analysis.report.sections import Cell, Level

#: Beyond this many times the largest floor a number is far from what the reference can tell.
FAR = 3.0

#: Names of the measures in tables.
NAMES = {
    "tica_2d": "TICA, first two coordinates",
    "tica_0": "TICA, slowest coordinate",
    "end_to_end": "end-to-end distance",
    "radius_of_gyration": "radius of gyration",
    "rmsd": "RMSD to the structure",
    "bond": "bond length",
    "angle": "bond angle",
    "dihedral": "dihedral",
    "backbone": "backbone torsion",
    "side_chain": "side-chain torsion",
    "omega": "peptide bond torsion",
    "jensen_shannon_backbone": "Jensen-Shannon, backbone torsions",
    "jensen_shannon_side_chain": "Jensen-Shannon, side-chain torsions",
    "jensen_shannon_omega": "Jensen-Shannon, peptide bonds",
    "jensen_shannon_torsions": "Jensen-Shannon, all but peptide bonds",
    "jensen_shannon_dihedral": "Jensen-Shannon, dihedrals",
    "jensen_shannon_tica_0": "Jensen-Shannon, TIC 0",
    "jensen_shannon_tica_2d": "Jensen-Shannon, TIC 0 and 1",
    "energy_tica_0": "energy distance, TIC 0",
    "energy_end_to_end": "energy distance, end-to-end distance",
    "energy_radius_of_gyration": "energy distance, radius of gyration",
    "energy_bond": "energy distance, bond length",
    "energy_angle": "energy distance, bond angle",
    "energy_rmsd": "energy distance, RMSD to the structure",
    "free_energy_tica_2d": "free energy over TIC 0 and 1",
    "contacts": "contact probabilities",
}


def times_floor(measure: Measure) -> float:
    """Return a measure as a multiple of the largest distance between halves of the reference."""
    if measure.value is None:
        return 0.0
    if not measure.floor_max:
        return 0.0 if measure.value == 0 else float("inf")
    return measure.value / measure.floor_max


def value_text(measure: Measure) -> str:
    """Return a number with its unit, or why there is none."""
    if measure.value is None:
        return f"not measured ({measure.reason})"
    unit = "" if measure.unit in ("1", "share") else f" {measure.unit}"
    return _number(measure.value, measure.unit) + unit


def interval_text(measure: Measure) -> str:
    """Return the interval in brackets, nothing where there is none."""
    if measure.low is None or measure.high is None:
        return ""
    return f"[{_number(measure.low, measure.unit)}, {_number(measure.high, measure.unit)}]"


def floor_text(measure: Measure) -> str:
    """Return the mean floor and the largest."""
    if measure.floor_mean is None or measure.floor_max is None:
        return ""
    mean, largest = (_number(x, measure.unit) for x in (measure.floor_mean, measure.floor_max))
    return f"{mean} ({largest})"


def judgement_text(measure: Measure) -> str:
    """Say where a measure lies relative to the floor."""
    if measure.value is None:
        return ""
    times = times_floor(measure)
    return "within the floor" if times <= 1 else f"{times_text(times)} times the largest floor"


def level_of(measure: Measure) -> Level | None:
    """Return the colour of a measure: by the largest distance between halves of the reference."""
    if measure.value is None or measure.floor_max is None:
        return None
    times = times_floor(measure)
    return "within" if times <= 1 else "near" if times <= FAR else "far"


def judgement(measure: Measure) -> Cell:
    """Return where a measure lies relative to the floor, in words and as a colour."""
    return Cell(judgement_text(measure), level_of(measure))


def times_text(times: float) -> str:
    """Return a ratio in two digits, or as a whole number where it is large."""
    return f"{times:.1f}" if times < 10 else f"{times:.0f}"


def _number(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "share" else f"{value:.3g}"
