"""What a fit came to: how much the network explains, what is noise, and the priors."""

from typing import Any

import numpy as np
from jaxtyping import Int64

from trajgen.data.records import BeadFrames
from trajgen.potential.calibration import calibrate
from trajgen.potential.force_labels import ForceLabels, mean_force_error
from trajgen.potential.noise_floor import NoiseFloor, estimate_noise_floor
from trajgen.potential.potential import Potential
from trajgen.potential.prior_table import prior_table

#: So many standard errors of the noise floor must what is not noise be, to be divided by.
CLEAR = 4

#: What ``report_lines`` says of a card.
REPORT_KEYS = (
    "trained_on",
    "prior_only_loss",
    "explained_variance",
    "noise_floor",
    "calibration",
    "prior_simulation",
    "priors",
    "prior_notes",
    "continued",
)


def measure_fit(
    potential: Potential,
    labels: ForceLabels,
    held_out: Int64[np.ndarray, " held_out"],
    frames: BeadFrames,
    seed: int,
) -> dict[str, Any]:
    """Return what the card says of the finished fit.

    Args:
        potential: the fitted potential.
        labels: labels of all frames, on the CPU.
        held_out: which of them are held out.
        frames: the frames that the labels were made of.
        seed: base of all random numbers.

    Returns:
        ``validation_loss`` (of the weights as they are saved), ``explained_variance``,
        ``noise_floor``, ``calibration`` and ``priors``.
    """
    floor = estimate_noise_floor(labels, held_out, frames, seed)
    loss = None
    explained: dict[str, Any] = {"of_loss_percent": None, "reason": "no frames are held out"}
    calibration: dict[str, Any] = {"groups": [], "reason": "no frames are held out"}
    if len(held_out):
        device = next(potential.network.parameters()).device
        part = labels.take(held_out).to(device)
        calibration = calibrate(potential.network, part, frames.segments[part.frames], seed)
        without, loss = mean_force_error(None, part), mean_force_error(potential.network, part)
        explained = explained_variance(without, loss, floor)
    return {
        "validation_loss": loss,
        "explained_variance": explained,
        "noise_floor": floor.to_dict(),
        "calibration": calibration,
        "priors": prior_table(potential.priors),
    }


def explained_variance(without: float, loss: float, floor: NoiseFloor) -> dict[str, Any]:
    """Return how much of what the priors leave over the network explains, in per cent.

    ``of_loss_percent`` is 100 (L₀ - L) / L₀ with the loss L₀ of the priors alone; noise in the
    labels keeps it small however good the network is. ``of_mean_force_percent`` is
    100 (L₀ - L) / (L₀ - N) with the noise floor N: the explained variance of the mean force itself.
    It is None, with ``reason``, where N is not known or L₀ - N is not ``CLEAR`` standard errors of
    N above zero; a floor that is too high makes it too high.

    Args:
        without: the loss L₀ of the priors alone, (kJ/mol/nm)².
        loss: the loss L with the network, (kJ/mol/nm)².
        floor: the noise floor.
    """
    gained = without - loss
    if not without:
        return {"of_loss_percent": None, "reason": "the priors leave nothing over"}
    result: dict[str, Any] = {
        "of_loss_percent": 100 * gained / without,
        "of_mean_force_percent": None,
    }
    if floor.value is None or floor.standard_error is None:
        result["reason"] = f"no noise floor: {floor.reason}"
    elif without - floor.value <= CLEAR * floor.standard_error:
        result["reason"] = "what is not noise is too little beside the error of the noise floor"
    else:
        result["of_mean_force_percent"] = 100 * gained / (without - floor.value)
    return result


