"""Boltzmann inversion of the prior terms by maximum likelihood, never a histogram.

Each term is taken alone: the density of its variable x under the prior is
p(x) ∝ J(x) exp(-E(x)/kT), with the Jacobian J of the variable: r² for a distance, sin θ for an
angle (which makes cos θ flat), 1 for a dihedral angle. All four energies are linear in their
parameters, E/kT = -Σ λₐ fₐ(x), so the densities are exponential families: the likelihood is
concave, and at its maximum the mean of every fₐ under the density is that of the data (Jaynes,
Phys. Rev. 106, 620 (1957); Wainwright and Jordan, Found. Trends Mach. Learn. 1, 1 (2008), section
3.6; as coarse-graining it is the relative entropy of Shell, J. Chem. Phys. 129, 144108 (2008)).
Only (weighted) means of the data enter, so there is no bin width, and a few hundred frames do.

Bonds, angles and dihedrals have parameters of their own for each term, since every frame holds
every term of a molecule once; the repulsion is fitted over all pairs together, since single pairs
rarely touch. A term without enough data, or whose fit gives no minimum, takes its default and says
so in a note and in the log.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import logsumexp, softmax
from torch import Tensor

from trajgen.data.records import BeadFrames
from trajgen.geometry.internal import angles, dihedrals, distances
from trajgen.potential.priors import (
    N_DIHEDRAL_ORDERS,
    AnglePrior,
    BondPrior,
    DihedralPrior,
    Priors,
    PriorSettings,
    RepulsionPrior,
)
from trajgen.units import thermal_energy

logger = logging.getLogger(__name__)

#: Defaults, of C-alpha chains of proteins. Bonds: trans peptide, and 83 kcal/mol/Å² without the
#: factor ½, the middle of published C-alpha priors (Majewski et al., Nat. Commun. 14, 5739 (2023)).
DEFAULT_BOND_NM = 0.381
DEFAULT_BOND_STIFFNESS = 69_500.0
#: Angles: between helix (90 degrees) and strand (130 degrees), about as wide as both together.
DEFAULT_ANGLE_COSINE = -0.34
DEFAULT_ANGLE_STIFFNESS = 40.0
#: Dihedrals: amplitudes in kJ/mol and phases common to all C-alpha dihedrals (the same reference).
DEFAULT_DIHEDRAL_AMPLITUDE = (0.845, 1.381)
DEFAULT_DIHEDRAL_PHASE_RAD = (-2.278, -1.710)
#: Repulsion: the distance at which it is kT.
DEFAULT_SIGMA_NM = 0.50

#: Stiffer bonds and angles than these (data that hardly move) would force a shorter time step.
#: Bonds of backbone atoms, with a spread of 0.0025 nm at 300 K, have 400,000: a prior that is
#: softer leaves the rest to the network, and its time step is then too large for both together.
MAX_BOND_STIFFNESS = 1_000_000.0
MAX_ANGLE_STIFFNESS = 2_000.0
#: Distances that the repulsion is fitted to; further out the attraction of contacts would enter.
REPULSION_WINDOW_NM = (0.30, 0.60)
#: Distances that are taken at once, which bounds the memory.
DISTANCES_AT_ONCE = 10_000_000
#: The range of σ that is believed.
SIGMA_RANGE_NM = (0.35, 0.65)

_GRID_POINTS = 2001
_MAX_NEWTON_STEPS = 200
_GRADIENT_TOLERANCE = 1e-9
_SHORTEST_STEP = 1e-10
_LARGEST_COEFFICIENT = 1e3


@dataclass(frozen=True)
class FittedPriors:
    """Fitted priors, in float64, and a sentence for each term that took its default."""

    priors: Priors
    notes: tuple[str, ...]


def fit_priors(frames: BeadFrames, temperature_K: float, settings: PriorSettings) -> FittedPriors:
    """Fit all prior terms to frames; frame weights are used where there are any.

    Args:
        frames: coarse-grained frames.
        temperature_K: temperature at which the frames were sampled.
        settings: choices of the prior.
    """
    priors = Priors(frames.topology, settings)
    weights = np.ones(frames.n_frames) if frames.weights is None else frames.weights
    source = _Source(
        positions=torch.from_numpy(frames.positions_nm).double(),
        weights=np.asarray(weights, dtype=np.float64),
        kT=thermal_energy(temperature_K),
        settings=settings,
    )
    notes = [
        *_set_bonds(priors.bond, source),
        *_set_angles(priors.angle, source),
        *_set_dihedrals(priors.dihedral, source),
        *_set_repulsion(priors.repulsion, source),
    ]
    for note in notes:
        logger.warning("prior: %s (too few frames, or a fit without a minimum)", note)
    return FittedPriors(priors, tuple(notes))


def effective_frames(weights: Float64[np.ndarray, " frames"]) -> float:
    """Return Kish's effective number (Σw)² / Σw² of weighted frames; 0 where all weights are."""
    largest = weights.max(initial=0.0)
    if largest == 0:
        return 0.0
    scaled = weights / largest  # squares of tiny weights would vanish
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def fit_bond(
    lengths_nm: Float64[np.ndarray, " frames"], weights: Float64[np.ndarray, " frames"], kT: float
) -> tuple[float, float] | None:
    """Return stiffness (kJ/mol/nm²) and length (nm) of p(r) ∝ r² exp(-k (r - r₀)²/2kT), or None.

    None means that the likelihood has its maximum at no positive stiffness and length.
    """
    limits = (1e-3, np.inf)
    fitted = _fit_harmonic(lengths_nm, weights, kT, MAX_BOND_STIFFNESS, limits, jacobian_power=2)
    return fitted if fitted is not None and fitted[1] > 0 else None


