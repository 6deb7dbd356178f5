"""The sampler: plain all-atom dynamics from the named starts, for training and for reference."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from al.executor import ProcessExecutor, Task, TaskResult
from al.lock import FolderLock
from al.molecule.build import build_system
from al.molecule.dynamics import deterministic_platform, steps_in
from al.molecule.molecule import Molecule, system_digest
from al.molecule.settings import SystemSettings
from al.outcomes import TaskOutcome
from trajgen.data.frame_files import load_atom_frames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset
from trajgen.data.topology import AtomTopology
from trajgen.errors import InputError, WorkError
from trajgen.files import read_json, refuse_existing, write_json
from trajgen.progress import Progress
from trajgen.seeding import derive_seed
from trajgen.settings import Settings

logger = logging.getLogger(__name__)

TASK = "al.molecule.sampling:sample_segment"


class SamplingSettings(Settings):
    """Plain all-atom dynamics before round 0.

    Attributes:
        replicas: independent runs for training; they take the named starts in turn.
        ps: length of each run that is saved.
        reference_replicas: independent runs for the reference, never trained on.
        reference_ps: length of each reference run that is saved.
        equilibration_ps: time before the saved part of every run.
        save_interval_ps: time between saved frames.
        force_map: map of the forces to beads, ``aggregate`` or ``slice``.
    """

    replicas: int = Field(default=4, ge=1)
    ps: float = Field(default=1000.0, gt=0)
    reference_replicas: int = Field(default=4, ge=2)
    reference_ps: float = Field(default=1000.0, gt=0)
    equilibration_ps: float = Field(default=20.0, ge=0)
    save_interval_ps: float = Field(default=1.0, gt=0)
    force_map: str = Field(default="aggregate", pattern="^(aggregate|slice)$")


class MoleculeSampler:
    """Builds the system of a run and fills its dataset and its reference."""

    def __init__(
        self,
        run: Path,
        system: SystemSettings,
        settings: SamplingSettings,
        executor: ProcessExecutor,
        seed: int,
        progress: Progress,
        require: Callable[[AtomTopology], None],
    ) -> None:
        """Take the settings, and ``require``, which refuses atoms that later steps cannot take."""
        self.run_folder = run
        self.system = system
        self.settings = settings
        self.executor = executor
        self.seed = seed
        self.progress = progress
        self.require = require

    def sample(self, folder: Path) -> dict[str, Any]:
        """Build, run all replicas, and write ``dataset/`` and ``reference/``.

        Raises:
            InputError: the system cannot be built, or the rest of the loop cannot take it.
            WorkError: every replica failed.
        """
        system = self.run_folder / "system"
        if not system.is_dir():
            logger.info("building the system of %s", self.system.name)
            build_system(self.system, system, Path("/"))
        self.require(Molecule.load(system).topology)  # now, and not after all dynamics
        chosen = self.settings
        groups = {
            "dataset": (chosen.replicas, chosen.ps),
            "reference": (chosen.reference_replicas, chosen.reference_ps),
        }
        tasks = {
            group: sampling_tasks(system, group, count, ps, chosen, self.seed, folder)
            for group, (count, ps) in groups.items()
        }
        together = [task for group in tasks.values() for task in group]
        results = self.executor.run(
            together, folder, "all-atom dynamics", self.progress, limited=False
        )
        by_name = {result.name: result for result in results}
        summary: dict[str, Any] = {}
        for group, own in tasks.items():
            answers = [by_name[task.name] for task in own]
            summary[group] = append_samples(self.run_folder / group, system, answers, chosen)
        for scratch in folder.glob("*.scratch"):  # the chunks of replicas that are whole by now
            shutil.rmtree(scratch)
        return summary


def sample_dataset(
    system: Path,
    out: Path,
    settings: SamplingSettings,
    executor: ProcessExecutor,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Run plain all-atom dynamics of a built system and write a dataset; resumable.

    Until the dataset is whole, the runs lie beside it in ``NAME.sampling``. The solute's
    trajectories end up in its folder ``trajectories``, as XTC with a topology.

    Args:
        system: folder of a built system.
        out: dataset to write.
        settings: replicas, lengths and force map; the reference replicas are not run.
        executor: where the replicas run.
        seed: base of every random draw.
        progress: reports finished replicas.

    Raises:
        InputError: ``out`` exists, an unfinished run there is of another system or has other
            settings, or another process is at work on it.
        WorkError: every replica failed.
    """
    refuse_existing(out)
    scratch = out.with_name(out.name + ".sampling")
    # What cannot work is refused before a scratch folder is claimed.
    deterministic_platform(executor.settings.device)
    step_ps = Molecule.load(system).settings.time_step_ps
    steps_in(settings.save_interval_ps, step_ps, "save_interval_ps (in time steps)")
    steps_in(settings.ps, settings.save_interval_ps, "ps (in save intervals)")
    tasks = sampling_tasks(
        system, "replica", settings.replicas, settings.ps, settings, seed, scratch
    )
    order = {
        "system": str(system.resolve()),
        "system_sha256": system_digest(system),
        "seed": seed,
        **settings.model_dump(),
    }
    scratch.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(scratch)
    try:
        refuse_existing(out)  # another process may have made it meanwhile
        require_same_order(scratch, order)
        results = executor.run(tasks, scratch, "all-atom dynamics", progress, limited=False)
        dataset = scratch / "dataset"
        shutil.rmtree(dataset, ignore_errors=True)
        summary = append_samples(dataset, system, results, settings)
        _keep_trajectories(results, system, dataset / "trajectories")
        dataset.rename(out)
        shutil.rmtree(scratch)
    finally:
        lock.release()
    return summary


