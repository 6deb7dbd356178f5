"""What all tasks share: windows with noise of their own, checked inputs, and what came apart."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor

from trajgen.device import require_compiler
from trajgen.errors import InputError
from trajgen.geometry.validity import holds_together
from trajgen.seeding import torch_generator
from trajgen.surrogate.conditioning import KNOWN_START, MOST_CONTEXT
from trajgen.surrogate.encoded_windows import WindowTimes
from trajgen.surrogate.sampler import SamplerSettings
from trajgen.surrogate.surrogate import Draw, Surrogate

#: A lag may lie outside the trained ones by this factor.
LAG_MARGIN = 1.1
#: Frames of each window that are looked at at once.
CHECKED_FRAMES = 4096
#: How far steps of rollouts and paths of atoms go back by default. Side chains then lie less often
#: between their minima; but beads, frames between close ones and single frames would wobble too
#: little. The trials are in ``docs/surrogate.md``.
RESTART = 0.15


class RolloutSettings(SamplerSettings):
    """How trajectories are generated.

    Attributes:
        batch: windows that are generated at once; results do not depend on it.
        context: frames that a window shares with the one before; more than one tell it how fast
            the molecule moves.
        temperature_K: temperature; None for that of the training data.
    """

    batch: int = Field(default=64, ge=1)
    context: int = Field(default=2, ge=1, le=MOST_CONTEXT)
    temperature_K: float | None = Field(default=None, gt=0)

    def chosen_temperature_K(self, surrogate: Surrogate) -> float:
        """Return the temperature, also where it was left to the training data.

        Raises:
            InputError: those are of several temperatures, and none is chosen; or the chosen one is
                outside of them.
        """
        known = surrogate.temperatures_K
        if self.temperature_K is None and len(known) == 1:
            return known[0]
        listed = ", ".join(f"{value:g}" for value in known)
        if self.temperature_K is None:
            raise InputError(
                f"the surrogate was trained at {listed} K; choose one by --set temperature_K=…"
            )
        if not known[0] - 1 <= self.temperature_K <= known[-1] + 1:
            raise InputError(
                f"temperature_K is {self.temperature_K:g}, but the surrogate was trained at "
                f"{listed} K; ask for a temperature among these"
            )
        return self.temperature_K

    def for_task(self, surrogate: Surrogate, task: str) -> "RolloutSettings":
        """Return these with what steps go back by in a task, also where it was left to that."""
        if self.restart is not None:
            return self
        better = surrogate.settings.resolution == "heavy" and task in ("forward", "interpolate")
        return self.model_copy(update={"restart": RESTART if better else 0.0})

    def require_possible(self, surrogate: Surrogate) -> None:
        """Raise InputError where a surrogate cannot generate so, before any work is begun."""
        self.chosen_temperature_K(surrogate)
        if self.compile:
            require_compiler(surrogate.device)


def complete_windows(
    surrogate: Surrogate,
    windows_nm: Float[Tensor, "windows frames sites 3"],
    known: Bool[Tensor, "frames residues"],
    places: Int64[Tensor, " frames"] | Float[Tensor, " frames"],
    lag_ps: float,
    seeds: Sequence[int],
    settings: RolloutSettings,
) -> Float[Tensor, "windows frames sites 3"]:
    """Complete windows of one mask, each with the noise of its seed, in batches.

    Args:
        surrogate: the model.
        windows_nm: the known cells; what stands in the others is not looked at.
        known: cells that are given.
        places: time of each frame, in lags.
        lag_ps: lag of the windows.
        seeds: seed of each window's noise.
        settings: how the windows are sampled.
    """
    device = surrogate.device
    temperature_K = settings.chosen_temperature_K(surrogate)
    given = known[:, surrogate.molecule.resolution.site_residues.cpu()]
    windows_nm = torch.where(given[..., None], windows_nm, 0.0)
    done = []
    for rows in torch.arange(len(windows_nm)).split(settings.batch):
        draw = window_noise(surrogate, known, [seeds[row] for row in rows])
        even = WindowTimes.even(len(rows), len(known), lag_ps, temperature_K, device)
        times = WindowTimes(
            lag_ps * (places - places[0]).float().expand(len(rows), -1).to(device),
            even.lag_ps,
            even.temperature_K,
        )
        mask = known.expand(len(rows), *known.shape).to(device)
        completed = surrogate.complete(windows_nm[rows].to(device), mask, times, draw, settings)
        done.append(completed.cpu())
    return torch.cat(done)


def window_noise(
    surrogate: Surrogate, known: Bool[Tensor, "frames residues"], seeds: Sequence[int]
) -> Draw:
    """Return what draws the noise of windows of one shape, each from its seed, on the CPU always.

    The noise of a window depends on its seed and on how often it was drawn.
    """
    generators = [torch_generator(seed) for seed in seeds]
    shape = (*known.shape, surrogate.channels)

    def draw() -> Tensor:
        drawn = torch.stack([torch.randn(shape, generator=each) for each in generators])
        return drawn.to(surrogate.device)

    return draw


def intact_frames(
    surrogate: Surrogate, positions_nm: Float[Tensor, "windows frames sites 3"]
) -> Bool[Tensor, "windows frames"]:
    """Say for each frame whether it is finite and holds together."""
    bonds = torch.tensor(surrogate.beads.bonds, dtype=torch.long).reshape(-1, 2)
    resolution = surrogate.molecule.resolution.to(positions_nm.device)
    whole = []
    for some in positions_nm.split(CHECKED_FRAMES, dim=1):
        sites = rearrange(some, "w f s x -> (w f) s x")
        intact = holds_together(resolution.alpha_carbons(sites), bonds=bonds)
        intact &= sites.isfinite().flatten(1).all(dim=1)
        whole.append(intact.view(some.shape[:2]))
    return torch.cat(whole, dim=1)


def checked_frames(surrogate: Surrogate, positions_nm: np.ndarray, what: str) -> Tensor:
    """Return conformations as a tensor.

    Raises:
        InputError: they are of another molecule, none are there, or they are not finite.
    """
    sites = surrogate.topology.n_sites
    if positions_nm.ndim != 3 or positions_nm.shape[1:] != (sites, 3) or not len(positions_nm):
        raise InputError(
            f"{what} have shape {positions_nm.shape}; wanted is (n, {sites}, 3), with n of at "
            f"least 1, for {surrogate.beads.sequence}"
        )
    if not np.isfinite(positions_nm).all():
        raise InputError(f"{what} have a NaN or infinity; give whole conformations")
    return torch.from_numpy(np.ascontiguousarray(positions_nm))


def require_task(surrogate: Surrogate, *names: str) -> None:
    """Raise InputError where the model was trained for none of some tasks."""
    if not set(names) & set(surrogate.molecule.tasks):
        raise InputError(
            f"the surrogate was not trained for {' or '.join(names)}, only for "
            f"{', '.join(surrogate.molecule.tasks)}; train one with tasks.{names[0]} above 0"
            + ("" if names[0] in KNOWN_START else " on data at equilibrium")
        )


def require_lag(surrogate: Surrogate, lag_ps: float) -> None:
    """Raise InputError where the model was not trained at a lag."""
    shortest, longest = surrogate.lags_ps
    if not shortest / LAG_MARGIN <= lag_ps <= longest * LAG_MARGIN:
        raise InputError(
            f"lag_ps is {lag_ps:g}, but the surrogate was trained at lags of {shortest:g} to "
            f"{longest:g} ps; ask for one of these, or train one at {lag_ps:g}"
        )
