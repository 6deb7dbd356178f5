"""Fit a potential: priors by inversion, networks by force matching and by ensemble matching.

The networks learn what the priors leave over of the mapped forces.
The target is the mapped force minus the force of the priors, taken once in float64; the loss is the
mean squared error over all components and frames (Husic et al., J. Chem. Phys. 153, 194101
(2020)). Its minimum over all functions is the mean force, and what is left is the noise of the
force map, so the loss of the priors alone and an estimate of the noise are stored beside it. Where
the frames are an equilibrium sample, the ensemble is matched as well (``ensemble_matching``).
"""

import platform
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from trajgen.checkpoint import drop_training_state, training_folder
from trajgen.data.records import BeadFrames
from trajgen.data.store import Dataset
from trajgen.device import fix_threads
from trajgen.errors import InputError
from trajgen.files import require_output
from trajgen.folder_lock import held_folder
from trajgen.potential.batches import make_pools
from trajgen.potential.committee import Committee
from trajgen.potential.continuation import (
    ContinuationSettings,
    Split,
    Stage,
    Start,
    find_stages,
    read_start,
    split_frames,
)
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.time_step import safe_time_step_ps
from trajgen.potential.energy import evaluation_batch
from trajgen.potential.ensemble_matching import EquilibriumFrames, SimulatedChains
from trajgen.potential.ensemble_settings import EnsembleSettings
from trajgen.potential.fit_report import measure_fit
from trajgen.potential.force_labels import (
    ForceLabels,
    LabelledFrames,
    is_equilibrium,
    make_labels,
    mean_force_error,
    read_labelled_frames,
    read_population_frames,
)
from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.potential.prior_check import PriorCheckSettings, check_priors
from trajgen.potential.prior_fit import fit_priors
from trajgen.potential.priors import PriorSettings
from trajgen.potential.readout_matching import ReadoutMatch, match_readout
from trajgen.potential.schnet import NetworkSettings
from trajgen.potential.training import Training, TrainingSettings
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.settings import Settings


class FitSettings(Settings):
    """All choices of a fit; the defaults are the accuracy recipe.

    Attributes:
        priors: the prior terms.
        prior_check: a short simulation with the priors alone, None for no such check.
        network: sizes of each network.
        committee: networks; their mean is the energy, and from two on they tell disagreement.
        training: the training.
        ensemble: matching of the ensemble beside the forces, None for forces alone. It is left out
            by itself where the frames are no equilibrium sample, as after active learning.
        continuation: how it goes on from a fitted potential.
    """

    priors: PriorSettings = PriorSettings()
    prior_check: PriorCheckSettings | None = PriorCheckSettings()
    network: NetworkSettings = NetworkSettings()
    committee: int = Field(default=1, ge=1)
    training: TrainingSettings = TrainingSettings()
    ensemble: EnsembleSettings | None = EnsembleSettings()
    continuation: ContinuationSettings = ContinuationSettings()