def _keep_trajectories(results: list[TaskResult], system: Path, folder: Path) -> None:
    """Put the solute's trajectories, and the topology to open them with, beside the shards."""
    folder.mkdir()
    shutil.copyfile(system / "topology.pdb", folder / "topology.pdb")
    for result in results:
        if result.folder is not None:
            shutil.copyfile(result.folder / "trajectory.xtc", folder / f"{result.name}.xtc")


def require_same_order(scratch: Path, order: dict[str, Any]) -> None:
    """Note in a folder what is sampled there, or see that what lies there is of the same.

    Raises:
        InputError: it is of another order.
    """
    file = scratch / "order.json"
    if not file.is_file():
        write_json(file, order)
    elif read_json(file) != order:
        raise InputError(
            f"{scratch} holds an unfinished sampling of another system or with other settings; "
            "repeat those, or remove the folder to begin anew"
        )


def sampling_tasks(
    system: Path,
    group: str,
    replicas: int,
    ps: float,
    settings: SamplingSettings,
    seed: int,
    scratch: Path,
) -> list[Task]:
    """Return a task for each replica; the named starts are taken in turn."""
    starts = list(Molecule.load(system).starts)
    return [
        Task(
            name=f"{group}-{replica:03d}",
            function=TASK,
            arguments={
                "system": str(system.resolve()),
                "start": starts[replica % len(starts)],
                "seed": derive_seed(seed, f"sample-{group}", 0, replica),
                "ps": ps,
                "equilibration_ps": settings.equilibration_ps,
                "save_interval_ps": settings.save_interval_ps,
                "scratch": str((scratch / f"{group}-{replica:03d}.scratch").resolve()),
            },
        )
        for replica in range(replicas)
    ]


def append_samples(
    path: Path, system: Path, results: list[TaskResult], settings: SamplingSettings
) -> dict[str, Any]:
    """Write the replicas that are not there yet to a dataset, a shard each, in their order.

    Raises:
        WorkError: every replica failed.
    """
    molecule = Molecule.load(system)
    done = [result for result in results if result.outcome == TaskOutcome.DONE]
    if not done:
        first = results[0]
        raise WorkError(
            f"all {len(results)} replicas failed; the first said: {first.reason}; mend the cause, "
            f"remove {first.record} and its like, and run the same command again"
        )
    for result in results:
        if result.outcome != TaskOutcome.DONE:
            logger.warning("replica %s is left out: %s", result.name, result.reason)
    if not path.exists():
        Dataset.create(path, molecule.dataset_header())
    dataset = Dataset.open(path, writer=True)
    for result in done:
        if dataset.has(result.name):
            continue
        frames = load_atom_frames(result.folder / "frames.safetensors")  # type: ignore[operator]
        label = ShardLabel(
            name=result.name,
            source="sample",
            hamiltonian=molecule.settings.hamiltonian,
            temperature_K=molecule.settings.temperature_K,
            save_interval_ps=settings.save_interval_ps,
            seed=result.value["seed"],
            oracle_ps=result.value["oracle_ps"],
            constraint_groups=molecule.constraint_groups,
            force_map=settings.force_map,
        )
        dataset.append_atoms(label, frames)
    return {
        "frames": dataset.n_frames,
        "oracle_ps": dataset.oracle_ps,
        "replicas": len(done),
        "failed": len(results) - len(done),
    }
