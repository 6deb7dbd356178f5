"""The end of ensemble matching: the readout of the networks, solved for while all else is held.

The energy is linear in the readout w, the last layer of a network: U/kT = w · φ(x) + the rest. For
weights like these the relative entropy is convex (Shell, J. Chem. Phys. 129, 144108 (2008)), and
chains simulated with one readout say what the ensemble would be with another. So when the training
has ended the chains go on with its averaged weights, and the change δ of the readout is the minimum
of

    Γ(δ) = δ · ⟨φ⟩_data + ln⟨exp(-δ · φ)⟩_chains + λ/2 |δ|²

which is the dual of maximum entropy (Jaynes, Phys. Rev. 106, 620 (1957)): of all ensembles with the
mean φ of the data it is the one nearest to that of the chains. φ is taken in its principal
components over the chains, of unit variance, and λ shrinks what their number cannot tell from
noise. The noise of single updates, which makes the depths of basins wander as long as a network is
trained, has no part in it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.linalg import block_diag, eigh
from scipy.optimize import minimize
from torch import Tensor

from trajgen.errors import WorkError
from trajgen.potential.committee import Committee
from trajgen.potential.energy import evaluation_batch
from trajgen.potential.ensemble_matching import SimulatedChains
from trajgen.potential.ensemble_settings import ReadoutSettings
from trajgen.potential.prior_fit import effective_frames
from trajgen.progress import SILENT, Progress

#: Share of the time of the chains that is left out: they relax to the averaged weights.
RELAXATION_SHARE = 1 / 8
#: Snapshots of all chains that are taken in the rest of it.
SNAPSHOTS = 500
#: Principal components of less than this share of the largest variance are rounding.
SMALLEST_VARIANCE = 1e-8
#: A change that leaves fewer of the effective samples than this share is too large for the means
#: of the chains to be trusted.
TRUSTED_SHARE = 0.5


@dataclass(frozen=True)
class ReadoutMatch:
    """What came of it.

    Attributes:
        samples: snapshots of chains that it was made of.
        components: principal components of the readout.
        gained_kT: what the relative entropy to the data fell by, as far as the chains tell.
        effective_share: share of the samples that is effective after the change.
        shrinkage: λ that was used; larger than asked for where the change would have been too
            large to be trusted.
        wall_seconds: time that it took.
    """

    samples: int
    components: int
    gained_kT: float
    effective_share: float
    shrinkage: float
    wall_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as the card of a potential holds it."""
        return dict(vars(self))


