"""What the rollouts of a run look like beside the reference: surfaces, distributions, contacts."""

import numpy as np
from jaxtyping import Float

from al.parts.evaluator import MODELS
from al.run_content import RunContent
from trajgen.analysis.contacts import CONTACT_CUTOFF_NM, contact_indicators, contact_pairs
from trajgen.analysis.evaluate import EvaluationSettings
from trajgen.analysis.features import (
    Feature,
    bend_angles,
    bond_lengths,
    dihedral_angles,
    end_to_end_distances,
)
from trajgen.analysis.frame_table import fit_reference_tica, slow_coordinates
from trajgen.analysis.report.contact_maps import contact_maps
from trajgen.analysis.report.figures import Ensemble, Surface, distributions, free_energy_surfaces
from trajgen.analysis.report.sections import Section
from trajgen.analysis.representation import representation_of
from trajgen.analysis.tica import TicaModel
from trajgen.data.frame_files import load_rollouts
from trajgen.data.records import BeadFrames
from trajgen.settings import parse_settings


def surfaces_section(content: RunContent) -> Section:
    """Return free-energy surfaces of every round, with chosen frames and generated paths."""
    settings = parse_settings(EvaluationSettings, content.settings["evaluation"], "evaluation")
    fit = fit_reference_tica(content.reference, settings.tica_lag_frames)
    if fit.model is None or fit.model.projection.shape[1] < 2:
        reason = fit.reason or "the reference varies along one slow coordinate only"
        return Section("Free-energy surfaces", [f"There are none: {reason}."])
    model = fit.model
    reference = Surface("reference", _tics(model, content.reference), content.reference.weights)
    figures = []
    for name in MODELS:
        panels = [reference]
        for round in content.rounds:
            marks, paths = {}, []
            chosen = content.chosen(round + 1)
            if chosen is not None:
                marks["chosen next"] = _tics(model, chosen)
            between = content.folder(round, "explore") / "interpolation.safetensors"
            if name == "surrogate" and between.is_file():
                whole = load_rollouts(between).to_frames()
                for path in np.unique(whole.segments)[:4]:
                    paths.append(_tics(model, whole.take(whole.segments == path)))
            tics = _tics(model, content.settled(round, name))
            panels.append(Surface(f"{name}, round {round}", tics, None, marks, paths))
        caption = (
            f"Free energy (kT) of the {name} in the first two TICA coordinates of the reference; "
            "dots are the frames chosen for the oracle in the next round"
        )
        caption += (
            ", lines are generated paths between two known frames." if name == MODELS[1] else "."
        )
        figures.append(free_energy_surfaces(panels, caption))
    return Section(
        "Free-energy surfaces",
        [
            f"TICA on {representation_of(content.reference.topology).slow_features_text} of the "
            f"reference, lag {settings.tica_lag_frames} frames."
        ],
        figures=figures,
    )


def distributions_section(content: RunContent) -> Section:
    """Return distributions of the first and the last round, term by term."""
    sets: dict[str, BeadFrames] = {"reference": content.reference}
    for round in sorted({content.rounds[0], content.rounds[-1]}):
        for model in MODELS:
            sets[f"{model}, round {round}"] = content.settled(round, model)
    computes = {
        "end-to-end distance": end_to_end_distances,
        "bond length": bond_lengths,
        "angle": bend_angles,
        "dihedral": dihedral_angles,
    }
    figures = []
    for quantity, compute in computes.items():
        features: dict[str, Feature] = {name: compute(frames) for name, frames in sets.items()}
        first = features["reference"]
        if not first.labels:
            continue
        lines = [
            Ensemble(name, feature.values, sets[name].weights) for name, feature in features.items()
        ]
        caption = f"Distribution of each {quantity}, reference against both models."
        figures.append(
            distributions(lines, first.labels, quantity, first.unit, caption, first.period)
        )
    return Section("Distributions", figures=figures)


def _tics(model: TicaModel, frames: BeadFrames) -> np.ndarray:
    return slow_coordinates(model, frames)[:, :2]


def contacts_section(content: RunContent) -> list[Section]:
    """Return contact maps of the reference and of the models of the last round."""
    topology, last = content.reference.topology, content.rounds[-1]
    pairs = contact_pairs(topology)
    if not len(pairs):
        return []
    sets = {f"{model}, round {last}": content.settled(last, model) for model in MODELS}
    found = {name: _contacts(frames) for name, frames in sets.items() if frames.n_frames}
    caption = (
        f"Share of frames in which two residues are nearer than {CONTACT_CUTOFF_NM:g} nm: of the "
        "reference, and of each model less that of the reference."
    )
    figure = contact_maps(_contacts(content.reference), found, pairs, topology.n_beads, caption)
    return [Section("Contacts", figures=[figure])]


def _contacts(frames: BeadFrames) -> Float[np.ndarray, " pairs"]:
    return np.average(contact_indicators(frames).values, axis=0, weights=frames.weights)