def fit_potential(
    dataset: Dataset,
    out: Path,
    settings: FitSettings,
    seed: int,
    device: torch.device,
    progress: Progress = SILENT,
    start_from: Path | None = None,
) -> Path:
    """Fit priors and networks to a dataset and write the potential to ``out``.

    Where a killed fit of the same data, settings and seed left its training state, it goes on.

    Args:
        dataset: beads with forces.
        out: the checkpoint folder to be made.
        settings: choices.
        seed: base of all random numbers.
        device: where to train; under ``accelerate launch`` each process takes one of its kind.
        progress: told the steps.
        start_from: a potential fitted to some of the dataset's shards, whose weights the training
            begins with; frames of the other shards are new, and ``settings.continuation`` says how
            both are mixed.

    Returns:
        ``out``.

    Raises:
        InputError: no forces, mixed temperatures, cutoffs between which no two beads are, ``out``
            is taken, the training state there is of another fit, or ``start_from`` does not fit the
            dataset and the settings.
        WorkError: the priors alone do not keep chains together, or the loss is not finite.
    """
    require_output(out)
    fix_threads()
    labelled = read_labelled_frames(dataset)
    _require_pairs_in_sight(labelled.frames, settings.network)
    shape = _shape(labelled, settings)
    start = None if start_from is None else read_start(start_from, shape)
    stages = find_stages(dataset, start, seed, settings.training.validation_fraction)
    split = split_frames(dataset, labelled, stages, 0 if start is None else len(start.stages))
    potential, prior_notes = _begin(dataset, shape, settings, start, seed)
    matched_to = _ensemble(dataset, settings)
    dynamics = _dynamics(potential, None if matched_to is None else settings.ensemble)
    simulated = _check(potential, labelled.frames, settings, dynamics, seed, device, progress)
    use_weights, floor = settings.training.use_frame_weights, settings.training.variance_floor
    labels = make_labels(labelled.frames, potential.priors, use_weights, floor)
    before = None if start is None else _losses_by_kind(potential.network, labels, split)
    training = _prepare(potential.network, labels, split, settings, seed, device, out)
    if settings.ensemble is not None and matched_to is not None:
        training.chains = SimulatedChains(
            potential, matched_to, settings.ensemble, seed, training.accelerator.device
        )
    identity = _identity(dataset, settings, seed, start)
    with held_folder(training_folder(out)) if training.writes else nullcontext():
        training.run(out, identity, progress)
        matched = _match_readout(potential, training, settings, progress)
        if training.writes:
            if matched is None:
                potential.network.load_state_dict(training.state.best)
            after = None if start is None else _losses_by_kind(potential.network, labels, split)
            said = {
                "dataset": str(dataset.path),
                **identity,
                **_frames_of(labelled, stages, split, matched_to),
                "continued": _continued(start, settings.continuation, before, after),
                "prior_simulation": simulated,
                "prior_notes": list(prior_notes),
                "readout": None if matched is None else matched.to_dict(),
                **measure_fit(potential, labels, split.validation, labelled.frames, seed),
                **training.summary(),
            }
            potential.save(out, {**said, "versions": _versions()})
            drop_training_state(out)
    training.end()
    return out


def _require_pairs_in_sight(frames: BeadFrames, network: NetworkSettings) -> None:
    """Raise InputError where no two beads of any frame are at a distance that the network sees."""
    nearest_nm, farthest_nm = np.inf, 0.0
    i, j = np.triu_indices(frames.topology.n_beads, 1)
    positions_nm = torch.from_numpy(frames.positions_nm)
    # Mostly the first part has such a pair, and the others are not looked at.
    for part in positions_nm.split(evaluation_batch(frames.topology.n_beads)):
        apart_nm = torch.cdist(part, part)[:, i, j]
        if ((apart_nm > network.cutoff_lower_nm) & (apart_nm < network.cutoff_nm)).any():
            return
        if apart_nm.numel():
            nearest_nm = min(nearest_nm, float(apart_nm.min()))
            farthest_nm = max(farthest_nm, float(apart_nm.max()))
    if nearest_nm <= farthest_nm:
        raise InputError(
            f"network.cutoff_lower_nm is {network.cutoff_lower_nm:g} and network.cutoff_nm "
            f"{network.cutoff_nm:g}, but beads of the dataset are {nearest_nm:.2f} to "
            f"{farthest_nm:.2f} nm apart, so that the network would see none of them; leave both "
            "out for 0 and 1.5 nm"
        )


def _shape(labelled: LabelledFrames, settings: FitSettings) -> PotentialSettings:
    return PotentialSettings(
        temperature_K=labelled.temperature_K,
        priors=settings.priors,
        network=settings.network,
        committee=settings.committee,
        topology=labelled.frames.topology.to_dict(),
    )


def _identity(
    dataset: Dataset, settings: FitSettings, seed: int, start: Start | None
) -> dict[str, Any]:
    """Return what must be the same for a killed fit to go on."""
    return {
        "dataset_digest": dataset.digest(),
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "start_sha256": None if start is None else start.sha256,
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__}


def _frames_of(
    labelled: LabelledFrames,
    stages: tuple[Stage, ...],
    split: Split,
    matched_to: EquilibriumFrames | None,
) -> dict[str, Any]:
    """Return what the card says of the frames."""
    return {
        "ensemble_matched": matched_to is not None,
        "ensemble_frames": 0 if matched_to is None else len(matched_to.cumulative),
        "trained_on": [stage.to_dict() for stage in stages],
        "n_frames": {"train": len(split.train), "validation": len(split.validation)},
        "temperature_K": labelled.temperature_K,
    }


