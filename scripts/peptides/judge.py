"""Forward simulation of a peptide beside all that it is compared with, one row each."""

import argparse
from dataclasses import replace
from functools import cached_property
from typing import Any

from run_folder import Stages

from peptides.context_free import context_free_scores, shown_torsions
from peptides.forward import (
    evaluation_settings,
    join_ratio,
    novelty,
    occupancy_states,
    rollout,
    scores,
    valid_share,
)
from peptides.models import FINE_PS, JUDGES, TRAINED, open_model, rollout_settings
from peptides.sets import (
    WALK_INTERVAL_PS,
    at_most,
    first_ps,
    read_run,
    shuffled,
    thinned,
    walk_among_states,
)
from trajgen.analysis.evaluate import Reference, read_reference
from trajgen.analysis.kinetics.states import StatesFit
from trajgen.console import choose_progress
from trajgen.data.frame_files import save_atom_frames
from trajgen.data.records import AtomFrames
from trajgen.errors import InputError
from trajgen.seeding import derive_seed
from trajgen.surrogate.ensemble import ensemble


class ForwardJudge:
    """Judges a peptide by an independent run of it; runs are read when a row asks for them."""

    def __init__(
        self, arguments: argparse.Namespace, stages: Stages, name: str, unseen: bool
    ) -> None:
        """Take the peptide.

        Args:
            arguments: those of the command.
            stages: what is done already.
            name: the peptide.
            unseen: whether the surrogate was not trained on it. All replicas then start from the
                first frame of its other run, and each is as long as the run that judges; else from
                frames spread over that run, and all together are as long.
        """
        self.arguments, self.stages, self.name, self.unseen = arguments, stages, name, unseen

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the scores of the surrogate and of all it is compared with."""
        stages, name = self.stages, self.name
        rows = {
            "the run that judges": stages(f"{name}-judges", self.of_judges),
            "independent run": stages(f"{name}-dynamics", lambda: self.of(self.other)),
            "its frames shuffled": stages(f"{name}-shuffled", self.of_shuffled),
            "walk among its states": stages(f"{name}-walk", self.of_walk),
        }
        if self.unseen:
            label = "torsions by residue and place"
            rows[label] = stages(f"{name}-context-free", self.of_context_free)
        for key, value in rows["independent run"].items():
            if key.startswith("reference_"):
                rows["the run that judges"][key.removeprefix("reference_")] = value
        for count in self.arguments.evaluations:
            rows[f"surrogate, {count} evaluations"] = self.surrogate(count)
            if self.arguments.ns_per_day is not None:
                rows[f"dynamics, time of {count} evaluations"] = self.brief_dynamics(count)
        if not self.unseen:  # the other models learn no single frames
            count = self.arguments.evaluations[-1]
            rows[f"single frames, {count} evaluations"] = self.single_frames(count)
        return rows

    @cached_property
    def judges(self) -> AtomFrames:
        """The run that judges."""
        return read_run(self.arguments.data, self.name, JUDGES, self.arguments.interval_ps)

    @cached_property
    def other(self) -> AtomFrames:
        """The other run: the one trained on, where the peptide was."""
        return read_run(self.arguments.data, self.name, TRAINED, self.arguments.interval_ps)

    @cached_property
    def reference(self) -> Reference:
        """What is measured of the run that judges."""
        settings = evaluation_settings(self.arguments.interval_ps, self.arguments.lag_ps)
        return read_reference(self.judges, settings, self.arguments.seed)

    @cached_property
    def states(self) -> StatesFit:
        """The states that occupancies are compared on."""
        return occupancy_states(self.reference)

    @property
    def replayable(self) -> AtomFrames | None:
        """The frames that a model could replay."""
        return None if self.unseen else self.other

    @property
    def length(self) -> int:
        """The frames of each replica that count, together as many as those that judge.

        Raises:
            InputError: there are not two for each.
        """
        frames, replicas = self.judges.n_frames, self.arguments.replicas
        if frames < 2 * replicas:
            raise InputError(
                f"--replicas is {replicas}, and the run that judges {self.name} has {frames} "
                f"frames; give at most {frames // 2}"
            )
        return frames // replicas

    def of(self, frames: AtomFrames, consecutive: AtomFrames | None = None) -> dict[str, Any]:
        """Return the scores of a set of frames; of ``consecutive`` ones what depends on time."""
        return scores(frames, self.reference, self.states, self.replayable, consecutive)

    def of_judges(self) -> dict[str, Any]:
        """Return what can be said of the run that judges."""
        return {"valid": valid_share(self.judges), **novelty(self.judges, self.replayable)}

    def of_shuffled(self) -> dict[str, Any]:
        """Return the scores of the other run without its kinetics."""
        return self.of(shuffled(self.other, self.arguments.seed))

    def of_walk(self) -> dict[str, Any]:
        """Return the scores of a walk among fine states of the other run, or why there is none."""
        frames = read_run(self.arguments.data, self.name, TRAINED, WALK_INTERVAL_PS)
        lag = round(self.arguments.interval_ps / WALK_INTERVAL_PS)
        replicas, length, seed = self.arguments.replicas, self.length, self.arguments.seed
        try:
            walk = walk_among_states(frames, self.reference, lag, replicas, length, seed)
        except InputError as error:  # short runs need not carry a model
            return {"reason": str(error)}
        return self.of(walk)

    def of_context_free(self) -> dict[str, Any]:
        """Return the scores of torsions as the training peptides show them of its residues."""
        data, interval_ps = self.arguments.data, self.arguments.interval_ps
        shown = [
            one
            for name in self.arguments.train
            for one in shown_torsions(name, read_run(data, name, TRAINED, interval_ps))
        ]
        seed = derive_seed(self.arguments.seed, f"context-free {self.name}")
        return context_free_scores(self.name, self.reference, shown, seed)

    def surrogate(self, evaluations: int) -> dict[str, Any]:
        """Return the scores of rollouts, and what they cost."""
        stage = f"{self.name}-forward-{evaluations}"

        def simulate() -> dict[str, Any]:
            # One start has to be forgotten by all replicas, so each of them is a whole run.
            stride = self.arguments.replicas if self.unseen else 1
            surrogate = open_model(self.arguments, self.name)
            settings = rollout_settings(self.arguments, evaluations)
            rollouts, cost = rollout(
                surrogate,
                self.other.take(slice(1 if self.unseen else None)),
                self.arguments.replicas,
                self.length * stride,
                settings,
                derive_seed(self.arguments.seed, f"forward {self.name}", index=evaluations),
                choose_progress(),
            )
            cost["joins"] = join_ratio(rollouts, surrogate, settings.context)
            frames = rollouts.to_atom_frames()
            save_atom_frames(self.stages.folder / f"{stage}.safetensors", frames)
            if not self.unseen:
                return {**self.of(frames), **cost}
            # Times are those of the first: of all frames they would be surer than the floor is.
            first = frames.take(frames.segments == frames.segments[0])
            return {**self.of(thinned(rollouts, stride), first), **cost}

        return self.stages(stage, simulate)

    def single_frames(self, evaluations: int) -> dict[str, Any]:
        """Return the scores of independent frames, as many as judge, which follow nothing."""

        def draw() -> dict[str, Any]:
            if "ensemble" not in open_model(self.arguments, self.name).molecule.tasks:
                return {"reason": "the model was not trained for single frames"}
            settings = rollout_settings(self.arguments, evaluations)
            drawn = ensemble(
                open_model(self.arguments, self.name),
                self.judges.n_frames,
                settings,
                derive_seed(self.arguments.seed, f"ensemble {self.name}", index=evaluations),
                choose_progress(),
            )
            return self.of(replace(drawn.to_atom_frames(), time_step_ps=None))

        return self.stages(f"{self.name}-ensemble-{evaluations}", draw)

    def brief_dynamics(self, evaluations: int) -> dict[str, Any]:
        """Return the scores of as much dynamics as all frames of the rollouts took time for.

        It counts from the start on, and has every frame that was saved, up to as many as judge.
        """
        ns_per_day = self.arguments.ns_per_day
        time_ps = ns_per_day * 1000 * self.surrogate(evaluations)["seconds"] / 86400

        def measure() -> dict[str, Any]:
            fine = first_ps(read_run(self.arguments.data, self.name, TRAINED, FINE_PS), time_ps)
            frames = at_most(fine, self.judges.n_frames)
            return {**self.of(frames), "length_ps": (fine.n_frames - 1) * FINE_PS}

        return self.stages(f"{self.name}-equal-time-{evaluations}-{ns_per_day:g}", measure)
