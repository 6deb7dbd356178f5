"""What a finished simulation says: its frames, a report beside them, and the lines of the log."""

import logging
import math
from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Float32

from trajgen.data.records import Loss, Rollouts
from trajgen.potential.dynamics.containment import ReplicaLoss, find_losses
from trajgen.potential.dynamics.simulation import Simulation, centred
from trajgen.potential.dynamics.time_step import warn_after

logger = logging.getLogger(__name__)

#: The last frames of a chain that broke, the one before the break included, that are kept.
LAST_FRAMES = 3
#: Chains that broke are named one by one in the log up to this number; the report names them all.
NAMED_LOSSES = 5


def rollouts_of(
    simulation: Simulation, frames_nm: Float32[np.ndarray, "chains frames beads 3"]
) -> Rollouts:
    """Return the saved frames of the lowest temperature with what is known of broken chains."""
    state, every = simulation.state, simulation.settings.save_every
    saved = (simulation.base(state.steps_alive) // every).cpu().numpy()
    held_nm = centred(simulation.base(state.positions_nm)).float().cpu().numpy()
    losses = []
    for loss in _losses(simulation):
        if loss.rung == 0:
            before = frames_nm[loss.chain, : saved[loss.chain]][-LAST_FRAMES:]
            if (loss.step - 1) % every or not len(
                before
            ):  # else the last one saved is the one held
                before = np.concatenate([before, held_nm[loss.chain][None]])[-LAST_FRAMES:]
            losses.append(Loss(loss.chain, loss.step, loss.reason, np.ascontiguousarray(before)))
    return Rollouts(
        topology=simulation.topology,
        positions_nm=frames_nm,
        alive=np.arange(frames_nm.shape[1]) < saved[:, None],
        time_step_ps=None,
        time_step_cg_ps=simulation.settings.time_step_ps * every,
        losses=tuple(losses),
    )


def report_of(simulation: Simulation) -> dict[str, Any]:
    """Return what a reader of the frames must know, as JSON-able values."""
    settings, ladder_K = simulation.settings, simulation.temperatures_K
    kinetic_K, configurational_K = (
        [_finite(value) for value in mean.measured_K(len(ladder_K))]
        for mean in (simulation.thermometer.kinetic, simulation.thermometer.configurational)
    )
    report: dict[str, Any] = {
        "integrator": settings.integrator,
        "time_step_cg_ps": settings.time_step_ps,
        "friction_per_cg_ps": settings.chosen_friction_per_ps,
        "temperature_K": ladder_K[0],
        "kinetic_temperature_K": kinetic_K[0],
        "configurational_temperature_K": configurational_K[0],
        "losses": [
            {
                "chain": loss.chain,
                "temperature_K": ladder_K[loss.rung],
                "step": loss.step,
                "reason": loss.reason,
            }
            for loss in _losses(simulation)
        ],
    }
    if settings.tempering is not None:
        report["tempering"] = {
            "temperatures_K": list(ladder_K),
            "kinetic_temperatures_K": kinetic_K,
            "configurational_temperatures_K": configurational_K,
            "attempted": simulation.exchange.attempted.tolist(),
            "acceptance": simulation.exchange.acceptance(),
        }
    return report


def log_outcome(simulation: Simulation) -> None:
    """Say what was lost and why, the share of exchanges, and a temperature that is off."""
    ladder_K = simulation.temperatures_K
    _log_losses(simulation)
    shares = simulation.exchange.acceptance()
    for low, high, share in zip(ladder_K[:-1], ladder_K[1:], shares, strict=True):
        said = "no attempt" if share is None else f"{share:.0%} of exchanges accepted"
        logger.info("between %.4g K and %.4g K: %s", low, high, said)
    if simulation.settings.chosen_friction_per_ps > 0:
        _warn_of_temperatures(simulation)


def _log_losses(simulation: Simulation) -> None:
    ladder_K, losses = simulation.temperatures_K, _losses(simulation)
    if len(losses) <= NAMED_LOSSES:
        for loss in losses:
            at = f" at {ladder_K[loss.rung]:.4g} K" if len(ladder_K) > 1 else ""
            text = "chain %d exploded%s in step %d: %s"
            logger.warning(text, loss.chain, at, loss.step, loss.reason)
    else:
        reasons = Counter(loss.reason for loss in losses)
        logger.warning(
            "%d %s exploded in steps %d to %d: %s",
            len(losses),
            "chains" if len(ladder_K) == 1 else "replicas of chains",
            min(loss.step for loss in losses),
            max(loss.step for loss in losses),
            ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()),
        )
    alive = simulation.base(simulation.state.alive)
    if lost := int((~alive).sum()):
        text = (
            "%d of %d chains exploded; their later frames are left out: choose a time_step_ps "
            "smaller than %g, or fit the potential on frames like those they broke in"
        )
        logger.warning(text, lost, len(alive), simulation.settings.time_step_ps)


def _warn_of_temperatures(simulation: Simulation) -> None:
    thermometer, ladder_K = simulation.thermometer, simulation.temperatures_K
    means = {"kinetic": thermometer.kinetic, "configurational": thermometer.configurational}
    errors = thermometer.relative_errors(len(ladder_K))
    for (kind, mean), error in zip(means.items(), errors, strict=True):
        warn_after(kind, ladder_K[0], mean.measured_K(len(ladder_K))[0], error)


def _losses(simulation: Simulation) -> list[ReplicaLoss]:
    state = simulation.state
    rungs = len(simulation.temperatures_K)
    return find_losses(state.alive, state.steps_alive, state.longest_bond_nm, rungs)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
