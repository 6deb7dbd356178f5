"""An evaluation as a folder with ``metrics.json`` and ``report.html``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from trajgen.analysis.evaluate import (
    EvaluationSettings,
    judge,
    read_reference,
    read_samples,
)
from trajgen.analysis.evaluation import SCHEMA_VERSION, Evaluation
from trajgen.analysis.legacy import legacy_numbers
from trajgen.analysis.report.evaluation_report import evaluation_sections, summary_lines
from trajgen.analysis.report.movies import movie, trajectory_movie
from trajgen.analysis.report.page import write_report
from trajgen.analysis.report.sections import Movie
from trajgen.data.mapping import bead_topology
from trajgen.data.sources import FrameSource, read_all
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.files import whole_folder, write_json
from trajgen.progress import SILENT, Progress

#: Sets whose structures are shown at most.
MOST_SETS = 8


def evaluate_to_folder(
    samples: Mapping[str, FrameSource],
    reference: FrameSource,
    out: Path,
    settings: EvaluationSettings,
    seed: int,
    provenance: Mapping[str, Any],
    progress: Progress = SILENT,
    left_out: Mapping[str, Mapping[str, int]] | None = None,
    structure_nm: Float[np.ndarray, "beads 3"] | None = None,
) -> Path:
    """Evaluate named sets of samples and write ``metrics.json`` and ``report.html``.

    Args:
        samples: sets of frames by name, such as the name of their file; none of them is called
            ``reference``, the name of the reference in the report.
        reference: frames to judge by.
        out: folder that appears when everything is written.
        settings: what to compute.
        seed: base of every draw.
        provenance: versions, files and hashes that the report is to show.
        progress: told of each set.
        left_out: frames that the caller left out of each set already, by reason.
        structure_nm: a structure that the RMSD of all frames is measured to, None for none.

    Returns:
        The folder.

    Raises:
        InputError: ``out`` exists, no samples were given, a set is of another molecule or called
            ``reference``, or legacy numbers were asked for of atoms.
    """
    if not samples:
        raise InputError("there are no samples to evaluate; name at least one trajectory")
    if "reference" in samples:
        raise InputError(
            "samples has a set called 'reference', as the report calls the reference itself; give "
            "the set another name"
        )
    if settings.legacy is not None and not isinstance(reference.topology, BeadTopology):
        raise InputError(
            "legacy numbers are of C-alpha beads; leave out legacy, or evaluate beads "
            "(--resolution ca)"
        )
    evaluations, tables = {}, {}
    with whole_folder(out) as folder:
        with progress.task("evaluate", len(samples) + 1) as task:
            known = read_reference(reference, settings, seed, structure_nm)
            task.advance(status="reference")
            for name, frames in samples.items():
                tables[name] = read_samples(frames, known)
                evaluation = judge(tables[name], known, (left_out or {}).get(name))
                if settings.legacy is not None:
                    numbers = legacy_numbers(read_all(frames), read_all(reference), settings.legacy)
                    evaluation = replace(evaluation, legacy=numbers)
                evaluations[name] = evaluation
                task.advance(status=name)
        metrics = metrics_json(evaluations, provenance)
        write_json(folder / "metrics.json", metrics)
        write_report(
            folder / "report.html",
            "Evaluation against a reference",
            summary_lines(evaluations),
            evaluation_sections(
                evaluations, tables, known, _movies(samples, reference, structure_nm)
            ),
            {"seed": seed, "settings": settings.model_dump(mode="json"), **provenance},
            metrics,
        )
    return out


def _movies(
    samples: Mapping[str, FrameSource],
    reference: FrameSource,
    structure_nm: Float[np.ndarray, "beads 3"] | None,
) -> list[Movie]:
    """Return the first trajectory of the first sets, and the structure that was given."""
    shown = dict(list(samples.items())[:MOST_SETS])
    shares = len(shown) + 2
    found = [
        trajectory_movie("reference", "The first trajectory of the reference.", reference, shares),
        *(
            trajectory_movie(name, "The first trajectory of this set.", frames, shares)
            for name, frames in shown.items()
        ),
    ]
    if structure_nm is not None:
        beads = bead_topology(reference.topology)
        found.append(movie("structure", "The structure that was given.", beads, structure_nm[None]))
    return [each for each in found if each is not None]


def metrics_json(
    evaluations: Mapping[str, Evaluation], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of ``metrics.json``: an evaluation for each set, by name."""
    return {
        "schema_version": SCHEMA_VERSION,
        "samples": {name: evaluation.to_json() for name, evaluation in evaluations.items()},
        "provenance": dict(provenance),
    }
