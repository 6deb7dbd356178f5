"""Parallel tempering: each chain at a ladder of temperatures, whose neighbours exchange frames.

The lowest temperature alone is an ensemble of the potential: a force-matched free energy holds at
the temperature of its data, and the hotter replicas serve to cross barriers.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajgen.potential.dynamics.integrators import Integrator
from trajgen.potential.dynamics.noise import exchange_draws
from trajgen.potential.dynamics.state import State
from trajgen.units import thermal_energy


class Exchange:
    """Exchanges between neighbours of the ladder (Swendsen and Wang, Phys. Rev. Lett. 57, 2607).

    Configurations i and j change places with the probability min(1, exp((βᵢ - βⱼ)(Uᵢ - Uⱼ))), which
    leaves the product of the canonical distributions as it is, with velocities scaled by the root
    of the ratio of the temperatures (Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999)). Odd
    and even pairs take turns.

    Attributes:
        attempted: attempts of each pair of neighbours, over all chains.
        accepted: those that were accepted.
    """

    def __init__(
        self, seed: int, numbers: Sequence[int], temperatures_K: Sequence[float], like: Tensor
    ) -> None:
        """Make the exchanges of chains with ``numbers`` on the device of ``like``."""
        self.seed, self.numbers = seed, numbers
        self.kT = like.new_tensor([thermal_energy(t) for t in temperatures_K])
        pairs = len(temperatures_K) - 1
        self.attempted = torch.zeros(pairs, dtype=torch.int64, device=like.device)
        self.accepted = torch.zeros_like(self.attempted)

    def apply(self, state: State, attempt: int, integrator: Integrator) -> State:
        """Return the replicas after one attempt, counted from 0."""
        rungs, device = len(self.kT), self.kT.device
        lower = torch.arange(attempt % 2 if rungs > 2 else 0, rungs - 1, 2, device=device)
        energies = state.energies.reshape(-1, rungs)
        both_alive = (state.alive.reshape(-1, rungs)[:, lower]
                      & state.alive.reshape(-1, rungs)[:, lower + 1])  # fmt: skip
        drawn = exchange_draws(self.seed, self.numbers, attempt, rungs - 1)
        chances = torch.from_numpy(np.log1p(-drawn)).to(device)[:, lower]
        beta = 1 / self.kT
        gain = (beta[lower] - beta[lower + 1]) * (energies[:, lower] - energies[:, lower + 1])
        accept = both_alive & (chances < gain)
        self.attempted[lower] += both_alive.sum(dim=0)
        self.accepted[lower] += accept.sum(dim=0)
        return self._swapped(state, _sources(accept, lower, rungs), integrator)

    def acceptance(self) -> list[float | None]:
        """Return the share of accepted attempts of each pair, None where there was none."""
        counts = zip(self.accepted.tolist(), self.attempted.tolist(), strict=True)
        return [accepted / attempted if attempted else None for accepted, attempted in counts]

    def _swapped(
        self, state: State, source: Int[Tensor, "chains rungs"], integrator: Integrator
    ) -> State:
        chains, rungs = source.shape
        index = (torch.arange(chains, device=source.device)[:, None] * rungs + source).flatten()
        old_kT: Float[Tensor, "replicas 1 1"] = self.kT[source.flatten()][:, None, None]
        forces = state.forces[index]
        moved = integrator.transfer(state.carried[index], forces, old_kT)
        return replace(
            state,
            positions_nm=state.positions_nm[index],
            # Where nothing moved not even rounding may touch it.
            carried=torch.where(_moved(source), moved, state.carried),
            forces=forces,
            energies=state.energies[index],
        )


def _sources(accept: Tensor, lower: Tensor, rungs: int) -> Int[Tensor, "chains rungs"]:
    """Return from which rung each rung takes its configuration."""
    source = torch.arange(rungs, device=accept.device).repeat(len(accept), 1)
    source[:, lower] += accept.long()
    source[:, lower + 1] -= accept.long()
    return source


def _moved(source: Int[Tensor, "chains rungs"]) -> Tensor:
    own = torch.arange(source.shape[1], device=source.device)
    return (source != own).flatten()[:, None, None]