def match_readout(
    network: Committee,
    chains: SimulatedChains,
    advance: Callable[[int], None],
    settings: ReadoutSettings,
    first_update: int,
    progress: Progress = SILENT,
) -> ReadoutMatch:
    """Simulate the chains with the weights of ``network``, and change its readout.

    Args:
        network: the networks of the potential that moves the chains.
        chains: the chains, as the training left them.
        advance: moves them on by one update of this number.
        settings: choices.
        first_update: number of the first update; numbers say the noise, and were not used before.
        progress: told the updates.

    Raises:
        WorkError: the readout of a chain is not finite.
    """
    updates = max(-(-settings.steps // chains.settings.steps), 2)
    relaxed = int(RELAXATION_SHARE * updates)
    every = -(-(updates - relaxed) // SNAPSHOTS)
    samples, weights = [], []
    began = time.monotonic()
    with progress.task("readout", updates, 0) as task:
        for number in range(updates):
            advance(first_update + number)
            if number == 0:
                chains.draw_anew(first_update)  # the weights of chains that relax are but noise
            if number >= relaxed and (number - relaxed) % every == 0:
                samples.append(readout_of(network, chains.positions_nm))
                weights.append(chains.relative_weights().cpu().numpy())
            task.advance(1, "")
    change, match = solve_readout(
        np.concatenate(samples),
        np.concatenate(weights),
        readout_of(network, chains.frames.positions_nm),
        chains.frames.weights(),
        settings.shrinkage,
        len(network.networks()),
    )
    network.shift_readout(torch.from_numpy(change))
    return replace(match, wall_seconds=round(time.monotonic() - began, 3))


@torch.no_grad()
def readout_of(
    network: Committee, positions_nm: Float[Tensor, "frames beads 3"]
) -> Float64[np.ndarray, "frames numbers"]:
    """Return what the energy of the networks is linear in."""
    device = next(network.parameters()).device
    at_once = evaluation_batch(positions_nm.shape[-2])
    parts = [network.readout(part.to(device)) for part in positions_nm.split(at_once)]
    return torch.cat(parts).double().cpu().numpy()


def solve_readout(
    of_chains: Float64[np.ndarray, "samples numbers"],
    chain_weights: Float64[np.ndarray, " samples"],
    of_data: Float64[np.ndarray, "frames numbers"],
    data_weights: Float64[np.ndarray, " frames"],
    shrinkage: float,
    members: int = 1,
) -> tuple[Float64[np.ndarray, " numbers"], ReadoutMatch]:
    """Return the change of the readout, in units of kT, and what it comes to.

    The components are those of each member by itself. Among those of all together were some in
    which members cancel, of hardly any variance: in units of that the smallest noise of a mean is
    large, and would drive the members apart.

    Args:
        of_chains: φ of samples of the present ensemble.
        chain_weights: their statistical weights, in any unit.
        of_data: φ of frames of the data.
        data_weights: their weights, in any unit.
        shrinkage: λ.
        members: networks whose numbers stand in a row.

    Raises:
        WorkError: φ is not finite.
    """
    if not (np.isfinite(of_chains).all() and np.isfinite(of_data).all()):
        raise WorkError(
            "the readout of a frame is not finite; lower training.learning_rate, or leave this "
            "step out by ensemble.readout=null"
        )
    log_weights = np.log(chain_weights / chain_weights.sum())
    own = [_principal(part, np.exp(log_weights)) for part in np.split(of_chains, members, axis=1)]
    mean = np.concatenate([of_member for of_member, _ in own])
    directions = block_diag(*(of_member for _, of_member in own))
    samples = (of_chains - mean) @ directions
    wanted = (data_weights / data_weights.sum()) @ (of_data - mean) @ directions
    trusted = TRUSTED_SHARE * _effective_share(log_weights)
    change, gained = _minimum(samples, log_weights, wanted, shrinkage)
    while (share := _effective_share(log_weights - samples @ change)) < trusted:
        shrinkage *= 2
        change, gained = _minimum(samples, log_weights, wanted, shrinkage)
    return directions @ change, ReadoutMatch(len(samples), len(change), gained, share, shrinkage)


def _principal(
    numbers: Float64[np.ndarray, "samples numbers"], weights: Float64[np.ndarray, " samples"]
) -> tuple[Float64[np.ndarray, " numbers"], Float64[np.ndarray, "numbers components"]]:
    """Return the mean, and directions along which the numbers are not correlated, of variance 1."""
    mean = weights @ numbers
    away = numbers - mean
    variances, vectors = eigh((away * weights[:, None]).T @ away)
    kept = variances > SMALLEST_VARIANCE * variances.max()
    return mean, vectors[:, kept] / np.sqrt(variances[kept])


def _minimum(
    samples: Float64[np.ndarray, "samples components"],
    log_weights: Float64[np.ndarray, " samples"],
    wanted: Float64[np.ndarray, " components"],
    shrinkage: float,
) -> tuple[Float64[np.ndarray, " components"], float]:
    """Return where Γ is least, and how far the relative entropy falls until there."""

    def shares_at(change: np.ndarray) -> np.ndarray:
        return _normalized(log_weights - samples @ change)

    def gamma(change: np.ndarray) -> tuple[float, np.ndarray]:
        exponents = log_weights - samples @ change
        largest = exponents.max()
        value = change @ wanted + largest + np.log(np.exp(exponents - largest).sum())
        slope = wanted - shares_at(change) @ samples + shrinkage * change
        return value + shrinkage / 2 * change @ change, slope

    def curvature(change: np.ndarray) -> np.ndarray:
        shares = shares_at(change)
        away = samples - shares @ samples
        return (away * shares[:, None]).T @ away + shrinkage * np.eye(len(change))

    start = np.zeros(len(wanted))
    found = minimize(gamma, start, jac=True, hess=curvature, method="trust-exact").x
    return found, float(shrinkage / 2 * found @ found - gamma(found)[0])


def _normalized(exponents: Float64[np.ndarray, " samples"]) -> Float64[np.ndarray, " samples"]:
    shares = np.exp(exponents - exponents.max())
    return shares / shares.sum()


def _effective_share(exponents: Float64[np.ndarray, " samples"]) -> float:
    return effective_frames(_normalized(exponents)) / len(exponents)