def report_lines(card: dict[str, Any]) -> list[str]:
    """Return the report of a potential's card as lines of text."""
    explained, floor = card["explained_variance"], card["noise_floor"]
    without = card["prior_only_loss"]["validation"]
    shards = sum(len(stage["shards"]) for stage in card["trained_on"])
    lines = ["report of the fit, held-out frames, losses in (kJ/mol/nm)²"]
    lines.append(f"  trained on              {shards} shards, in {len(card['trained_on'])} stages")
    if without is not None:
        lines.append(f"  loss of priors alone    {without:.5g}")
        lines.append(f"  loss with the network   {_loss_text(card)}")
    if card.get("readout"):  # older cards have none
        lines.append(
            f"  readout                 {_readout_text(card['readout'], card['settings'])}"
        )
    lines.append(f"  noise floor             {_floor_text(floor)}")
    lines.append(f"  explained variance      {_explained_text(explained)}")
    lines.append(f"  disagreement            {_calibration_text(card['calibration'])}")
    lines.append(f"  priors alone            {_simulation_text(card['prior_simulation'])}")
    if card["continued"] is not None:
        lines += _continued_lines(card["continued"])
    lines.append("priors")
    lines += [_prior_line(row) for row in card["priors"]]
    return lines + [f"  note: {note}" for note in card["prior_notes"]]


def _loss_text(card: dict[str, Any]) -> str:
    best = f"{card['best_validation_loss']:.5g} at step {card['best_step']}"
    saved = card.get("validation_loss")  # older cards have none
    return best if saved is None else f"{saved:.5g} as saved, {best}"


def _floor_text(floor: dict[str, Any]) -> str:
    if floor["value"] is None:
        return f"unknown: {floor['reason']}"
    value = f"{floor['value']:.5g} ± {floor['standard_error']:.2g}"
    return f"{value} by {floor['method']}; {floor['caveat']}"


def _explained_text(explained: dict[str, Any]) -> str:
    if explained["of_loss_percent"] is None:
        return f"unknown: {explained['reason']}"
    text = f"{explained['of_loss_percent']:.2f} % of the loss of priors alone"
    if explained["of_mean_force_percent"] is None:
        return f"{text}; of the mean force unknown: {explained['reason']}"
    return f"{text}, {explained['of_mean_force_percent']:.1f} % of what is not noise"


def _readout_text(readout: dict[str, Any], settings: dict[str, Any]) -> str:
    asked = settings["ensemble"]["readout"]["shrinkage"]
    held = f", held back by λ of {readout['shrinkage']:g}" if readout["shrinkage"] > asked else ""
    return (
        f"matched to the ensemble: relative entropy lower by {readout['gained_kT']:.2g} kT, "
        f"{100 * readout['effective_share']:.0f} % of {readout['samples']} samples effective{held}"
    )


def _calibration_text(calibration: dict[str, Any]) -> str:
    groups = calibration["groups"]
    if not groups:
        return f"not judged: {calibration['reason']}"
    first, last = groups[0]["error"], groups[-1]["error"]
    return f"error {first:.5g} where the members agree most, {last:.5g} where least"


def _simulation_text(simulation: dict[str, Any] | None) -> str:
    if simulation is None:
        return "not simulated (prior_check is null)"
    bond = simulation["largest_bond_nm"]
    longest = "" if bond is None else f", largest bond {bond:.3f} nm"
    return (
        f"{simulation['chains']} chains x {simulation['steps']} steps of "
        f"{simulation['time_step_ps']:.3g} cg_ps{longest}"
    )


def _continued_lines(continued: dict[str, Any]) -> list[str]:
    lines = [f"  continued from          {continued['from']} (priors: {continued['priors']})"]
    for kind in ("old", "new"):
        loss = continued["loss"][kind]
        if loss["before"] is not None:
            change = f"{loss['before']:.5g} before, {loss['after']:.5g} after"
            lines.append(f"  loss of {kind} frames      {change}")
    return lines


def _prior_line(row: dict[str, Any]) -> str:
    beads = ["-".join(map(str, term)) for term in row["beads"]]
    where = ", ".join(beads) if len(beads) <= 3 else f"{len(beads)} terms"
    values = [
        f"{name} {_values(value)} {row['units'][name]}".rstrip()
        for name, value in row["parameters"].items()
    ]
    return f"  {row['term']:10} {where:14} {', '.join(values)} ({row['origin']})"


def _values(value: float | list[float]) -> str:
    if isinstance(value, list):
        return " ".join(f"{each:.4g}" for each in value)
    return f"{value:.5g}"
