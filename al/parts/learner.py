"""The learner: both models trained by the same commands that a user runs by hand."""

import logging
import sys
import time
from pathlib import Path
from typing import Literal

from pydantic import Field

from al.executor import last_line, start_process, stop_process
from al.ports import Models
from trajgen.checkpoint import drop_training_state
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.store import Dataset
from trajgen.data.topology import AtomTopology
from trajgen.data.windows import Runs
from trajgen.errors import InputError, WorkError
from trajgen.potential.fit import FitSettings
from trajgen.seeding import derive_seed
from trajgen.settings import Settings, write_settings
from trajgen.surrogate.heavy_atoms import HeavyAtoms
from trajgen.surrogate.resolutions import AlphaCarbons
from trajgen.surrogate.training_settings import TrainSettings

logger = logging.getLogger(__name__)

_POLL_S = 0.2


class LearnerSettings(Settings):
    """How the models are trained.

    Attributes:
        processes: training processes of each model; above 1 they are started by accelerate.
        threads: torch threads of each process.
        together: train both models at the same time (one after the other suits a single GPU).
        device: cpu, cuda or auto.
        continue_potential: from the second round on, train the potential on from that of the round
            before, with old and new frames in every batch, and not from new weights.
    """

    processes: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    together: bool = True
    device: Literal["cpu", "cuda", "auto"] = "auto"
    continue_potential: bool = False


class SubprocessLearner:
    """Starts ``trajgen fit`` and ``trajgen train``; a killed training resumes by itself."""

    def __init__(
        self,
        run: Path,
        settings: LearnerSettings,
        fit: FitSettings,
        train: TrainSettings,
        seed: int,
    ) -> None:
        self.run_folder = run
        self.settings = settings
        self.fit = fit
        self.train = train
        self.seed = seed

    def require_trainable(self, atoms: AtomTopology) -> None:
        """Refuse a molecule that no surrogate of the wanted resolution can be of.

        Raises:
            InputError: it has too few beads, or heavy atoms that do not hang on chains alone.
        """
        resolution = self.train.model.resolution
        try:
            if resolution == "heavy":
                HeavyAtoms.of(atoms.without_hydrogens()[0])
            else:
                AlphaCarbons(alpha_carbon_beads(atoms)[0])
        except InputError as error:
            raise InputError(
                f"surrogate.model.resolution is {resolution}, but {error}; a run keeps its "
                "settings, so name another --out as well"
            ) from error

    def learn(self, round: int, dataset: Dataset, folder: Path) -> Models:
        """Train both models of a round; a checkpoint that is there is finished."""
        models = Models(
            self.run_folder / "potential" / f"{round:03d}",
            self.run_folder / "surrogate" / f"{round:03d}",
        )
        jobs: list[tuple[str, Settings, Path]] = [
            ("fit", self.fit, models.potential),
            ("train", self.train, models.surrogate),
        ]
        wanted = [job for job in jobs if not job[2].exists()]
        for _, _, finished in jobs:
            if finished.exists():  # killed right after the checkpoint, its state may still be there
                drop_training_state(finished)
        groups = [wanted] if self.settings.together else [[job] for job in wanted]
        for group in groups:
            self._run_together(group, round, dataset.path, folder)
        return models

    def count_windows(self, dataset: Dataset) -> int:
        """Count the windows of the surrogate's settings in the dataset, at the shortest lag."""
        runs = Runs.find(dataset.read_timeline())
        lag_ps = self.train.model.shortest_lag_ps or runs.shortest_lag_ps()
        return 0 if lag_ps is None else runs.count(lag_ps, self.train.model.window_frames)

    def _run_together(
        self, jobs: list[tuple[str, Settings, Path]], round: int, dataset: Path, folder: Path
    ) -> None:
        running = []
        begin = time.monotonic()
        try:
            for command, settings, out in jobs:
                config = folder / f"{command}.yaml"
                write_settings(config, settings)
                log = folder / f"{command}.log"
                full = self._command(command, config, round, dataset, out)
                logger.info("training: trajgen %s to %s, log in %s", command, out, log)
                log.unlink(missing_ok=True)
                with log.open("ab") as stream:
                    running.append(
                        (command, log, start_process(full, stream, self.settings.threads))
                    )
            shown = {command: 0 for command, _, _ in running}
            while True:
                codes = {command: process.poll() for command, _, process in running}
                for command, log, _ in running:
                    shown[command] = _relay(log, shown[command], command)
                    if codes[command] not in (None, 0):
                        raise WorkError(
                            f"trajgen {command} of round {round} failed: {last_line(log)} "
                            f"(the whole log is {log})"
                        )
                if all(code == 0 for code in codes.values()):
                    break
                time.sleep(_POLL_S)
        finally:
            for _, _, process in running:
                stop_process(process)
        logger.info("training of round %d took %.0f s", round, time.monotonic() - begin)

    def _command(
        self, command: str, config: Path, round: int, dataset: Path, out: Path
    ) -> list[str]:
        launcher = [sys.executable]
        if self.settings.processes > 1:
            # Without --multi_gpu the launcher starts one process where there is no GPU.
            launcher += ["-m", "accelerate.commands.launch", "--multi_gpu"]
            launcher += ["--num_processes", str(self.settings.processes)]
            # A free port: both trainings may start at once, and 29500 is for one of them.
            launcher += ["--main_process_port", "0"]
        return [
            *launcher,
            *("-m", "trajgen.cli", command, str(dataset), "--out", str(out)),
            *("--config", str(config)),
            *("--seed", str(derive_seed(self.seed, command, round))),
            *("--device", self.settings.device),
            *self._start(command, round),
        ]

    def _start(self, command: str, round: int) -> list[str]:
        """Return the flag that names the potential of the round before, where there is one."""
        before = self.run_folder / "potential" / f"{round - 1:03d}"
        if command != "fit" or not self.settings.continue_potential or not before.exists():
            return []
        return ["--continue-from", str(before)]


def _relay(log: Path, offset: int, command: str) -> int:
    """Show the whole lines that a training wrote since ``offset``; return the new offset."""
    with log.open("rb") as stream:
        stream.seek(offset)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        logger.info("%s | %s", command, line[9:] if line[2:3] == ":" else line)
    return offset + len(whole)
