"""The explorer: rollouts of both generators, first evaluated, then searched for new frames."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import Field

from al.ports import Candidates, Models
from trajgen.data.frame_files import load_rollouts, save_rollouts
from trajgen.data.mapping import bead_rollouts
from trajgen.data.records import AtomFrames, BeadFrames, Rollouts, concatenate, join_chunks
from trajgen.data.store import Dataset
from trajgen.data.stored_positions import StoredPositions
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.device import choose_device
from trajgen.errors import InputError, WorkError
from trajgen.geometry.superposition import rmsd
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.potential import Potential
from trajgen.progress import Progress
from trajgen.seeding import derive_seed, numpy_generator
from trajgen.settings import Settings
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.filling import interpolate
from trajgen.surrogate.forward import forward
from trajgen.surrogate.surrogate import Surrogate

logger = logging.getLogger(__name__)

#: The generators, in the order of the source numbers of candidates.
SOURCES = ("potential", "surrogate", "interpolation")

#: So many random pairs of known frames are compared to find ends that lie far apart.
_PAIRS_TRIED = 64


class PotentialExploration(Settings):
    """Langevin dynamics with the potential."""

    chains: int = Field(default=64, ge=1)
    dynamics: SimulationSettings = SimulationSettings()


class SurrogateExploration(Settings):
    """Forward rollouts of the surrogate, and paths between known frames that lie far apart.

    Attributes:
        replicas: rollouts, from starts drawn by weight.
        frames: frames of each.
        lag_ps: time between frames; None for the shortest that the surrogate was trained at.
        pairs: pairs of known frames that paths are generated between.
        paths_per_pair: paths of each pair, as long as the surrogate's windows.
        sampling: how windows are sampled.
    """

    replicas: int = Field(default=32, ge=1)
    frames: int = Field(default=64, ge=2)
    lag_ps: float | None = Field(default=None, gt=0)
    pairs: int = Field(default=4, ge=0)
    paths_per_pair: int = Field(default=4, ge=1)
    sampling: RolloutSettings = RolloutSettings()


class ExplorationSettings(Settings):
    """What both generators do in each round.

    Attributes:
        potential: Langevin dynamics.
        surrogate: rollouts and paths.
        device: cpu, cuda or auto.
        threads: torch threads.
    """

    potential: PotentialExploration = PotentialExploration()
    surrogate: SurrogateExploration = SurrogateExploration()
    device: Literal["cpu", "cuda", "auto"] = "auto"
    threads: int = Field(default=1, ge=1)


class TwoGeneratorExplorer:
    """Runs both generators from frames of the dataset."""

    def __init__(self, settings: ExplorationSettings, seed: int, progress: Progress) -> None:
        self.settings = settings
        self.seed = seed
        self.progress = progress

    def explore(self, round: int, models: Models, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Write the rollouts that are not there yet."""
        device = choose_device(self.settings.device)
        known = dataset.read_all_beads()
        makers = {
            "potential": lambda: self._dynamics(round, models.potential, known, device),
            "surrogate": lambda: self._rollouts(round, models.surrogate, dataset, known, device),
            "interpolation": lambda: self._paths(round, models.surrogate, dataset, known, device),
        }
        summary = {}
        for source in SOURCES:
            file = folder / f"{source}.safetensors"
            if source == "interpolation" and self.settings.surrogate.pairs == 0:
                continue
            if not file.is_file():
                made = makers[source]()
                if isinstance(made.topology, AtomTopology):
                    save_rollouts(folder / f"{source}_atoms.safetensors", made)
                save_rollouts(file, bead_rollouts(made))
            rollouts = load_rollouts(file)
            summary[source] = {
                "chains": rollouts.positions_nm.shape[0],
                "frames": int(rollouts.alive.size),
                "frames_lost": rollouts.n_lost,
                "chains_lost": int((~rollouts.alive[:, -1]).sum()),
            }
        return summary

    def candidates(self, round: int, folder: Path) -> Candidates:
        """Read all rollouts of an exploration, and what chains looked like before they broke.

        Where every chain of a generator broke before its first frame was saved, the latter are all
        that it proposes.

        Raises:
            WorkError: no chain of any generator lived to see a frame.
        """
        parts: list[BeadFrames] = []
        sources: list[np.ndarray] = []
        heavy: list[AtomFrames] = []
        count, alive = 0, 0
        for number, source in enumerate(SOURCES):
            file = folder / f"{source}.safetensors"
            if not file.is_file():
                continue
            rollouts = load_rollouts(file)
            frames = rollouts.to_frames()
            alive += frames.n_frames
            if rollouts.losses:
                frames = concatenate([frames, _before_breaks(rollouts, frames.topology)])
            if not frames.n_frames:
                continue
            atoms = folder / f"{source}_atoms.safetensors"
            if atoms.is_file():
                # The segment is the number among all candidates.
                found = load_rollouts(atoms).to_atom_frames()
                numbers = count + np.arange(found.n_frames, dtype=np.int64)
                heavy.append(replace(found, segments=numbers, time_step_ps=None))
            parts.append(frames)
            sources.append(np.full(frames.n_frames, number, dtype=np.int64))
            count += frames.n_frames
        if not alive:
            raise WorkError(
                f"every chain of both generators failed in round {round}, see {folder}; begin a "
                "new run with more data (sampling.ps) or more steps of training"
            )
        return Candidates(
            concatenate(parts),
            np.concatenate(sources),
            SOURCES,
            join_chunks(heavy) if heavy else None,
        )

    def _dynamics(
        self, round: int, path: Path, known: BeadFrames, device: torch.device
    ) -> Rollouts:
        settings = self.settings.potential
        seed = derive_seed(self.seed, "explore-potential", round)
        starts = known.positions_nm[self._starts(known, settings.chains, seed)]
        potential = Potential.load(path, device)
        return simulate(potential, starts, settings.dynamics, seed, self.progress)

    def _rollouts(
        self, round: int, path: Path, dataset: Dataset, known: BeadFrames, device: torch.device
    ) -> Rollouts:
        settings = self.settings.surrogate
        seed = derive_seed(self.seed, "explore-surrogate", round)
        surrogate = load_surrogate(path, device)
        starts = self._starts(known, settings.replicas, seed)
        return forward(
            surrogate,
            _sites(surrogate, dataset).read(torch.from_numpy(starts)).numpy(),
            settings.frames,
            settings.lag_ps or surrogate.lags_ps[0],
            settings.sampling,
            seed,
            self.progress,
        )

    def _paths(
        self, round: int, path: Path, dataset: Dataset, known: BeadFrames, device: torch.device
    ) -> Rollouts:
        settings = self.settings.surrogate
        surrogate = load_surrogate(path, device)
        sites = _sites(surrogate, dataset)
        parts = []
        with self.progress.task("paths between known frames", settings.pairs) as shown:
            for pair in range(settings.pairs):
                seed = derive_seed(self.seed, "explore-paths", round, pair)
                start, end = sites.read(torch.from_numpy(self._distant_pair(known, seed))).numpy()
                parts.append(
                    interpolate(
                        surrogate,
                        start,
                        end,
                        surrogate.settings.window_frames,
                        settings.paths_per_pair,
                        settings.lag_ps or surrogate.lags_ps[0],
                        settings.sampling,
                        seed,
                    )
                )
                shown.advance()
        return Rollouts(
            topology=parts[0].topology,
            positions_nm=np.concatenate([part.positions_nm for part in parts]),
            alive=np.concatenate([part.alive for part in parts]),
            time_step_ps=parts[0].time_step_ps,
        )

    def _starts(self, known: BeadFrames, count: int, seed: int) -> Int64[np.ndarray, " chains"]:
        """Return known frames, drawn by weight."""
        generator = numpy_generator(derive_seed(seed, "starts"))
        chance = None if known.weights is None else known.weights / known.weights.sum()
        return generator.choice(known.n_frames, count, p=chance)

    def _distant_pair(self, known: BeadFrames, seed: int) -> Int64[np.ndarray, "2"]:
        """Return two known frames that lie far apart."""
        generator = numpy_generator(derive_seed(seed, "pair"))
        pairs = generator.integers(known.n_frames, size=(_PAIRS_TRIED, 2))
        ends = torch.from_numpy(known.positions_nm[pairs])
        farthest = int(rmsd(ends[:, 0], ends[:, 1]).argmax())
        return pairs[farthest]


def _before_breaks(rollouts: Rollouts, topology: BeadTopology) -> BeadFrames:
    """Return what chains looked like in the last step before they broke: where a model fails."""
    held_nm = np.stack([loss.last_frames_nm[-1] for loss in rollouts.losses])
    return BeadFrames(topology, held_nm, np.arange(len(held_nm), dtype=np.int64))


def _sites(surrogate: Surrogate, dataset: Dataset) -> StoredPositions:
    """Return the positions of all known frames, of what a surrogate moves."""
    if isinstance(surrogate.topology, BeadTopology):
        return StoredPositions.of_beads(dataset)
    if dataset.header.atoms is None:
        raise InputError(f"dataset {dataset.path} is of beads, and the surrogate of atoms")
    return StoredPositions.of_atoms(
        dataset, torch.tensor(dataset.header.atoms.without_hydrogens()[1])
    )