def _begin(
    dataset: Dataset,
    shape: PotentialSettings,
    settings: FitSettings,
    start: Start | None,
    seed: int,
) -> tuple[Potential, tuple[str, ...]]:
    """Return the potential before training, its priors fitted, and the notes on its priors."""
    if start is not None and settings.continuation.priors == "keep":
        return start.potential, start.prior_notes
    fresh = Potential(shape, derive_seed(seed, "fit-weights"))
    potential = fresh if start is None else start.potential
    fitted = fit_priors(read_population_frames(dataset), shape.temperature_K, settings.priors)
    potential.priors = fitted.priors
    return potential, fitted.notes


def _check(
    potential: Potential,
    frames: BeadFrames,
    settings: FitSettings,
    dynamics: SimulationSettings,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, Any] | None:
    if settings.prior_check is None:
        return None
    default_step_ps = None
    if settings.ensemble is not None and settings.ensemble.time_step_ps is not None:
        by_default = settings.ensemble.model_copy(update={"time_step_ps": None})
        default_step_ps = by_default.chosen_time_step_ps(potential)
    return check_priors(
        potential, frames, settings.prior_check, dynamics, seed, device, progress, default_step_ps
    )


def _ensemble(dataset: Dataset, settings: FitSettings) -> EquilibriumFrames | None:
    """Return the frames that the ensemble is matched to, None where it is not.

    They are all that stand for it, those without forces and those held out from force matching too.
    """
    if settings.ensemble is None or not is_equilibrium(dataset):
        return None
    known = read_population_frames(dataset)
    return EquilibriumFrames.of(known.positions_nm, known.weights)


def _dynamics(potential: Potential, ensemble: EnsembleSettings | None) -> SimulationSettings:
    """Return the dynamics of the longest time step that the potential is going to be run with."""
    usual = SimulationSettings()
    mass_amu = usual.mass_amu if ensemble is None else ensemble.mass_amu
    # Where bonds are nearly rigid nobody may take the usual step: a warning says so before.
    step_ps = min(usual.time_step_ps, safe_time_step_ps(potential, mass_amu))
    if ensemble is not None:
        step_ps = max(step_ps, ensemble.chosen_time_step_ps(potential))
    return SimulationSettings(time_step_ps=step_ps, mass_amu=mass_amu)


def _prepare(
    committee: Committee,
    labels: ForceLabels,
    split: Split,
    settings: FitSettings,
    seed: int,
    device: torch.device,
    out: Path,
) -> Training:
    places = np.arange(len(split.train))
    old, new = np.split(places, [len(split.train_old)])
    pools = make_pools(old, new, settings.training.batch, settings.continuation.new_share)
    train, validation = labels.take(split.train), labels.take(split.validation)
    return Training(committee, train, validation, pools, settings.training, seed, device, out)


def _match_readout(
    potential: Potential, training: Training, settings: FitSettings, progress: Progress
) -> ReadoutMatch | None:
    """Give the potential the averaged weights, its readout matched; None without such a match."""
    if training.chains is None or settings.ensemble is None or settings.ensemble.readout is None:
        return None
    potential.network.load_state_dict(training.state.average.state_dict())
    return match_readout(
        potential.network,
        training.chains,
        training.advance_chains,
        settings.ensemble.readout,
        training.state.step,
        progress if training.writes else SILENT,
    )


def _losses_by_kind(
    committee: Committee, labels: ForceLabels, split: Split
) -> dict[str, float | None]:
    """Return the losses of held-out frames that were there before, and of new ones."""
    device = next(committee.parameters()).device
    kinds = {"old": split.validation_old, "new": split.validation_new}
    return {
        kind: mean_force_error(committee, labels.take(held_out).to(device))
        if len(held_out)
        else None
        for kind, held_out in kinds.items()
    }


def _continued(
    start: Start | None,
    settings: ContinuationSettings,
    before: dict[str, float | None] | None,
    after: dict[str, float | None] | None,
) -> dict[str, Any] | None:
    """Return what the card says of the start, and of what was forgotten since."""
    if start is None or before is None or after is None:
        return None
    return {
        "from": str(start.path),
        "new_share": settings.new_share,
        "priors": settings.priors,
        "loss": {kind: {"before": before[kind], "after": after[kind]} for kind in before},
    }
