"""Discrete states of a reference in its slow coordinates: k-means microstates, PCCA+ macrostates.

The recipe of the public peptide benchmark (Jing, Stärk, Jaakkola, Berger 2024, MDGen): k-means
with 100 centres, a Markov model of them, and PCCA+ (Röblitz, Weber 2013, Adv. Data Anal.
Classif. 7:147) to 10 macrostates. A microstate that is not connected with the others is left
out with its frames counted; the molecule is kept.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from deeptime.clustering import ClusterModel, KMeans
from deeptime.markov import pcca
from jaxtyping import Float, Int
from pydantic import Field

from trajgen.analysis.frame_table import KEPT_TICS
from trajgen.analysis.kinetics.markov import MarkovModel, block_counts, fit_markov
from trajgen.errors import InputError
from trajgen.seeding import derive_seed, seed_31
from trajgen.settings import Settings

#: Frames that k-means is fitted on, drawn evenly over the reference.
FITTED_FRAMES = 50_000

#: Fewest frames for each microstate; a state seen once or twice has no rates.
FRAMES_PER_MICROSTATE = 10

#: Iterations of k-means.
KMEANS_ITERATIONS = 100

#: Frames that are assigned at once; bounds the memory, changes no value.
CHUNK = 100_000


class StateSettings(Settings):
    """How the states of a reference are found.

    Attributes:
        microstates: k-means centres.
        macrostates: sets of microstates that PCCA+ makes.
        tics: leading slow coordinates that are clustered; a set's table keeps four, so that it
            fits in memory, and there are no more to choose from.
    """

    microstates: int = Field(default=100, ge=1)
    macrostates: int = Field(default=10, ge=1)
    tics: int = Field(default=4, ge=1, le=KEPT_TICS)


@dataclass(frozen=True)
class StateModel:
    """Microstates by nearest centre, and the macrostate of each.

    Attributes:
        centres: centre of each microstate in the leading slow coordinates.
        macrostate_of: macrostate of each microstate, −1 for none; macrostates are numbered along
            the slowest coordinate.
        n_macrostates: number of macrostates.
    """

    centres: Float[np.ndarray, "microstates dims"]
    macrostate_of: Int[np.ndarray, " microstates"]
    n_macrostates: int

    def assign(self, tics: Float[np.ndarray, "frames tics"]) -> Int[np.ndarray, " frames"]:
        """Return the microstate of each frame: that of the nearest centre.

        Raises:
            InputError: the frames have fewer coordinates than the centres.
        """
        n_dims = self.centres.shape[1]
        if tics.shape[1] < n_dims:
            raise InputError(
                f"tics has {tics.shape[1]} coordinates and the states were fitted on {n_dims}; "
                "give the coordinates of the same TICA model"
            )
        nearest = ClusterModel(self.centres)
        microstates = np.empty(len(tics), dtype=np.int64)
        for start in range(0, len(tics), CHUNK):
            part = np.ascontiguousarray(tics[start : start + CHUNK, :n_dims], dtype=np.float64)
            microstates[start : start + CHUNK] = nearest.transform(part, n_jobs=1)
        return microstates

    def macrostates(self, microstates: Int[np.ndarray, " frames"]) -> Int[np.ndarray, " frames"]:
        """Return the macrostate of each frame from its microstate, −1 for none."""
        return self.macrostate_of[microstates]


@dataclass(frozen=True)
class StatesFit:
    """What a fit came to; without a model there is a reason.

    Attributes:
        model: the fitted states, None where the data did not carry them.
        reason: why there is no model, None where there is one.
        left_out: frames of the reference in no macrostate, by reason.
        notes: where the states are fewer than asked for, or k-means did not settle.
    """

    model: StateModel | None
    reason: str | None
    left_out: Mapping[str, int]
    notes: tuple[str, ...]


def fit_states(
    tics: Float[np.ndarray, "frames tics"],
    segments: Int[np.ndarray, " frames"],
    weights: Float[np.ndarray, " frames"] | None,
    lag_frames: int,
    settings: StateSettings,
    seed: int,
) -> StatesFit:
    """Find the states of a reference.

    Args:
        tics: slow coordinates of each frame, slowest first.
        segments: segment of each frame.
        weights: statistical weight of each frame, None for equal weights; it counts in the
            transitions, not in the places of the centres.
        lag_frames: lag of the Markov model of the microstates, in frames.
        settings: how many states of how many coordinates.
        seed: base of the draw of the first centres.
    """
    tics = tics[:, : settings.tics]
    if tics.size == 0:
        return StatesFit(None, "there is no frame with a slow coordinate", {}, ())
    centres, notes = _cluster(tics, settings.microstates, seed)
    microstates = StateModel(centres, np.zeros(len(centres), dtype=np.int64), 1).assign(tics)
    one_block = np.zeros(len(tics), dtype=np.int64)
    counts = block_counts(microstates, segments, one_block, len(centres), lag_frames, weights)
    fit = fit_markov(counts[0], lag_ps=None)
    if fit.model is None:
        reason = (
            f"the microstates carry no Markov model at a lag of {lag_frames} frames: {fit.reason}"
        )
        return StatesFit(None, reason, {}, tuple(notes))
    try:
        macrostate_of, n_macrostates = _lump(fit.model, centres, settings.macrostates)
    except (ValueError, RuntimeError) as error:
        return StatesFit(None, f"PCCA+ gave no macrostates ({error})", {}, tuple(notes))
    if n_macrostates < settings.macrostates:
        notes.append(
            f"the {len(fit.model.active)} connected microstates carry {n_macrostates} macrostates "
            f"of the {settings.macrostates} that were asked for"
        )
    outside = int((macrostate_of[microstates] < 0).sum())
    left_out = {"in a microstate that is not connected with the others": outside}
    return StatesFit(
        StateModel(centres, macrostate_of, n_macrostates),
        None,
        left_out if outside else {},
        tuple(notes),
    )


def _cluster(
    tics: Float[np.ndarray, "frames dims"], microstates: int, seed: int
) -> tuple[Float[np.ndarray, "microstates dims"], list[str]]:
    """Return the k-means centres of frames drawn evenly, and what there is to say of them."""
    drawn = np.linspace(0, len(tics) - 1, min(FITTED_FRAMES, len(tics))).astype(np.int64)
    points = np.ascontiguousarray(tics[drawn], dtype=np.float64)
    distinct = np.unique(points, axis=0)
    carried = min(microstates, len(distinct), max(len(points) // FRAMES_PER_MICROSTATE, 1))
    notes = []
    if carried < microstates:
        notes.append(
            f"{len(points)} frames of the reference ({len(distinct)} different ones) carry "
            f"{carried} microstates of the {microstates} that were asked for"
        )
    if carried == len(distinct):
        return distinct, notes
    estimator = KMeans(
        carried,
        max_iter=KMEANS_ITERATIONS,
        fixed_seed=seed_31(derive_seed(seed, "microstates")),
        n_jobs=1,
    )
    with warnings.catch_warnings():
        # The library warns where the centres still move; the note below says it instead.
        warnings.simplefilter("ignore", UserWarning)
        fitted = estimator.fit(points).fetch_model()
    if not fitted.converged:
        notes.append(f"the centres of k-means still moved after {KMEANS_ITERATIONS} iterations")
    return np.asarray(fitted.cluster_centers, dtype=np.float64), notes


def _lump(
    model: MarkovModel, centres: Float[np.ndarray, "microstates dims"], macrostates: int
) -> tuple[Int[np.ndarray, " microstates"], int]:
    """Return the macrostate of each microstate, and how many macrostates have a microstate."""
    wanted = min(macrostates, len(model.active))
    if wanted == len(model.active):
        sets = np.arange(wanted)
    elif wanted == 1:
        sets = np.zeros(len(model.active), dtype=np.int64)
    else:
        # The library normalises the distribution in place.
        sets = pcca(model.transitions, wanted, model.stationary.copy()).assignments
    used, sets = np.unique(sets, return_inverse=True)
    mass = np.bincount(sets, model.stationary)
    place = np.bincount(sets, model.stationary * centres[model.active, 0]) / mass
    rank = np.argsort(np.argsort(place))
    macrostate_of = np.full(len(centres), -1, dtype=np.int64)
    macrostate_of[model.active] = rank[sets]
    return macrostate_of, len(used)