def fit_angle(
    cosines: Float64[np.ndarray, " frames"], weights: Float64[np.ndarray, " frames"], kT: float
) -> tuple[float, float] | None:
    """Return stiffness (kJ/mol) and centre of p(u) ∝ exp(-k (u - u₀)²/2kT), u = cos θ, or None.

    The Jacobian sin θ of the angle makes the measure of its cosine flat on [-1, 1].
    """
    fitted = _fit_harmonic(cosines, weights, kT, MAX_ANGLE_STIFFNESS, (-1.0, 1.0), jacobian_power=0)
    return fitted if fitted is not None and -1 < fitted[1] < 1 else None


def fit_dihedrals(
    angles_rad: Float64[np.ndarray, "frames terms"],
    weights: Float64[np.ndarray, " frames"],
    kT: float,
    shrinkage: float,
) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Return amplitudes (kJ/mol) and phases (radian) of Σ Aₙ(1 + cos(nφ - δₙ)) for each dihedral.

    Short trajectories visit few basins of a dihedral. So each term maximises the mean
    log-likelihood minus ``shrinkage``/2 |λ - λ̄|², where λ are the Fourier coefficients in kT and λ̄
    those of all dihedrals together, themselves pulled towards zero. A dihedral that never moved
    then gets amplitudes of a few kT instead of infinite ones; one that moved freely is hardly
    changed. A term is None where no finite maximum exists, which happens only with no shrinkage.
    """
    orders = np.arange(1, N_DIHEDRAL_ORDERS + 1)[:, None]
    grid = np.linspace(-np.pi, np.pi, _GRID_POINTS, endpoint=False)
    features = np.concatenate([np.cos(orders * grid), np.sin(orders * grid)])
    n = orders[:, :, None]
    waves = np.concatenate([np.cos(n * angles_rad), np.sin(n * angles_rad)])
    moments = np.average(waves, axis=1, weights=weights)
    if not moments.shape[1]:
        return []
    flat = np.zeros_like(grid)
    nothing = np.zeros(len(features))
    common = maximise_likelihood(features, flat, moments.mean(axis=1), shrinkage, nothing)
    centre = nothing if common is None else common
    series: list[tuple[np.ndarray, np.ndarray] | None] = []
    for term in range(moments.shape[1]):
        fitted = maximise_likelihood(features, flat, moments[:, term], shrinkage, centre)
        if fitted is None:
            series.append(None)
            continue
        cosine, sine = -kT * fitted.reshape(2, N_DIHEDRAL_ORDERS)
        series.append((np.hypot(cosine, sine), np.arctan2(sine, cosine)))
    return series


def fit_repulsion(
    distances_nm: Float64[np.ndarray, " samples"],
    weights: Float64[np.ndarray, " samples"],
    min_effective: float,
) -> float | None:
    """Return σ (nm) of p(r) ∝ r² exp(-(σ/r)⁶) in the window of short distances, or None.

    None means too few distances in the window, or none that thin out towards contact.
    """
    low, high = REPULSION_WINDOW_NM
    inside = (distances_nm > low) & (distances_nm < high)
    if effective_frames(weights[inside]) < min_effective:
        return None
    grid = np.linspace(low, high, _GRID_POINTS)
    moment = np.average((DEFAULT_SIGMA_NM / distances_nm[inside]) ** 6, weights=weights[inside])
    features = (DEFAULT_SIGMA_NM / grid[None]) ** 6
    fitted = maximise_likelihood(features, 2 * np.log(grid), np.array([moment]))
    if fitted is None or fitted[0] >= 0:
        return None
    sigma = float(DEFAULT_SIGMA_NM * (-fitted[0]) ** (1 / 6))
    return sigma if SIGMA_RANGE_NM[0] < sigma < SIGMA_RANGE_NM[1] else None


def maximise_likelihood(
    features: Float64[np.ndarray, "features grid"],
    log_measure: Float64[np.ndarray, " grid"],
    moments: Float64[np.ndarray, " features"],
    shrinkage: float = 0.0,
    centre: Float64[np.ndarray, " features"] | None = None,
) -> Float64[np.ndarray, " features"] | None:
    """Fit p(x) ∝ J(x) exp(Σ λₐ fₐ(x)) on an even grid by Newton's method; None without a maximum.

    Minimises ln Z(λ) - λ·m + shrinkage/2 |λ - centre|², whose gradient is ⟨f⟩ - m + shrinkage
    (λ - centre) and whose Hessian is the covariance of f, so it is convex.

    Args:
        features: fₐ on the grid.
        log_measure: ln J on the grid.
        moments: the mean of each feature over the data.
        shrinkage: strength of the pull towards ``centre``.
        centre: where λ is pulled, and where the search begins; zero where none is given.
    """
    origin = np.zeros(len(features)) if centre is None else centre
    coefficients = origin.copy()

    def objective(at: np.ndarray) -> float:
        away = at - origin
        log_z = float(logsumexp(log_measure + at @ features))
        return log_z - float(at @ moments) + 0.5 * shrinkage * float(away @ away)

    value = objective(coefficients)
    for _ in range(_MAX_NEWTON_STEPS):
        probability = softmax(log_measure + coefficients @ features)
        means = features @ probability
        gradient = means - moments + shrinkage * (coefficients - origin)
        if np.abs(gradient).max() < _GRADIENT_TOLERANCE:
            return coefficients
        centred = features - means[:, None]
        hessian = (centred * probability) @ centred.T + shrinkage * np.eye(len(features))
        step = np.linalg.lstsq(hessian, -gradient)[0]
        length = 1.0
        while not objective(coefficients + length * step) < value:
            length /= 2
            if length < _SHORTEST_STEP:  # no descent left within rounding
                settled = np.abs(gradient).max() < np.sqrt(_GRADIENT_TOLERANCE)
                return coefficients if settled else None
        coefficients = coefficients + length * step
        if np.abs(coefficients).max() > _LARGEST_COEFFICIENT:  # data without any width
            return None
        value = objective(coefficients)
    return None


def _fit_harmonic(
    values: np.ndarray,
    weights: np.ndarray,
    kT: float,
    max_stiffness: float,
    limits: tuple[float, float],
    jacobian_power: int,
) -> tuple[float, float] | None:
    mean = float(np.average(values, weights=weights))
    variance = float(np.average((values - mean) ** 2, weights=weights))
    if variance <= kT / max_stiffness:
        return max_stiffness, mean
    width = float(np.sqrt(variance))
    low, high = (max(limits[0], mean - 10 * width), min(limits[1], mean + 10 * width))
    grid = np.linspace(low, high, _GRID_POINTS)
    scaled = (grid - mean) / width
    measure = jacobian_power * np.log(grid) if jacobian_power else np.zeros_like(grid)
    start = np.array([0.0, -0.5])  # the Gaussian without limits and Jacobian
    fitted = maximise_likelihood(
        np.stack([scaled, scaled**2]), measure, np.array([0.0, 1.0]), 0.0, start
    )
    if fitted is None or fitted[1] >= 0:
        return None
    stiffness = float(-2 * fitted[1] * kT / variance)
    return min(stiffness, max_stiffness), float(mean - width * fitted[0] / (2 * fitted[1]))


@dataclass(frozen=True)
class _Source:
    """What the terms are fitted to."""

    positions: Tensor
    weights: np.ndarray
    kT: float
    settings: PriorSettings

    @property
    def enough(self) -> bool:
        return effective_frames(self.weights) >= self.settings.min_effective_frames


def _set_bonds(prior: BondPrior, source: _Source) -> list[str]:
    lacking = []
    lengths = distances(source.positions, prior.pairs).numpy()
    for term, beads in enumerate(prior.pairs.tolist()):
        fitted = fit_bond(lengths[:, term], source.weights, source.kT) if source.enough else None
        if fitted is None:
            lacking.append(beads)
        stiffness, length = fitted or (DEFAULT_BOND_STIFFNESS, DEFAULT_BOND_NM)
        prior.stiffness[term], prior.length_nm[term] = stiffness, length
    return _note("bonds", lacking, "stiffness and length")


def _set_angles(prior: AnglePrior, source: _Source) -> list[str]:
    lacking = []
    cosines = np.cos(angles(source.positions, prior.triples).numpy())
    for term, beads in enumerate(prior.triples.tolist()):
        fitted = fit_angle(cosines[:, term], source.weights, source.kT) if source.enough else None
        if fitted is None:
            lacking.append(beads)
        stiffness, cosine = fitted or (DEFAULT_ANGLE_STIFFNESS, DEFAULT_ANGLE_COSINE)
        prior.stiffness[term], prior.cosine[term] = stiffness, cosine
    return _note("angles", lacking, "stiffness and cosine")


def _set_dihedrals(prior: DihedralPrior, source: _Source) -> list[str]:
    lacking = []
    torsions = dihedrals(source.positions, prior.quadruples).numpy()
    series: list[tuple[np.ndarray, np.ndarray] | None] = [None] * torsions.shape[1]
    if source.enough:
        shrinkage = source.settings.dihedral_shrinkage
        series = fit_dihedrals(torsions, source.weights, source.kT, shrinkage)
    default = np.array(DEFAULT_DIHEDRAL_AMPLITUDE), np.array(DEFAULT_DIHEDRAL_PHASE_RAD)
    for term, beads in enumerate(prior.quadruples.tolist()):
        fitted = series[term]
        if fitted is None:
            lacking.append(beads)
        amplitude, phase = fitted or default
        prior.amplitude[term] = torch.from_numpy(amplitude)
        prior.phase_rad[term] = torch.from_numpy(phase)
    return _note("dihedrals", lacking, "amplitudes and phases")


def _set_repulsion(prior: RepulsionPrior, source: _Source) -> list[str]:
    short, weights = [], []
    at_once = max(1, DISTANCES_AT_ONCE // max(len(prior.pairs), 1))
    for part, each in zip(
        source.positions.split(at_once), _split(source.weights, at_once), strict=True
    ):
        apart = distances(part, prior.pairs).numpy()
        near = apart < REPULSION_WINDOW_NM[1]
        short.append(apart[near])
        weights.append(np.broadcast_to(each[:, None], apart.shape)[near])
    effective = source.settings.min_effective_frames
    sigma = fit_repulsion(np.concatenate(short), np.concatenate(weights), effective)
    prior.strength[:] = source.kT
    prior.sigma_nm[:] = DEFAULT_SIGMA_NM if sigma is None else sigma
    if sigma is None and len(prior.pairs):
        return [f"the repulsion took the default sigma of {DEFAULT_SIGMA_NM} nm"]
    return []


def _split(values: np.ndarray, at_once: int) -> list[np.ndarray]:
    return np.split(values, range(at_once, len(values), at_once))


def _note(kind: str, lacking: list[list[int]], what: str) -> list[str]:
    if not lacking:
        return []
    beads = ", ".join("-".join(map(str, term)) for term in lacking)
    return [f"{kind} {beads} took the default {what}"]
