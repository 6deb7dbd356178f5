"""The oracle: a short all-atom run from each accepted frame, and its answers into the dataset."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al.executor import ProcessExecutor, Task, TaskResult
from al.molecule.molecule import Molecule
from al.oracle.settings import OracleSettings
from al.outcomes import BackmapOutcome, TaskOutcome
from trajgen.data.frame_files import load_atom_frames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset
from trajgen.progress import Progress
from trajgen.seeding import derive_seed

logger = logging.getLogger(__name__)

TASK = "al.oracle.tasks:run_segment"


class ProcessOracle:
    """Runs a task for each accepted frame; a finished one is never asked again."""

    def __init__(
        self,
        system: Path,
        settings: OracleSettings,
        force_map: str,
        executor: ProcessExecutor,
        seed: int,
        progress: Progress,
    ) -> None:
        self.system = system
        self.settings = settings
        self.force_map = force_map
        self.executor = executor
        self.seed = seed
        self.progress = progress

    def query(
        self, round: int, backmapped: list[dict[str, Any]], atoms: Path, folder: Path
    ) -> list[TaskResult]:
        """Return the answers in the order of the frames."""
        tasks = [
            Task(
                name=f"frame-{record['frame']:04d}",
                function=TASK,
                arguments={
                    "system": str(self.system.resolve()),
                    "atoms": str((atoms / record["atoms"]).resolve()),
                    "frame": 0,
                    "parent": record["frame"],
                    "settings": self.settings.model_dump(mode="json"),
                    "seed": derive_seed(self.seed, "oracle", round, record["frame"]),
                    "scratch": str((folder / f"frame-{record['frame']:04d}.scratch").resolve()),
                },
            )
            for record in backmapped
            if record["outcome"] == BackmapOutcome.ACCEPTED
        ]
        if not tasks:
            return []
        results = self.executor.run(tasks, folder, "oracle", self.progress)
        for result in results:
            if result.outcome == TaskOutcome.DONE:  # others may be asked again, and go on there
                shutil.rmtree(folder / f"{result.name}.scratch", ignore_errors=True)
        return results

    def append(self, round: int, results: Sequence[TaskResult], dataset: Dataset) -> dict[str, Any]:
        """Append a shard for each answer, in the order of the frames."""
        molecule = Molecule.load(self.system)
        accepted = [result for result in results if result.outcome == TaskOutcome.DONE]
        for result in accepted:
            name = f"r{round:03d}-{result.name}"
            if dataset.has(name) or result.folder is None:
                continue
            frames = load_atom_frames(result.folder / "frames.safetensors")
            label = ShardLabel(
                name=name,
                source="oracle",
                hamiltonian=molecule.settings.hamiltonian,
                temperature_K=molecule.settings.temperature_K,
                save_interval_ps=self.settings.save_interval_ps,
                round=round,
                seed=result.value["seed"],
                oracle_ps=result.value["oracle_ps"],
                constraint_groups=molecule.constraint_groups,
                force_map=self.force_map,
                sampling="seeded",
            )
            parents = np.full(frames.n_frames, result.value["parent"], dtype=np.int64)
            dataset.append_atoms(label, frames, parents)
        return {
            "accepted": len(accepted),
            "failed": len(results) - len(accepted),
            "frames": sum(result.value["frames"] for result in accepted),
            "oracle_ps": sum(result.value["oracle_ps"] for result in accepted),
        }
