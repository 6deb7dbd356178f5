"""Kinetics as a plain section of a report."""

from collections.abc import Mapping

from trajgen.analysis.kinetics.records import Kinetics, SetKinetics
from trajgen.analysis.measures import Measure
from trajgen.analysis.report.cells import floor_text, interval_text, value_text
from trajgen.analysis.report.kinetics_figures import (
    autocorrelation_figure,
    population_figure,
    time_scale_figure,
)
from trajgen.analysis.report.sections import Figure, Section, Table

_NAMES = {
    "population_jsd": "populations of states, Jensen-Shannon",
    "population_error": "populations of states, mean |Δ ln p|",
    "transition_rank_correlation": "transition probabilities, Spearman",
    "flux_rank_correlation": "fluxes, Spearman",
    "passage_error": "first passage times, root mean square of Δ ln",
    "time_scale_error": "slowest implied time scale, |Δ ln|",
    "decorrelation_error_tic_0": "decorrelation of TIC 0, |Δ ln|",
    "decorrelation_error_tic_1": "decorrelation of TIC 1, |Δ ln|",
    "vamp2_error": "VAMP-2 score, |Δ|",
}


def kinetics_sections(kinetics: Mapping[str, Kinetics | None]) -> list[Section]:
    """Return the section on kinetics; none where no set was asked for its kinetics."""
    found = {name: entry for name, entry in kinetics.items() if entry is not None}
    if not found:
        return []
    title = "Kinetics"
    reasons = [f"{name}: {entry.reason}." for name, entry in found.items() if entry.reason]
    measured = {name: entry for name, entry in found.items() if entry.reason is None}
    if not measured:
        return [Section(title, ("Kinetics were left out.", *reasons))]
    first = next(iter(measured.values()))
    paragraphs = [
        f"Markov models at a lag of {first.lag_ps:g} ps on {first.n_microstates} states of the "
        f"reference, lumped to {first.n_macrostates}; autocorrelations and VAMP-2 scores of its "
        "slow coordinates. The control is the set with the frames of each segment shuffled: its "
        "ensemble is the same, so a kinetic measure that it passes as well says nothing.",
        "The time of a coarse-grained potential is not that of the molecule; its time scales are "
        "shorter, and only their ratios can be right.",
        *reasons,
        *dict.fromkeys(
            f"{note[0].upper()}{note[1:]}." for entry in measured.values() for note in entry.notes
        ),
    ]
    sets = {"reference": first.reference, **{name: e.samples for name, e in measured.items()}}
    return [Section(title, paragraphs, _tables(measured, sets), _figures(sets))]


def _tables(measured: Mapping[str, Kinetics], sets: Mapping[str, SetKinetics]) -> list[Table]:
    header = ("measure", "set", "value", "95 % interval", "floor: mean (largest)", "shuffled")
    rows = [
        (
            _NAMES[key],
            name,
            value_text(entry.comparison[key]),
            interval_text(entry.comparison[key]),
            floor_text(entry.comparison[key]),
            value_text(entry.control[key]),
        )
        for key in _NAMES
        for name, entry in measured.items()
        if key in entry.comparison
    ]
    own = [
        (label, name, value_text(measure), interval_text(measure))
        for name, kinetics in sets.items()
        for label, measure in _own(kinetics)
    ]
    return [
        Table("Kinetics against the reference", header, rows),
        Table("Times and scores of each set", ("number", "set", "value", "95 % interval"), own),
    ]


def _own(kinetics: SetKinetics) -> list[tuple[str, Measure]]:
    slowest = [lag.time_scales[0] for lag in kinetics.time_scales[:1] if lag.time_scales]
    return [
        *((f"implied time scale, {measure.label}", measure) for measure in slowest),
        *((f"decorrelation time, {m.label}", m) for m in kinetics.decorrelation_times),
        *((f"integrated time, {m.label}", m) for m in kinetics.integrated_times),
        ("VAMP-2 score", kinetics.vamp2),
    ]


def _figures(sets: Mapping[str, SetKinetics]) -> list[Figure]:
    reference = next(iter(sets.values()))
    figures = []
    processes = max((len(lag.time_scales) for lag in reference.time_scales), default=0)
    if processes:
        figures.append(time_scale_figure(sets, processes))
    if reference.autocorrelations:
        figures.append(autocorrelation_figure(sets))
    if reference.populations:
        figures.append(population_figure(sets))
    return figures
