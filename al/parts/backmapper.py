"""The backmapper: chosen frames and what is known of their atoms, handed to processes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from al.backmapping.settings import BackmappingSettings
from al.executor import ProcessExecutor, Task
from al.outcomes import BackmapOutcome, TaskOutcome
from trajgen.data.frame_files import save_atom_frames, save_bead_frames
from trajgen.data.records import AtomFrames, BeadFrames, concatenate
from trajgen.data.store import Dataset
from trajgen.geometry.superposition import nearest_rmsd
from trajgen.progress import Progress
from trajgen.seeding import derive_seed

TASK = "al.backmapping.tasks:backmap_frames"


class ProcessBackmapper:
    """Lifts frames to atoms in processes of their own, a share of the frames each."""

    def __init__(
        self,
        system: Path,
        settings: BackmappingSettings,
        executor: ProcessExecutor,
        seed: int,
        progress: Progress,
    ) -> None:
        self.system = system
        self.settings = settings
        self.executor = executor
        self.seed = seed
        self.progress = progress

    def backmap(
        self,
        round: int,
        chosen: BeadFrames,
        heavy: AtomFrames | None,
        dataset: Dataset,
        folder: Path,
    ) -> list[dict[str, Any]]:
        """Return a record for each frame; accepted ones name the file of their atoms."""
        targets = folder / "targets.safetensors"
        nearest = folder / "nearest.safetensors"
        atoms = folder / "heavy.safetensors"
        if not targets.is_file():
            if heavy is not None:
                save_atom_frames(atoms, heavy)
            if dataset.header.atoms is not None:
                save_atom_frames(nearest, nearest_atoms(chosen, dataset))
            save_bead_frames(targets, chosen)
        # One task a frame: the result of a frame then depends neither on the number of workers
        # nor on its neighbours, and a frame that kills its process takes no other with it.
        tasks = [
            Task(
                name=f"frame-{frame:04d}",
                function=TASK,
                arguments={
                    "system": str(self.system.resolve()),
                    "targets": str(targets.resolve()),
                    "nearest": str(nearest.resolve()) if nearest.is_file() else None,
                    "heavy": str(atoms.resolve()) if atoms.is_file() else None,
                    "frames": [frame],
                    "settings": self.settings.model_dump(mode="json"),
                    "seed": derive_seed(self.seed, "backmap", round),
                },
            )
            for frame in range(chosen.n_frames)
        ]
        results = self.executor.run(tasks, folder, "backmapping", self.progress)
        records = []
        for frame, result in enumerate(results):
            if result.outcome != TaskOutcome.DONE:
                lost = {"frame": frame, "outcome": str(BackmapOutcome.PROCESS_FAILED)}
                records.append({**lost, "reason": f"{result.outcome}: {result.reason}"})
                continue
            record = result.value["frames"][0]
            if record["outcome"] == BackmapOutcome.ACCEPTED:
                record["atoms"] = f"{result.name}/atoms.safetensors"
            records.append(record)
        return records


def nearest_atoms(chosen: BeadFrames, dataset: Dataset) -> AtomFrames:
    """Return for each chosen frame the all-atom frame of the dataset whose beads are nearest."""
    entries = dataset.entries
    known = concatenate([dataset.read_beads(entry) for entry in entries])
    _, index = nearest_rmsd(
        torch.from_numpy(chosen.positions_nm), torch.from_numpy(known.positions_nm)
    )
    ends = np.cumsum([entry.frames for entry in entries])
    parts = []
    for frame in index.tolist():
        shard = int(np.searchsorted(ends, frame, side="right"))
        row = frame - int(ends[shard] - entries[shard].frames)
        parts.append(dataset.read_atoms(entries[shard], [row]))
    return concatenate(parts)
