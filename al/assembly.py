"""Settings to concrete parts to loop; the only place that names every part."""

import logging
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from al.backmapping.settings import BackmappingSettings
from al.executor import ExecutorSettings, ProcessExecutor
from al.ledger import Ledger, RunLock, read_events
from al.loop import Loop, Parts, evaluated_rounds, planned_steps
from al.molecule.settings import SystemSettings
from al.oracle.settings import OracleSettings
from al.parts.backmapper import ProcessBackmapper
from al.parts.evaluator import ReferenceEvaluator
from al.parts.explorer import ExplorationSettings, TwoGeneratorExplorer
from al.parts.judge import NoiseJudge
from al.parts.learner import LearnerSettings, SubprocessLearner
from al.parts.oracle import ProcessOracle
from al.parts.reporter import HtmlReporter
from al.parts.sampler import MoleculeSampler, SamplingSettings
from al.parts.selector import RuleSelector
from al.selection.settings import SelectionSettings
from al.status import RecordingProgress
from trajgen.analysis.evaluate import EvaluationSettings
from trajgen.errors import InputError
from trajgen.potential.fit import FitSettings
from trajgen.progress import Progress
from trajgen.settings import Settings, apply_override, parse_settings, read_yaml, write_settings
from trajgen.surrogate.train import TrainSettings

logger = logging.getLogger(__name__)


class RunSettings(Settings):
    """Everything that a run of the loop depends on.

    In the YAML file any section may be the path of another YAML file, relative to the first.

    Attributes:
        system: the molecule and its force field.
        seed: base of every random draw.
        rounds: rounds of active learning after round 0.
        sampling: plain all-atom dynamics before round 0.
        potential: fitting of the CGSchNet potential.
        surrogate: training of the trajectory surrogate.
        learner: how both trainings are started.
        exploration: what both generators do.
        selection: which of their frames are chosen.
        backmapping: how chosen frames are lifted to atoms.
        oracle: the all-atom run from each.
        evaluation: the measures.
        executor: processes of all-atom work.
    """

    system: SystemSettings
    seed: int = Field(default=0, ge=0)
    rounds: int = Field(default=2, ge=0)
    sampling: SamplingSettings = SamplingSettings()
    potential: FitSettings = FitSettings()
    surrogate: TrainSettings = TrainSettings()
    learner: LearnerSettings = LearnerSettings()
    exploration: ExplorationSettings = ExplorationSettings()
    selection: SelectionSettings = SelectionSettings()
    backmapping: BackmappingSettings = BackmappingSettings()
    oracle: OracleSettings = OracleSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    executor: ExecutorSettings = ExecutorSettings()


def load_run_settings(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> RunSettings:
    """Read the settings of a run; sections that are paths are read from their files.

    Raises:
        InputError: a file that is missing, an unknown key, a value of the wrong kind, or settings
            that cannot work together.
    """
    values = read_yaml(path)
    for name, section in values.items():
        if isinstance(section, str):
            file = path.parent / section
            values[name] = read_yaml(file)
            if name == "system":
                anchor_pdb(values[name], file.parent)
    if isinstance(values.get("system"), dict):
        anchor_pdb(values["system"], path.parent)
    for override in overrides:
        apply_override(values, override)
    settings = parse_settings(RunSettings, values, str(path))
    _check_together(settings)
    return settings


def anchor_pdb(system: dict[str, Any], folder: Path) -> None:
    """Make the path of a PDB file in raw system settings absolute."""
    if isinstance(system.get("pdb"), str):
        system["pdb"] = str((folder / system["pdb"]).resolve())


def _check_together(settings: RunSettings) -> None:
    oracle, lag_ps = settings.oracle, settings.surrogate.model.lag_ps
    if oracle.ps < 2 * lag_ps:
        raise InputError(
            f"oracle.ps is {oracle.ps:g}, shorter than two surrogate lags of {lag_ps:g} ps: the "
            "surrogate could not learn from it; make oracle.ps longer, or surrogate.model.lag_ps "
            "shorter"
        )
    for name, interval in (
        ("sampling.save_interval_ps", settings.sampling.save_interval_ps),
        ("oracle.save_interval_ps", oracle.save_interval_ps),
    ):
        ratio = lag_ps / interval
        if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
            raise InputError(
                f"surrogate.model.lag_ps {lag_ps:g} is no multiple of {name} {interval:g}; "
                "choose a multiple"
            )


def run_loop(settings: RunSettings, run: Path, progress: Progress) -> list[str]:
    """Run the loop in a folder, or go on with the run that is there; return the verdict.

    Raises:
        InputError: the folder holds something else, a run of other settings, or a run that
            another process is working on.
    """
    _open_run(settings, run)
    lock = RunLock(run)
    try:
        clear_partial(run)
        ledger = Ledger.open(run / "ledger.jsonl")
        ledger.note_opened({"rounds": settings.rounds, "steps": planned_steps(settings.rounds)})
        recording = RecordingProgress(progress, run / "progress.json")
        parts = assemble(settings, run, recording)
        return Loop(run, settings.rounds, parts, ledger).run()
    finally:
        lock.release()


def assemble(settings: RunSettings, run: Path, progress: Progress) -> Parts:
    """Build the parts of a run."""
    executor = ProcessExecutor(settings.executor)
    system, seed = run / "system", settings.seed
    return Parts(
        sampler=MoleculeSampler(run, settings.system, settings.sampling, executor, seed, progress),
        learner=SubprocessLearner(
            run, settings.learner, settings.potential, settings.surrogate, seed
        ),
        explorer=TwoGeneratorExplorer(settings.exploration, seed, progress),
        selector=RuleSelector(settings.selection, seed),
        backmapper=ProcessBackmapper(system, settings.backmapping, executor, seed, progress),
        oracle=ProcessOracle(
            system, settings.oracle, settings.sampling.force_map, executor, seed, progress
        ),
        evaluator=ReferenceEvaluator(run / "reference", settings.evaluation, seed),
        judge=NoiseJudge(),
        reporter=HtmlReporter(),
    )


def _open_run(settings: RunSettings, run: Path) -> None:
    file = run / "settings.yaml"
    if not file.exists():
        if run.exists() and any(run.iterdir()):
            raise InputError(f"{run} is not empty and holds no run; name another --out")
        run.mkdir(parents=True, exist_ok=True)
        write_settings(file, settings)
        return
    old = read_yaml(file)
    difference = first_difference(old, settings.model_dump(mode="json"))
    if difference is not None:
        raise InputError(
            f"{run} was begun with other settings: {difference}; name another --out, or go on "
            "with the settings of that run"
        )
    logger.info("going on with the run in %s", run)


def first_difference(old: Any, new: Any, where: str = "") -> str | None:
    """Return the first dotted key at which two nested settings differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=str):
            dotted = f"{where}.{key}" if where else str(key)
            found = first_difference(old.get(key), new.get(key), dotted)
            if found is not None:
                return found
        return None
    if old == new:
        return None
    return f"{where} is {old!r} there and {new!r} now"


def clear_partial(run: Path) -> None:
    """Remove what processes that were killed left half-written under temporary names."""
    for left in run.rglob(".*.partial*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_report_of(run: Path) -> Path:
    """Write the report of a run again, also of one that is still on.

    Raises:
        InputError: the folder holds no run, or no round of it is evaluated yet.
    """
    history = evaluated_rounds(Ledger(run, read_events(run / "ledger.jsonl")))
    if not history:
        raise InputError(f"{run} has no evaluated round to report on; see al status {run}")
    return HtmlReporter().report(run, NoiseJudge().judge(history))
