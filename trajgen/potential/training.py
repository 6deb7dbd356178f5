"""The loop over optimizer steps: every member of a committee on batches of forces of its own.

A step follows from (seed, step) alone: a killed run that finds its training state goes on and ends
with the same weights. Under ``accelerate launch`` each process takes its share of every batch, by
index, and the first one alone validates and writes.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trajgen.checkpoint import load_training_state, save_training_state
from trajgen.errors import InputError, WorkError
from trajgen.potential.batches import Pool, batch_of_members
from trajgen.potential.committee import Committee, MemberPass
from trajgen.potential.ensemble_matching import SimulatedChains, energy_gap, share_of_process
from trajgen.potential.force_labels import ForceLabels, force_error, mean_force_error
from trajgen.potential.training_state import TrainingState
from trajgen.progress import SILENT, Progress
from trajgen.settings import Settings
from trajgen.tracking import tracker_arguments, tracker_name

logger = logging.getLogger(__name__)

#: Share of chains exploding in an update that is worth a warning.
RESTARTED_SHARE = 1e-3


class TrainingSettings(Settings):
    """Choices of the training.

    Attributes:
        steps: optimizer steps.
        max_minutes: end earlier, after this wall time, with the learning rate following the time;
            such a run cannot be repeated bit for bit. What ``ensemble.readout`` takes comes after.
        batch: frames of each member in a step, over all processes; at most all training frames.
        learning_rate: highest learning rate of Adam; energies are scaled by kT and the loss by
            that of the priors alone, so it means the same for every molecule.
        final_learning_rate: share of it that the cosine schedule ends with.
        warmup_steps: steps over which it rises from zero.
        weight_decay: decoupled weight decay.
        gradient_clip: largest norm of each member's gradient.
        average_decay: decay of the running average of the weights for each step.
        validation_fraction: share of frames held out, by whole segments.
        validate_every: steps between evaluations; the average with the lowest validation loss of
            them is kept, or with ensemble matching the last one, since the forces of frames say
            little of whether an ensemble is right. All members of a committee are kept at one
            common step, the best of their mean: that mean is the potential, and most of a
            validation loss is noise of the labels, which every member would chase on its own.
        save_every: steps between saved training states.
        use_frame_weights: weigh frames in the loss. The mean force at given beads does not depend
            on how often they were visited, so weights only add noise; they matter for the priors,
            which always use them.
        force_weight: weight of the loss of the forces beside ensemble matching.
        variance_floor: where the dataset knows the noise variance of its forces (mean-force
            labels), frames weigh by its inverse, and variances below this share of the median one
            count as equal; None leaves them out.
    """

    steps: int = Field(default=3_000, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    final_learning_rate: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    validate_every: int = Field(default=200, ge=1)
    save_every: int = Field(default=200, ge=1)
    use_frame_weights: bool = False
    force_weight: float = Field(default=1.0, gt=0)
    variance_floor: float | None = Field(default=0.1, gt=0, le=1)
    tensorboard: bool = False


class Training:
    """The training of one committee.

    Attributes:
        state: weights, averages and curve.
        train: the frames that pools pick from.
        validation: frames held out; may be none.
        chains: chains of ensemble matching; None, as at first, without it.
        prior_only_loss: the loss without any network, the line to beat, (kJ/mol/nm)².
    """

    def __init__(
        self,
        committee: Committee,
        train: ForceLabels,
        validation: ForceLabels,
        pools: tuple[Pool, ...],
        settings: TrainingSettings,
        seed: int,
        device: torch.device,
        out: Path,
    ) -> None:
        tracking = tracker_arguments(out) if settings.tensorboard else {}
        self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", **tracking)
        if settings.tensorboard:
            self.accelerator.init_trackers(tracker_name(out))
        here = self.accelerator.device
        self.train, self.validation = train.to(here), validation.to(here)
        self.pools, self.settings, self.seed = pools, settings, seed
        self.chains: SimulatedChains | None = None
        self.members = nn.ModuleList(committee.members)
        committee.to(here)
        optimizer = torch.optim.AdamW(
            committee.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        passing = MemberPass(committee).train()
        self.model, self.optimizer = self.accelerator.prepare(passing, optimizer)
        self.state = TrainingState(committee, self.optimizer, settings.average_decay)
        self.prior_only_loss = {
            "train": mean_force_error(None, self.train),
            "validation": mean_force_error(None, self.validation) if validation.n_frames else None,
        }
        self.loss_scale = self.prior_only_loss["train"] or 1.0  # 1 where the priors are exact

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)

    def end(self) -> None:
        """Wait until all processes are here, and close the curves."""
        self.accelerator.wait_for_everyone()
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def run(self, out: Path, identity: dict[str, Any], progress: Progress) -> None:
        """Train from the saved state, or from the start, to the end.

        Raises:
            InputError: the training state there is of another fit.
            WorkError: the loss is not finite.
        """
        self._resume(out, identity)
        settings, state = self.settings, self.state
        if not self.writes:
            progress = SILENT
        began = time.monotonic() - 60 * state.minutes
        limit = settings.max_minutes
        limit_s = None if limit is None else 60 * (limit - state.minutes)
        with (
            _deterministic(self.accelerator.device),
            progress.task("fit", settings.steps, state.step, limit_s) as task,
        ):
            while (done := self._done()) < 1:
                loss, gap = self._step(done)
                state.finish_step(loss, gap)
                state.minutes = (time.monotonic() - began) / 60
                if state.step % settings.validate_every == 0:
                    self._evaluate()
                if state.step % settings.save_every == 0 and self.writes:
                    self._save(out, identity)
                task.advance(
                    1, f"loss {loss:.4g}" + ("" if gap is None else f", gap {gap:+.2f} kT")
                )
            if not state.curve or state.curve[-1]["step"] != state.step:
                self._evaluate()
        if self.writes:
            self._save(out, identity)
        self._warn_of_restarts()

    def advance_chains(self, update: int) -> None:
        """Simulate the chains by one update, whose number says the noise; each process its share.

        They move by the weights that the committee has now.
        """
        if self.chains is not None:
            share = share_of_process("chains", self.chains.settings.chains, self.accelerator)
            self.chains.advance(update, share, self.accelerator.gather)

    def summary(self) -> dict[str, Any]:
        """Return what the card says of the training."""
        state = self.state
        kept = [row["validation"] for row in state.curve if row["step"] == state.best_step]
        return {
            "prior_only_loss": self.prior_only_loss,
            "steps": state.step,
            "best_step": state.best_step,
            "best_validation_loss": kept[-1] if kept else None,
            "loss_unit": "(kJ/mol/nm)^2, mean over force components",
            "curve": state.curve,
            **({} if self.chains is None else self.chains.numbers()),
            "wall_seconds": round(60 * state.minutes, 3),
        }

    def _step(self, done: float) -> tuple[float, float | None]:
        """Take one step of every member; return the means of their losses and energy gaps."""
        settings, accelerator = self.settings, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(settings, self.state.step, done)
        losses, gaps = self._losses(self._batch(), self._compared())
        total = settings.force_weight * losses.sum() / self.loss_scale
        if gaps is not None and self.chains is not None:
            total = total + self.chains.settings.weight * gaps.sum()
        self.optimizer.zero_grad()
        # A member's weights are in its own loss alone, and its gradient is of that loss alone.
        accelerator.backward(total)
        for member in self.members:
            accelerator.clip_grad_norm_(member.parameters(), settings.gradient_clip)
        self.optimizer.step()
        loss = float(accelerator.reduce(losses.detach().mean(), "mean"))
        gap = None if gaps is None else float(accelerator.reduce(gaps.detach().mean(), "mean"))
        return loss, gap

    def _batch(self) -> ForceLabels:
        """Return this process's share of the step's frames, for each member its own."""
        chosen = batch_of_members(self.state.step, self.pools, len(self.members), self.seed)
        return self.train.take(
            chosen[:, self.accelerator.process_index :: self.accelerator.num_processes]
        )

    def _compared(self) -> Float[Tensor, "compared beads 3"] | None:
        """Move the chains on; return this process's frames of the data, then its chains."""
        if self.chains is None:
            return None
        settings, accelerator = self.chains.settings, self.accelerator
        self.advance_chains(self.state.step)
        share = share_of_process("chains", settings.chains, accelerator)
        frames_share = share_of_process("frames", settings.frames, accelerator)
        frames = self.chains.reference(self.state.step)[frames_share]
        own = self.chains.positions_nm[share]
        return torch.cat([frames.to(own.device), own])

    def _losses(
        self, batch: ForceLabels, compared_nm: Float[Tensor, "compared beads 3"] | None
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"] | None]:
        """Return the loss of each member's forces, (kJ/mol/nm)², and its energy gap, kT.

        Whatever goes through the networks goes through ``self.model``, which is what averages the
        gradients over processes.
        """
        forces, energies = self.model(batch.positions_nm, compared_nm)
        errors = force_error(forces, batch)
        if not errors.isfinite().all():
            self._refuse(errors.detach(), batch)
        # Gradients are averaged over processes, whose shares may differ by a frame.
        size = sum(pool.size for pool in self.pools)
        losses = errors.sum(dim=1) * (self.accelerator.num_processes / size)
        if energies is None or self.chains is None:
            return losses, None
        chains = self.chains.settings.chains // self.accelerator.num_processes
        of_data, of_chains = energies.split([energies.shape[1] - chains, chains], dim=1)
        share = share_of_process("chains", self.chains.settings.chains, self.accelerator)
        weights = self.chains.relative_weights()[share].to(of_chains.dtype)
        gaps = energy_gap(of_data, of_chains, weights, self.chains.kT)
        if not gaps.isfinite().all():
            raise WorkError(
                f"the energies of step {self.state.step} are not finite; lower "
                "training.learning_rate, or ensemble.time_step_ps"
            )
        return losses, gaps

    def _refuse(self, errors: Float[Tensor, "members frames"], batch: ForceLabels) -> None:
        bad = batch.frames[~errors.isfinite().cpu().numpy()]
        raise WorkError(
            f"the loss of step {self.state.step} is {float(errors.mean())}: the forces of "
            f"{len(bad)} frames are not finite, among them dataset frames {bad[:5].tolist()}; "
            "lower training.learning_rate, or look at these frames"
        )

    def _evaluate(self) -> None:
        if not self.writes:
            return
        loss = None
        if self.validation.n_frames:
            loss = mean_force_error(self.state.average, self.validation)
            if not math.isfinite(loss):
                raise WorkError(
                    f"the validation loss of step {self.state.step} is {loss}; lower "
                    "training.learning_rate"
                )
        self.state.finish_evaluation(loss, keep_latest=self.chains is not None)
        row = {name: value for name, value in self.state.curve[-1].items() if value is not None}
        self.accelerator.log(row, step=self.state.step)

    def _done(self) -> float:
        """Return the finished share of the budget, which all processes must agree on."""
        done = self.state.step / self.settings.steps
        if self.settings.max_minutes is None:
            return done
        done = max(done, self.state.minutes / self.settings.max_minutes)
        return float(broadcast(torch.tensor(done, device=self.accelerator.device)))

    def _save(self, out: Path, identity: dict[str, Any]) -> None:
        tensors, numbers = self.state.tensors(), self.state.numbers()
        if self.chains is not None:
            tensors |= self.chains.tensors()
            numbers |= self.chains.numbers()
        save_training_state(out, tensors, {**numbers, **identity})

    def _warn_of_restarts(self) -> None:
        if self.chains is None or not self.writes:
            return
        moved = self.chains.settings.chains * self.state.step
        if self.chains.restarted > RESTARTED_SHARE * moved:
            logger.warning(
                "a chain exploded %d times in %d while the ensemble was matched; "
                "choose a smaller ensemble.time_step_ps than %g",
                self.chains.restarted,
                moved,
                self.chains.time_step_ps,
            )

    def _resume(self, out: Path, identity: dict[str, Any]) -> None:
        saved = load_training_state(out)
        if saved is None:
            return
        tensors, numbers = saved
        if {name: numbers.pop(name, None) for name in identity} != identity:
            raise InputError(
                f"the training state beside {out} is of another dataset, seed, start or settings; "
                f"name another --out, or remove {out}.training to begin anew"
            )
        if self.chains is not None:
            counts = {name: numbers.pop(name) for name in self.chains.numbers()}
            self.chains.restore(tensors, counts)
        self.state.restore(tensors, numbers)
        logger.info("training goes on at step %d", self.state.step)


def _schedule(settings: TrainingSettings, step: int, done: float) -> float:
    """Return the share of the learning rate: a linear rise, then half a cosine to its end."""
    rise = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    low = settings.final_learning_rate
    return rise * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Ask torch for deterministic sums where they cost nothing, on the CPU."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device.type == "cpu" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
