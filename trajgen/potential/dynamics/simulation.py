"""Chains under way: the one loop that steps them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from trajgen.data.topology import BeadTopology
from trajgen.potential.dynamics.force_field import force_field
from trajgen.potential.dynamics.integrators import make_integrator
from trajgen.potential.dynamics.noise import NOISE_BLOCK, ChainNoise
from trajgen.potential.dynamics.recorded_step import RecordedStep, require_recordable
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.starts import bond_index, require_starts
from trajgen.potential.dynamics.state import State
from trajgen.potential.dynamics.step import Step
from trajgen.potential.dynamics.temperature import Thermometer
from trajgen.potential.dynamics.tempering import Exchange
from trajgen.potential.dynamics.time_step import warn_before
from trajgen.potential.potential import Potential
from trajgen.progress import ProgressTask
from trajgen.units import thermal_energy

logger = logging.getLogger(__name__)


class Simulation:
    """Chains under way, each at one temperature or at a ladder of them.

    Attributes:
        settings: choices.
        temperatures_K: the temperatures of each chain, the lowest first.
        step: steps done.
        state: the replicas; those of a chain follow each other.
        exchange: exchanges between temperatures, and their counts.
        thermometer: the temperatures that are measured.
    """

    def __init__(
        self,
        potential: Potential,
        starts_nm: Float32[np.ndarray, "chains beads 3"],
        settings: SimulationSettings,
        seed: int,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Place chains at their starts; arguments and errors are those of ``simulate``."""
        numbers = range(len(starts_nm)) if numbers is None else numbers
        require_starts(potential, starts_nm, settings, numbers)
        warn_before(potential, settings)
        _warn_of_chains(potential.topology)
        self.settings, self.topology = settings, potential.topology
        self.temperatures_K = settings.ladder(settings.temperature_K or potential.temperature_K)
        like = torch.zeros_like(potential.priors.bond.stiffness, requires_grad=False)
        if settings.recorded:
            require_recordable(like.device)
        rungs = len(self.temperatures_K)
        replicas = rungs * len(starts_nm)
        kT = like.new_tensor([thermal_energy(t) for t in self.temperatures_K])
        self._integrator = make_integrator(settings, kT.repeat(len(starts_nm))[:, None, None])
        self._noise = ChainNoise(seed, numbers, rungs, potential.topology.n_beads, like)
        self.exchange = Exchange(seed, numbers, self.temperatures_K, like)
        self.thermometer = Thermometer(potential.priors.bond, settings, replicas)
        self.step = 0
        bonds = bond_index(potential).to(like.device)
        step = Step(force_field(potential), bonds, self._integrator)
        noise = self._noise.first()
        self.state = step.begin(torch.tensor(starts_nm).to(like).repeat_interleave(rungs, 0), noise)
        self._step = RecordedStep(step, self.state, noise) if settings.recorded else step

    @property
    def total_steps(self) -> int:
        """The steps up to the last saved frame; steps beyond it would be seen by nobody."""
        return self.settings.n_frames * self.settings.save_every

    @property
    def frames_done(self) -> int:
        """The number of frames that were saved already."""
        return self.step // self.settings.save_every

    def run(self, task: ProgressTask) -> Iterator[Float32[Tensor, "chains beads 3"] | None]:
        """Go on to the end, or until no chain is whole at the lowest temperature.

        Yields:
            A saved frame of the lowest temperature, NaN where a chain is not alive; and None at
            other steps at which the simulation may be stored.
        """
        while self.step < self.total_steps and bool(self.base(self.state.alive).any()):
            to_frame = self.settings.save_every - self.step % self.settings.save_every
            stretch = min(to_frame, NOISE_BLOCK - self.step % NOISE_BLOCK)
            self._advance(stretch)
            frame = self._save() if stretch == to_frame else None
            lost = "" if frame is None else self._count_lost()
            task.advance(stretch, lost)
            yield frame

    def base(self, values: Tensor) -> Tensor:
        """Return the entries of the lowest temperature."""
        return values[:: len(self.temperatures_K)]

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that a resumed run needs, beside the number of steps done."""
        return {
            **self.state.tensors(),
            "exchanges_attempted": self.exchange.attempted,
            "exchanges_accepted": self.exchange.accepted,
            **self.thermometer.tensors(),
        }

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Go on from where ``tensors`` were taken."""
        device = self.state.positions_nm.device
        own = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.exchange.attempted = own.pop("exchanges_attempted")
        self.exchange.accepted = own.pop("exchanges_accepted")
        self.thermometer.restore(own)
        self.state, self.step = State(**own), step

    @torch.no_grad()
    def _advance(self, steps: int) -> None:
        tempering, total_steps = self.settings.tempering, self.total_steps
        for _ in range(steps):
            self.state = self._step(self.state, self._noise.of_step(self.step))
            self.step += 1
            if tempering is not None and self.step % tempering.exchange_every == 0:
                attempt = self.step // tempering.exchange_every - 1
                self.state = self.exchange.apply(self.state, attempt, self._integrator)
            if self.thermometer.wants(self.step, total_steps):
                self.thermometer.measure(self.state, self._integrator)

    @torch.no_grad()
    def _save(self) -> Float32[Tensor, "chains beads 3"]:
        """Centre the replicas, and return those of the lowest temperature that are alive."""
        state = self.state
        self.state = replace(state, positions_nm=centred(state.positions_nm))
        alive = self.base(state.alive)[:, None, None]
        return torch.where(alive, self.base(self.state.positions_nm), torch.nan).float().cpu()

    def _count_lost(self) -> str:
        alive = self.base(self.state.alive)
        lost = len(alive) - int(alive.sum())
        return f"{lost} of {len(alive)} chains lost" if lost else ""


def centred(positions_nm: Tensor) -> Tensor:
    """Return chains with their centre at the origin; a potential does not feel where they are."""
    return positions_nm - positions_nm.mean(dim=1, keepdim=True)


def _warn_of_chains(topology: BeadTopology) -> None:
    chains = len(set(topology.chains))
    if chains > 1:
        logger.warning(
            "the %d chains of the molecule are held together by nothing but what the network has "
            "learnt within its cutoff: chains that part do not come back, and count as they are",
            chains,
        )
