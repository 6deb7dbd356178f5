"""What a run has on disk, as far as it has come, for its report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al.ledger import Event, read_events
from al.parts.evaluator import settled_frames
from trajgen.data.frame_files import load_bead_frames, load_rollouts
from trajgen.data.records import BeadFrames
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.settings import read_yaml


@dataclass(frozen=True)
class RunContent:
    """What a run has on disk, as far as it has come.

    Attributes:
        run: the run folder.
        settings: its resolved settings, nested.
        summaries: summary of each finished step.
        rounds: rounds that are evaluated.
        reference: the frames that no model was trained on.
        dataset: the dataset.
    """

    run: Path
    settings: dict[str, Any]
    summaries: dict[tuple[int, str], dict[str, Any]]
    rounds: list[int]
    reference: BeadFrames
    dataset: Dataset

    def folder(self, round: int, step: str) -> Path:
        """Return the folder of a step."""
        return self.run / "rounds" / f"{round:03d}" / step

    def settled(self, round: int, model: str) -> BeadFrames:
        """Return the frames of a model's rollouts that were evaluated."""
        rollouts = load_rollouts(self.folder(round, "explore") / f"{model}.safetensors")
        return settled_frames(rollouts)[0]

    def chosen(self, round: int) -> BeadFrames | None:
        """Return the frames that a round chose; None where there are none, or not yet."""
        summary = self.summaries.get((round, "select"))
        if not summary or not summary["chosen"]:
            return None
        return load_bead_frames(self.folder(round, "select") / "chosen.safetensors")


def read_run(run: Path) -> RunContent:
    """Read what a report is made of.

    Raises:
        InputError: the folder holds no run, or no round of it is evaluated yet.
    """
    events: list[Event] = read_events(run / "ledger.jsonl")
    summaries = {(e.round, e.step): e.data for e in events if e.kind == "finished"}
    rounds = sorted(round for round, step in summaries if step == "evaluate")
    if not rounds:
        raise InputError(f"{run} has no evaluated round to report on; see al status {run}")
    return RunContent(
        run=run,
        settings=read_yaml(run / "settings.yaml"),
        summaries=summaries,
        rounds=rounds,
        reference=Dataset.open(run / "reference").read_all_beads(),
        dataset=Dataset.open(run / "dataset"),
    )
