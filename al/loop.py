"""The ring: sample, train, explore, evaluate; then select, backmap, query, append, and again.

A round is a list of named steps. Each is idempotent and its end is a line of the ledger, so a run
that was killed goes on with the same command. The loop knows its parts by their ports only.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from al.executor import TaskResult
from al.ledger import Ledger, estimate_left
from al.outcomes import BackmapOutcome, TaskOutcome
from al.ports import (
    Backmapper,
    Candidates,
    Evaluator,
    Explorer,
    Judge,
    Learner,
    Models,
    Oracle,
    Reporter,
    Sampler,
    Selection,
    Selector,
)
from trajgen.console import duration
from trajgen.data.frame_files import (
    load_atom_frames,
    load_bead_frames,
    save_atom_frames,
    save_bead_frames,
)
from trajgen.data.records import AtomFrames
from trajgen.data.store import Dataset
from trajgen.errors import WorkError
from trajgen.files import sha256_of, write_json

logger = logging.getLogger(__name__)

FIRST_ROUND_STEPS = ("sample", "train", "explore", "evaluate")
ROUND_STEPS = ("select", "backmap", "query", "append", "train", "explore", "evaluate")
METRICS_SCHEMA = 1


@dataclass(frozen=True)
class Parts:
    """The concrete parts that the loop closes into a ring."""

    sampler: Sampler
    learner: Learner
    explorer: Explorer
    selector: Selector
    backmapper: Backmapper
    oracle: Oracle
    evaluator: Evaluator
    judge: Judge
    reporter: Reporter


def planned_steps(rounds: int) -> list[tuple[int, str]]:
    """Return every (round, step) of a run in order."""
    steps = [(0, step) for step in FIRST_ROUND_STEPS]
    steps += [(r, step) for r in range(1, rounds + 1) for step in ROUND_STEPS]
    return [*steps, (rounds, "report")]


class Loop:
    """Runs the rounds of one run folder."""

    def __init__(self, run: Path, rounds: int, parts: Parts, ledger: Ledger) -> None:
        self.run_folder = run
        self.rounds = rounds
        self.parts = parts
        self.ledger = ledger

    def run(self) -> list[str]:
        """Run or go on with all rounds; return the verdict."""
        self._step(0, "sample", self.parts.sampler.sample)
        for round in range(self.rounds + 1):
            if round > 0:
                self._grow(round)
            self._learn(round)
        history = evaluated_rounds(self.ledger)
        verdict = self.parts.judge.judge(history)
        metrics = run_metrics(history, verdict)
        write_json(self.run_folder / "metrics.json", metrics)
        # Written anew by every process that comes this far: it takes seconds, and may be missing.
        self.ledger.start(self.rounds, "report")
        report = self.parts.reporter.report(self.run_folder, metrics)
        self.ledger.finish(self.rounds, "report", {"report": report.name})
        return verdict

    def _grow(self, round: int) -> None:
        """Choose frames of the last exploration, ask the oracle, append its answers."""
        self._step(round, "select", lambda folder: self._select(round, folder))
        backmapped = self._step(round, "backmap", lambda folder: self._backmap(round, folder))
        records = backmapped["frames"]
        self._step(round, "query", lambda folder: self._query(round, records, folder))
        self._step(round, "append", lambda folder: self._append(round, records))

    def _learn(self, round: int) -> None:
        self._step(round, "train", lambda folder: self._train(round, folder))
        self._step(round, "explore", lambda folder: self._explore(round, folder))
        explored = self._folder(round, "explore")
        self._step(
            round,
            "evaluate",
            lambda folder: self.parts.evaluator.evaluate(round, explored, self._dataset(), folder),
        )

    def _step(
        self, round: int, name: str, work: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        done = self.ledger.finished(round, name)
        if done is not None:
            return done
        logger.info("round %d of %d: %s%s", round, self.rounds, name, self._time_left())
        self.ledger.start(round, name)
        folder = self._folder(round, name)
        folder.mkdir(parents=True, exist_ok=True)
        summary = work(folder)
        self.ledger.finish(round, name, summary)
        return summary

    def _time_left(self) -> str:
        planned = planned_steps(self.rounds)
        remaining = [item for item in planned if self.ledger.finished(*item) is None]
        left = estimate_left(self.ledger.events, remaining, None)
        return "" if left is None else f" (about {duration(left)} left in all)"

    def _train(self, round: int, folder: Path) -> dict[str, Any]:
        dataset = self._dataset()
        models = self.parts.learner.learn(round, dataset, folder)
        return {
            "dataset_frames": dataset.n_frames,
            "oracle_ps": dataset.oracle_ps,
            "dataset_sha256": dataset.digest(),
            "surrogate_windows": self.parts.learner.count_windows(dataset),
            "potential": str(models.potential.relative_to(self.run_folder)),
            "surrogate": str(models.surrogate.relative_to(self.run_folder)),
            "potential_sha256": sha256_of(models.potential / "model.safetensors"),
            "surrogate_sha256": sha256_of(models.surrogate / "model.safetensors"),
        }

    def _explore(self, round: int, folder: Path) -> dict[str, Any]:
        trained = self._finished(round, "train")
        models = Models(
            self.run_folder / trained["potential"], self.run_folder / trained["surrogate"]
        )
        return self.parts.explorer.explore(round, models, self._dataset(), folder)

    def _select(self, round: int, folder: Path) -> dict[str, Any]:
        explored = self._folder(round - 1, "explore")
        candidates = self.parts.explorer.candidates(round - 1, explored)
        selection = self.parts.selector.select(round, candidates, self._dataset())
        if len(selection.chosen):
            chosen = candidates.frames.take(selection.chosen)
            save_bead_frames(folder / "chosen.safetensors", chosen)
            heavy = chosen_atoms(candidates, selection)
            if heavy is not None:
                save_atom_frames(folder / "chosen_atoms.safetensors", heavy)
        else:
            logger.warning(
                "round %d: none of %d candidates is worth a query (%s); the round goes on without "
                "new data, and both models are trained with other seeds. For a longer run, widen "
                "the limits of selection.*",
                round, candidates.frames.n_frames, selection.rejected,
            )  # fmt: skip
        sources = [candidates.source_names[s] for s in candidates.sources[selection.chosen]]
        return {
            "candidates": candidates.frames.n_frames,
            "chosen": selection.chosen.tolist(),
            "scores": [float(score) for score in selection.scores],
            "sources": sources,
            "rejected": selection.rejected,
        }

    def _backmap(self, round: int, folder: Path) -> dict[str, Any]:
        if not self._finished(round, "select")["chosen"]:
            return {"frames": [], "outcomes": {}}
        selected = self._folder(round, "select")
        chosen = load_bead_frames(selected / "chosen.safetensors")
        atoms = selected / "chosen_atoms.safetensors"
        heavy = load_atom_frames(atoms) if atoms.is_file() else None
        records = self.parts.backmapper.backmap(round, chosen, heavy, self._dataset(), folder)
        outcomes = [record["outcome"] for record in records]
        counts = {str(kind): outcomes.count(kind) for kind in BackmapOutcome if kind in outcomes}
        logger.info("backmapping of %d frames: %s", len(records), counts)
        if BackmapOutcome.ACCEPTED not in outcomes:
            if BackmapOutcome.PROCESS_FAILED in outcomes:
                raise WorkError(
                    f"round {round}: none of {len(records)} chosen frames was lifted to atoms, and "
                    f"processes failed; the reasons are in {folder}: mend the cause, remove the "
                    "files *.failed.json there, and run the same command again"
                )
            logger.warning(
                "round %d: none of the chosen frames can be lifted to atoms; the round goes on "
                "without new data, and both models are trained with other seeds",
                round,
            )
        return {"frames": records, "outcomes": counts}

    def _query(self, round: int, records: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
        atoms = self._folder(round, "backmap")
        results = self.parts.oracle.query(round, records, atoms, folder)
        if results and not any(result.outcome == TaskOutcome.DONE for result in results):
            raise WorkError(
                f"round {round} got no oracle result from {len(results)} frames; the reasons are "
                f"in {folder}: mend the cause, remove the files *.failed.json there, and run the "
                "same command again"
            )
        rows = [
            {"task": result.name, "outcome": str(result.outcome), "reason": result.reason}
            for result in results
        ]
        return {"tasks": rows}

    def _append(self, round: int, records: list[dict[str, Any]]) -> dict[str, Any]:
        # Asked again, the oracle only reads the answers that lie in the folder of the query.
        answers: list[TaskResult] = self.parts.oracle.query(
            round, records, self._folder(round, "backmap"), self._folder(round, "query")
        )
        dataset = Dataset.open(self.run_folder / "dataset", writer=True)
        before = self._finished(round - 1, "train")["surrogate_windows"]
        summary = self.parts.oracle.append(round, answers, dataset)
        new_windows = self.parts.learner.count_windows(dataset) - before
        if answers and new_windows < 1:
            logger.warning(
                "round %d gave no new window to the surrogate: the answers of the oracle are "
                "shorter than two of its lags",
                round,
            )
        return {**summary, "new_windows": new_windows}

    def _finished(self, round: int, step: str) -> dict[str, Any]:
        summary = self.ledger.finished(round, step)
        if summary is None:
            raise WorkError(f"the ledger of {self.run_folder} lacks step {step} of round {round}")
        return summary

    def _dataset(self) -> Dataset:
        return Dataset.open(self.run_folder / "dataset")

    def _folder(self, round: int, step: str) -> Path:
        return self.run_folder / "rounds" / f"{round:03d}" / step


def chosen_atoms(candidates: Candidates, selection: Selection) -> AtomFrames | None:
    """Return the heavy atoms of chosen candidates, with the place in the choice as the segment."""
    if candidates.heavy is None:
        return None
    place = {int(candidate): number for number, candidate in enumerate(selection.chosen)}
    rows = [row for row, number in enumerate(candidates.heavy.segments.tolist()) if number in place]
    if not rows:
        return None
    found = candidates.heavy.take(rows)
    numbers = [place[number] for number in found.segments.tolist()]
    return replace(found, segments=np.array(numbers, dtype=np.int64), time_step_ps=None)


def run_metrics(history: Sequence[dict[str, Any]], verdict: Sequence[str]) -> dict[str, Any]:
    """Return the content of ``metrics.json``."""
    return {"schema_version": METRICS_SCHEMA, "rounds": list(history), "verdict": list(verdict)}


def evaluated_rounds(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the metrics of each round that is evaluated, in order."""
    rounds = sorted(
        event.round
        for event in ledger.events
        if (event.kind, event.step) == ("finished", "evaluate")
    )
    return [_metrics_of(ledger, round) for round in rounds]


def _metrics_of(ledger: Ledger, round: int) -> dict[str, Any]:
    trained = ledger.finished(round, "train") or {}
    appended = ledger.finished(round, "append") or {}
    return {
        "round": round,
        "dataset_frames": trained["dataset_frames"],
        "oracle_ps": trained["oracle_ps"],
        "oracle_accepted": appended.get("accepted", 0),
        "surrogate_windows": trained["surrogate_windows"],
        "new_windows": appended.get("new_windows", trained["surrogate_windows"]),
        "potential_sha256": trained["potential_sha256"],
        "surrogate_sha256": trained["surrogate_sha256"],
        **(ledger.finished(round, "evaluate") or {}),
    }
