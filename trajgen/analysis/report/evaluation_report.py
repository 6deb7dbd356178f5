"""An evaluation as plain sections."""

from collections.abc import Mapping, Sequence

from trajgen.analysis.contacts import CONTACT_CUTOFF_NM, contact_pairs
from trajgen.analysis.evaluate import Reference
from trajgen.analysis.evaluation import Evaluation, compare
from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.legacy import LegacyNumber
from trajgen.analysis.measures import Coverage, Distance
from trajgen.analysis.report.cells import (
    NAMES,
    floor_text,
    interval_text,
    judgement,
    times_floor,
    times_text,
    value_text,
)
from trajgen.analysis.report.contact_maps import contact_maps
from trajgen.analysis.report.figures import Ensemble, Surface, distributions, free_energy_surfaces
from trajgen.analysis.report.kinetics_report import kinetics_sections
from trajgen.analysis.report.movies import movie_sections
from trajgen.analysis.report.sections import Cell, Figure, Movie, Section, Table
from trajgen.analysis.representation import representation_of
from trajgen.data.mapping import bead_topology


def summary_lines(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """Return what was judged, and one sentence for each set: what the floor explains, the worst."""
    first = next(iter(evaluations.values()))
    what = (
        f"{len(evaluations)} {'set' if len(evaluations) == 1 else 'sets'} of frames, judged by "
        f"{first.reference.used} frames in {first.reference.segments} segments."
    )
    lines = [f"{name}: {_summary(evaluation)}" for name, evaluation in evaluations.items()]
    return [what, *lines]


def evaluation_sections(
    evaluations: Mapping[str, Evaluation],
    samples: Mapping[str, FrameTable],
    reference: Reference,
    movies: Sequence[Movie] = (),
) -> list[Section]:
    """Return the sections of a report on evaluations against one reference.

    Args:
        evaluations: results by name of the set (a model, a round), in the order to show.
        samples: the frames behind them, under the same names.
        reference: the reference.
        movies: structures to show.
    """
    measured = {name: table for name, table in samples.items() if table.n_frames}
    return [
        _distance_section(evaluations),
        _surface_section(measured, reference),
        *movie_sections(movies),
        _distribution_section(measured, reference.table),
        _divergence_section(evaluations, measured, reference.table),
        _share_section(evaluations),
        *kinetics_sections({name: e.kinetics for name, e in evaluations.items()}),
        _coverage_section(evaluations),
        _term_section(evaluations),
        _frame_section(evaluations),
        *_legacy_section(evaluations),
    ]


def _summary(evaluation: Evaluation) -> str:
    measured = [d for d in evaluation.distances if d.pooled.value is not None]
    if not measured:
        return f"nothing could be measured ({evaluation.distances[0].pooled.reason})."
    within = sum(times_floor(d.pooled) <= 1 for d in measured)
    worst = max(measured, key=lambda d: times_floor(d.pooled))
    return (
        f"{within} of {len(measured)} distances are no larger than those between halves of the "
        f"reference itself; farthest from it is {NAMES[worst.name]}, {value_text(worst.pooled)} "
        f"({times_text(times_floor(worst.pooled))} times the largest split-half distance)."
    )


def _distance_section(evaluations: Mapping[str, Evaluation]) -> Section:
    rows = _measure_rows({name: e.distances for name, e in evaluations.items()})
    header = (
        "coordinate",
        "set",
        "distance",
        "judgement",
        "95 % interval",
        "floor: mean (largest)",
    )
    tables = [Table("Wasserstein-1 distance to the reference, mean over terms", header, rows)]
    if len(evaluations) > 1:
        tables.append(_change_table(evaluations))
    return Section(
        "Distances to the reference",
        (
            "Each number is the exact Wasserstein-1 distance, in the unit of the coordinate (on "
            "the circle for torsions; sliced over 64 directions for two TICA coordinates), "
            "averaged over the terms of the molecule. Zero is best.",
            "The interval comes from a bootstrap over whole segments of the set. The floor is the "
            "same distance between random halves of the reference: a distance at or below it "
            "cannot be told from zero with this reference.",
        ),
        tables,
    )


def _measure_rows(
    distances: Mapping[str, Sequence[Distance]],
) -> list[tuple[str | Cell, ...]]:
    """Return a row for each measure and set."""
    return [
        (
            NAMES[distance.name],
            name,
            value_text(distance.pooled),
            judgement(distance.pooled),
            interval_text(distance.pooled),
            floor_text(distance.pooled),
        )
        for names in zip(*distances.values(), strict=True)
        for name, distance in zip(distances, names, strict=True)
    ]


def _change_table(evaluations: Mapping[str, Evaluation]) -> Table:
    (first, before), *others = evaluations.items()
    changes = {name: compare(before, after) for name, after in others}
    rows = [
        (NAMES[distance.name], *(change[distance.name] for change in changes.values()))
        for distance in before.distances
    ]
    caption = (
        f"Change from {first}: better or worse where the intervals do not overlap and one of the "
        "two distances lies above the floor"
    )
    return Table(caption, ("coordinate", *changes), rows)


def _divergence_section(
    evaluations: Mapping[str, Evaluation],
    samples: Mapping[str, FrameTable],
    reference: FrameTable,
) -> Section:
    header = ("measure", "set", "value", "judgement", "95 % interval", "floor: mean (largest)")
    rows = _measure_rows({name: e.divergences for name, e in evaluations.items()})
    return Section(
        "Other measures of the ensemble",
        (
            "Jensen-Shannon distances (0 to 0.833) use the bins of MDGen; energy distances are "
            "exact; the free energy is compared on a grid that the reference alone decides; "
            "contacts are pairs nearer than 0.8 nm. Intervals and floors are those of the "
            "distances above.",
        ),
        (Table("Mean over terms", header, rows),),
        _contact_figures(samples, reference),
    )


def _contact_figures(samples: Mapping[str, FrameTable], reference: FrameTable) -> list[Figure]:
    beads = bead_topology(reference.topology)
    pairs = contact_pairs(beads)
    if not len(pairs):
        return []
    found = {
        name: table.contacts.sum(axis=0) / table.weights.sum()
        for name, table in {"": reference, **samples}.items()
    }
    caption = (
        f"Share of frames in which two residues are nearer than {CONTACT_CUTOFF_NM:g} nm: of the "
        "reference, and of each set less that of the reference."
    )
    return [contact_maps(found.pop(""), found, pairs, beads.n_beads, caption)]


def _share_section(evaluations: Mapping[str, Evaluation]) -> Section:
    rows = [
        (
            share.what,
            name,
            value_text(share.samples),
            interval_text(share.samples),
            value_text(share.reference),
            floor_text(share.reference),
        )
        for found in zip(*(e.shares for e in evaluations.values()), strict=True)
        for name, share in zip(evaluations, found, strict=True)
    ]
    header = ("frames where", "set", "share", "95 % interval", "reference", "its halves differ by")
    return Section(
        "Validity",
        ("Limits of a physical chain or of a protein's atoms; a frame may fail several checks.",),
        (Table("Shares of frames", header, rows),),
    )


def _legacy_section(evaluations: Mapping[str, Evaluation]) -> list[Section]:
    rows = [
        (name, number, _legacy_value(value))
        for name, evaluation in evaluations.items()
        if evaluation.legacy is not None
        for number, value in vars(evaluation.legacy).items()
    ]
    if not rows:
        return []
    text = (
        "The five numbers of a published benchmark as its public code computes them, flaws "
        "included, to be put beside published tables and for nothing else: they see some of the "
        "bonds only, drop what lies outside the range of the reference, and have no noise."
    )
    table = Table("Wasserstein-1 of kernel densities", ("set", "number", "value"), rows)
    return [Section("Legacy numbers", (text,), (table,))]


def _legacy_value(number: LegacyNumber) -> str:
    if number.value is None:
        return f"not measured ({number.reason})"
    return f"{number.value:.4g} {number.unit}"


def _surface_section(samples: Mapping[str, FrameTable], reference: Reference) -> Section:
    title = "Free energy along the slow coordinates"
    model, tics = reference.fit.model, reference.table.tics
    if model is None or tics is None:
        return Section(title, (f"TICA was left out: {reference.fit.reason}.",))
    if tics.shape[1] < 2:
        return Section(title, ("The reference varies along one slow coordinate only.",))
    surfaces = [Surface("reference", tics[:, :2], reference.table.weights)]
    for name, table in samples.items():
        if table.tics is not None:
            surfaces.append(Surface(name, table.tics[:, :2], table.weights))
    slow_features = representation_of(reference.table.topology).slow_features_text
    caption = (
        f"−ln p of the first two TICA coordinates of {slow_features}, fitted on the reference only "
        f"(lag {reference.settings.tica_lag_frames} frames, {reference.fit.n_pairs} pairs, "
        f"autocorrelations {model.eigenvalues[0]:.2f} and {model.eigenvalues[1]:.2f} at the lag), "
        "in kT above the lowest bin of each panel. The grid is that of the reference. Empty bins "
        "are white."
    )
    return Section(title, (), (), (free_energy_surfaces(surfaces, caption),))


def _distribution_section(samples: Mapping[str, FrameTable], reference: FrameTable) -> Section:
    figures = []
    for key, feature in reference.features.items():
        if not feature.labels:
            continue
        ensembles = [Ensemble("reference", feature.values, reference.weights)]
        ensembles += [
            Ensemble(name, table.features[key].values, table.weights)
            for name, table in samples.items()
        ]
        name = NAMES[key]
        caption = f"Distribution of each {name}; the reference is the grey ground."
        figures.append(
            distributions(ensembles, feature.labels, name, feature.unit, caption, feature.period)
        )
    return Section("Distributions", (), (), figures)


def _coverage_section(evaluations: Mapping[str, Evaluation]) -> Section:
    entries = [(name, entry) for name, e in evaluations.items() for entry in e.coverage]
    # The halves of the reference are the same for every set, and are told once.
    rows = list(dict.fromkeys(_coverage_row(name, entry) for name, entry in entries))
    cutoff = next(iter(evaluations.values())).coverage[0].cutoff_nm
    header = (
        "frames of",
        "covered by",
        "mean (nm)",
        "95 % quantile (nm)",
        f"share within {cutoff:g} nm",
        "frames compared",
    )
    return Section(
        "Coverage",
        (
            "For each frame of one set, the RMSD to the nearest frame of the other after "
            "superposition. The reference covered by a set says what the set misses; a set covered "
            "by the reference says where it goes that the reference does not. The halves of the "
            "reference are the floor.",
        ),
        (Table("Nearest RMSD", header, rows),),
    )


def _coverage_row(name: str, entry: Coverage) -> tuple[str, ...]:
    covered, by = (name if side == "samples" else side for side in (entry.covered, entry.by))
    if entry.mean_nm is None or entry.quantile95_nm is None or entry.share_within is None:
        return (covered, by, entry.reason or "", "", "", "")
    return (
        covered,
        by,
        f"{entry.mean_nm:.3f}",
        f"{entry.quantile95_nm:.3f}",
        f"{entry.share_within:.1%}",
        f"{entry.n_covered} against {entry.n_by}",
    )


def _term_section(evaluations: Mapping[str, Evaluation]) -> Section:
    tables = []
    for distances in zip(*(e.distances for e in evaluations.values()), strict=True):
        if len(distances[0].terms) < 2:
            continue
        rows = [
            (
                terms[0].label,
                *(f"{value_text(term)} {interval_text(term)}" for term in terms),
                floor_text(terms[0]),
            )
            for terms in zip(*(distance.terms for distance in distances), strict=True)
        ]
        header = ("term", *evaluations, "floor: mean (largest)")
        tables.append(Table(f"{NAMES[distances[0].name]}, term by term", header, rows))
    return Section("Term by term", (), tables)


def _frame_section(evaluations: Mapping[str, Evaluation]) -> Section:
    first = next(iter(evaluations.values()))
    counts = {"reference": first.reference, **{n: e.samples for n, e in evaluations.items()}}
    rows = [
        (
            name,
            str(count.used),
            str(count.segments),
            "; ".join(f"{number} ({reason})" for reason, number in count.left_out.items()) or "0",
        )
        for name, count in counts.items()
    ]
    table = Table("Frames", ("set", "used", "segments", "left out"), rows)
    notes = [f"{name}: {note}." for name, e in evaluations.items() for note in e.notes]
    return Section("Frames used, and what to know", notes, (table,))
