"""Settings to concrete parts to loop; the only place that names every part."""

import copy
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from al.executor import ProcessExecutor
from al.ledger import Ledger, read_events
from al.lock import FolderLock
from al.loop import Loop, Parts, evaluated_rounds, planned_steps, run_metrics
from al.molecule.gpus import usable_gpus
from al.parts.backmapper import ProcessBackmapper
from al.parts.evaluator import ReferenceEvaluator
from al.parts.explorer import TwoGeneratorExplorer
from al.parts.judge import NoiseJudge
from al.parts.learner import SubprocessLearner
from al.parts.oracle import ProcessOracle
from al.parts.reporter import HtmlReporter
from al.parts.sampler import MoleculeSampler
from al.parts.selector import RuleSelector
from al.run_settings import RunSettings
from al.status import RecordingProgress
from trajgen.device import fix_threads
from trajgen.errors import InputError
from trajgen.progress import Progress
from trajgen.settings import read_yaml, write_settings

logger = logging.getLogger(__name__)


def run_loop(settings: RunSettings, run: Path, progress: Progress) -> list[str]:
    """Run the loop in a folder, or go on with the run that is there; return the verdict.

    Raises:
        InputError: the folder holds something else, a run of other settings, or a run that
            another process is working on.
    """
    refuse_foreign_folder(run)
    run.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(run)
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
    executor = ProcessExecutor(settings.executor, usable_gpus(settings.executor.device))
    system, seed = run / "system", settings.seed
    learner = SubprocessLearner(run, settings.learner, settings.potential, settings.surrogate, seed)
    return Parts(
        sampler=MoleculeSampler(
            run,
            settings.system,
            settings.sampling,
            executor,
            seed,
            progress,
            learner.require_trainable,
        ),
        learner=learner,
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
