"""Settings to concrete parts to loop; the only place that names every part."""

import copy
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from al.backmapping.settings import BackmappingSettings
from al.executor import ExecutorSettings, ProcessExecutor
from al.ledger import Ledger, RunLock, read_events
from al.loop import Loop, Parts, evaluated_rounds, planned_steps, run_metrics
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
from trajgen.device import fix_threads
from trajgen.errors import InputError
from trajgen.potential.ensemble_settings import EnsembleSettings
from trajgen.potential.fit import FitSettings
from trajgen.progress import Progress
from trajgen.settings import Settings, apply_override, parse_settings, read_yaml, write_settings
from trajgen.surrogate.training_settings import TrainSettings

logger = logging.getLogger(__name__)


class LoopFitSettings(FitSettings):
    """Choices of a fit in the loop: those of ``trajgen fit``, but by default of forces alone.

    Frames that start from chosen conformations teach forces, not populations. To match the ensemble
    of the first short run, which has not seen most of them, would keep the chains where it was.
    """

    ensemble: EnsembleSettings | None = None


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
    potential: LoopFitSettings = LoopFitSettings()
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
        if isinstance(section, str) and name in _sections():
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


def _sections() -> list[str]:
    return [
        name
        for name, field in RunSettings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    ]


def anchor_pdb(system: dict[str, Any], folder: Path) -> None:
    """Make the path of a PDB file in raw system settings absolute."""
    if isinstance(system.get("pdb"), str):
        system["pdb"] = str((folder / system["pdb"]).resolve())


def _check_together(settings: RunSettings) -> None:
    """Refuse now what would only fail after hours."""
    sampling, oracle = settings.sampling, settings.oracle
    model = settings.surrogate.model
    half_step_ps = settings.system.time_step_ps / 2  # a failed task is tried again with it
    for name, ps, interval_ps in (
        ("sampling", sampling.ps, sampling.save_interval_ps),
        ("sampling", sampling.reference_ps, sampling.save_interval_ps),
        ("oracle", oracle.ps, oracle.save_interval_ps),
    ):
        _require_multiple(f"{name} time", ps, f"{name}.save_interval_ps", interval_ps)
        _require_multiple(
            f"{name}.save_interval_ps", interval_ps, "half the time step", half_step_ps
        )
        lag_ps = model.shortest_lag_ps or interval_ps
        _require_multiple(
            "surrogate.model.shortest_lag_ps", lag_ps, f"{name}.save_interval_ps", interval_ps
        )
        # Frames at 1, 2 ... n intervals span n - 1 of them.
        if ps - interval_ps < 2 * lag_ps * (1 - 1e-9):
            raise InputError(
                f"{name} saves frames over {ps - interval_ps:g} ps ({ps:g} ps less one interval), "
                f"shorter than two surrogate lags of {lag_ps:g} ps: the surrogate could not learn "
                f"from it; make {name}.ps longer, or surrogate.model.shortest_lag_ps shorter"
            )
    dynamics = settings.exploration.potential.dynamics
    if dynamics.save_every > dynamics.steps:
        raise InputError(
            f"exploration.potential.dynamics saves every {dynamics.save_every} steps but has "
            f"{dynamics.steps}; make steps larger"
        )
    for name, minutes in (
        ("potential", settings.potential.training.max_minutes),
        ("surrogate", settings.surrogate.training.max_minutes),
    ):
        if minutes is not None:
            raise InputError(
                f"{name}.training.max_minutes is {minutes:g}; inside the loop every budget is a "
                "count, so that a run can be repeated: set training.steps instead"
            )


def _require_multiple(name: str, value: float, of_name: str, of: float) -> None:
    ratio = value / of
    if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise InputError(f"{name} of {value:g} ps is no multiple of {of_name}, {of:g} ps")


def run_loop(settings: RunSettings, run: Path, progress: Progress) -> list[str]:
    """Run the loop in a folder, or go on with the run that is there; return the verdict.

    Raises:
        InputError: the folder holds something else, a run of other settings, or a run that
            another process is working on.
    """
    refuse_foreign_folder(run)
    run.mkdir(parents=True, exist_ok=True)
    lock = RunLock(run)
    try:
        clear_partial(run)
        (run / "progress.json").unlink(missing_ok=True)
        settle_settings(settings, run)
        ledger = Ledger.open(run / "ledger.jsonl")
        _note_opened(ledger, settings)
        fix_threads(settings.exploration.threads)
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


def refuse_foreign_folder(run: Path) -> None:
    """Raise InputError where a folder holds something that is no run."""
    if not run.exists() or (run / "settings.yaml").exists():
        return
    foreign = [p.name for p in run.iterdir() if p.name != "lock" and ".partial" not in p.name]
    if foreign:
        raise InputError(f"{run} is not empty and holds no run; name another --out")


#: What may change from one process of a run to the next: it does not change what is computed. More
#: rounds go on where the last one ended.
_FREE_SETTINGS = (("rounds",), ("executor", "workers"), ("executor", "time_limit_s"))


def settle_settings(settings: RunSettings, run: Path) -> None:
    """Write the settings of a new run, or hold them against those that a run was begun with.

    Raises:
        InputError: they differ in what decides the results.
    """
    file = run / "settings.yaml"
    if not file.exists():
        write_settings(file, settings)
        return
    old, new = read_yaml(file), settings.model_dump(mode="json")
    difference = first_difference(_fixed(old), _fixed(new))
    if difference is not None:
        raise InputError(
            f"{run} was begun with other settings: {difference}; name another --out, or go on "
            "with the settings of that run"
        )
    if old["rounds"] > new["rounds"]:
        raise InputError(
            f"{run} was begun with {old['rounds']} rounds, now {new['rounds']} are asked for; "
            "rounds can be added, not taken away"
        )
    logger.info("going on with the run in %s", run)
    if old != new:
        write_settings(file, settings)


def _fixed(values: dict[str, Any]) -> dict[str, Any]:
    kept = copy.deepcopy(values)
    for *parents, last in _FREE_SETTINGS:
        inner = kept
        for parent in parents:
            inner = inner[parent]
        inner.pop(last, None)
    return kept


def _note_opened(ledger: Ledger, settings: RunSettings) -> None:
    now = {name: version(name) for name in ("trajgen", "torch", "openmm", "numpy")}
    before = [event.data.get("versions") for event in ledger.events if event.kind == "opened"]
    if before and before[-1] != now:
        logger.warning(
            "this run was worked on with other versions (%s, now %s): its parts may not be "
            "reproduced together",
            before[-1],
            now,
        )
    plan = {"rounds": settings.rounds, "steps": planned_steps(settings.rounds), "versions": now}
    ledger.note_opened(plan)


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
    return HtmlReporter().report(run, run_metrics(history, NoiseJudge().judge(history)))
