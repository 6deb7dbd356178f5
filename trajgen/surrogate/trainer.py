"""The network in training: a step, gradients in parts that fit into memory, and the average."""

import copy
import logging
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate import __version__ as accelerate_version
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from trajgen.device import products_in
from trajgen.errors import WorkError
from trajgen.seeding import derive_seed, torch_generator
from trajgen.surrogate.checkpoints import save_surrogate
from trajgen.surrogate.objective import Batch, ask, draw_batch, joined, window_losses
from trajgen.surrogate.optimizers import make_optimizers, set_learning_rate
from trajgen.surrogate.training_settings import TrainSettings
from trajgen.surrogate.training_windows import MoleculeData
from trajgen.surrogate.transformer import DIMENSIONS, TrajectoryTransformer, WindowInputs
from trajgen.surrogate.window_source import WindowSource

logger = logging.getLogger(__name__)

#: The number of a molecule, and windows of it.
Part = tuple[int, Batch]


class Trainer:
    """The network, its optimizers and its averaged weights, and one step of all of them."""

    def __init__(
        self,
        data: tuple[MoleculeData, ...],
        settings: TrainSettings,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.data, self.settings, self.seed = data, settings, seed
        self.accelerator = accelerator
        self.molecules = [part.molecule.to(accelerator.device) for part in data]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "surrogate-weights"))
            torsions = data[0].molecule.resolution.has_torsion.shape[1]
            network = TrajectoryTransformer(DIMENSIONS[settings.model.network.size], torsions)
        self.network = network.to(accelerator.device)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizers = make_optimizers(self.network, settings.training.weight_decay)
        self.wrapped, *self.wrapped_optimizers = accelerator.prepare(
            self.network, *self.optimizers.values()
        )
        self.micro_batch = settings.training.micro_batch or settings.training.batch
        self.step = 0
        self.curve: list[dict[str, Any]] = []
        self.loss_sum, self.loss_count = 0.0, 0
        self.seconds_before, self.started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on training, earlier parts of a resumed run included."""
        return self.seconds_before + time.monotonic() - self.started

    def fraction_done(self) -> float:
        """Return how much of the budget is spent, by steps or by time, alike on all processes."""
        training = self.settings.training
        fraction = self.step / training.steps
        if training.max_minutes is not None:
            spent = torch.tensor(self.seconds / (60 * training.max_minutes))
            spent = self.accelerator.reduce(spent.to(self.accelerator.device), "mean")
            fraction = max(fraction, float(spent))
        return min(1.0, fraction)

    def train_step(self, fraction_done: float) -> float:
        """Take one optimizer step; return its loss on this process."""
        training = self.settings.training
        warmup = min(1.0, (self.step + 1) / max(1, training.warmup_steps))
        highest = self.settings.highest_learning_rate
        rate = highest * warmup * 0.5 * (1 + math.cos(math.pi * fraction_done))
        set_learning_rate(self.optimizers, rate)
        loss = self._gradients(self._batch())
        self.accelerator.clip_grad_norm_(self.wrapped.parameters(), training.gradient_clip)
        for stepping in self.wrapped_optimizers:
            stepping.step()
        self._update_average()
        self.step += 1
        self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
        return loss

    def _answer(self, x: Tensor, t: Tensor, window: WindowInputs) -> tuple[Tensor, Tensor]:
        """Return velocity and types in the precision of the settings, as float32."""
        with products_in(self.settings.training.precision, self.accelerator.device):
            velocity, types = self.wrapped(x, t, window)
        return velocity.float(), types.float()

    def _gradients(self, parts: list[Part]) -> float:
        """Find the gradients of the mean loss of a batch, in parts that fit into memory.

        Where one process runs out of memory all of them begin anew: gradients are shared only when
        every process has its own, so that none waits for one that has to repeat its part.
        """
        while True:
            loss = self._own_gradients(parts)
            if not self._anywhere(loss is None) and loss is not None:
                self._share_gradients()
                return loss
            self._halve_micro_batch(parts)

    def _own_gradients(self, parts: list[Part]) -> float | None:
        """Find the gradients of the windows of this process; None where memory did not do."""
        for stepping in self.wrapped_optimizers:
            stepping.zero_grad()
        windows, total = sum(len(batch.t) for _, batch in parts), 0.0
        try:
            for micro_batch in _cut(parts, self.micro_batch):
                with self.accelerator.no_sync(self.wrapped):
                    loss = self._losses(self._answer, micro_batch).sum() / windows
                    self.accelerator.backward(loss)
                total += float(loss.detach())
        except torch.OutOfMemoryError:
            return None
        return total

    def _anywhere(self, here: bool) -> bool:
        """Say whether something is so on any process."""
        told = torch.tensor(float(here), device=self.accelerator.device)
        return float(self.accelerator.reduce(told, "sum")) > 0

    def _halve_micro_batch(self, parts: list[Part]) -> None:
        if self.micro_batch == 1:
            raise WorkError(
                "the memory of the device is too small for one window; choose a smaller "
                "model.window_frames or model.network.size"
            )
        windows = sum(len(batch.t) for _, batch in parts)
        self.micro_batch = -(-min(self.micro_batch, windows) // 2)
        torch.cuda.empty_cache()
        logger.warning(
            "out of memory in step %d: from now on %d windows go through the network at once; "
            "to begin with that, --set training.micro_batch=%d",
            self.step, self.micro_batch, self.micro_batch,
        )  # fmt: skip

    def _share_gradients(self) -> None:
        """Give every process the mean of the gradients of all."""
        if self.accelerator.num_processes == 1:
            return
        weights = list(self.network.parameters())
        # All processes send as many numbers, whether or not their own windows asked for a weight.
        own = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        shared = self.accelerator.reduce(parameters_to_vector(own), "mean")
        for weight, mean in zip(weights, shared.split([w.numel() for w in weights]), strict=True):
            weight.grad = mean.view_as(weight)

    def _losses(
        self,
        network: Callable[[Tensor, Tensor, WindowInputs], tuple[Tensor, Tensor]],
        parts: list[Part],
        held_out: bool = False,
    ) -> Tensor:
        """Return the losses of windows; molecules of as many residues go through at once."""
        by_size: dict[int, list[Part]] = {}
        for number, batch in parts:
            by_size.setdefault(batch.known.shape[2], []).append((number, batch))
        losses = []
        for group in by_size.values():
            sources = [self._source(number, held_out) for number, _ in group]
            questions = [
                ask(source, batch, self.molecules[number], self.settings.model)
                for source, (number, batch) in zip(sources, group, strict=True)
            ]
            found = window_losses(network, joined(questions))
            sizes = [len(batch.t) for _, batch in group]
            for source, (_, batch), own in zip(sources, group, found.split(sizes), strict=True):
                self._require_finite(own.detach(), batch, source)
            losses.append(found)
        return torch.cat(losses)

    def _source(self, number: int, held_out: bool) -> WindowSource:
        part = self.data[number]
        return part.validation if held_out else part.training

    def add_to_curve(self) -> None:
        """Note the mean training loss since the last call, and the loss of held-out windows."""
        self.share_loss()
        train = self.loss_sum / self.loss_count
        row = {"step": self.step, "train": train, "validation": self._validate()}
        self.curve.append(row)
        self.accelerator.log({k: v for k, v in row.items() if v is not None}, step=self.step)
        self.loss_sum, self.loss_count = 0.0, 0

    def share_loss(self) -> None:
        """Give all processes the mean of their sums of losses: what is stored is that of one."""
        total = torch.tensor(self.loss_sum, dtype=torch.float64, device=self.accelerator.device)
        self.loss_sum = float(self.accelerator.reduce(total, "mean"))

    def save(self, out: Path, said: dict[str, Any]) -> None:
        """Write the checkpoint, with the averaged weights."""
        card = {**said, **self._card()}
        save_surrogate(out, self.averaged, self.settings.model, self.molecules, card)

    def _card(self) -> dict[str, Any]:
        """Return what the checkpoint's card says of the training."""
        length = self.settings.model.window_frames
        return {
            "sequences": [molecule.resolution.beads.sequence for molecule in self.molecules],
            "n_frames": sum(len(part.training.positions) for part in self.data),
            "n_windows": sum(part.training.count(length) for part in self.data),
            "n_validation_windows": sum(part.validation.count(length) for part in self.data),
            "lags_ps": list(self.molecules[0].lags_ps),
            "n_parameters": sum(weights.numel() for weights in self.network.parameters()),
            "steps": self.step,
            "curve": self.curve,
            "wall_seconds": round(self.seconds, 3),
            "device": str(self.accelerator.device),
            "processes": self.accelerator.num_processes,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "accelerate": accelerate_version,
            },
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that a later run needs to go on: tensors, and plain values."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{k}": v for k, v in moments.items()}
        values = {
            "step": self.step,
            "curve": self.curve,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "seconds": self.seconds,
        }
        return tensors, values

    def load_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take up what ``state`` returned."""
        self.network.load_state_dict(_below(tensors, "network."))
        self.averaged.load_state_dict(_below(tensors, "averaged."))
        for name, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(tensors, f"{name}.").items():
                index, kind = key.split(".")
                moments.setdefault(int(index), {})[kind] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.curve = values["step"], values["curve"]
        self.loss_sum, self.loss_count = values["loss_sum"], values["loss_count"]
        self.seconds_before = values["seconds"]

    def _batch(self) -> list[Part]:
        """Draw the molecules and the windows of this step, and return the share of this process.

        What is drawn does not depend on the processes.
        """
        training = self.settings.training
        generator = torch_generator(derive_seed(self.seed, "surrogate-batch", index=self.step))
        numbers = torch.randint(len(self.data), (training.batch,), generator=generator).sort()[0]
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        own = torch.arange(training.batch) % processes == process
        parts = []
        for number in numbers.unique().tolist():
            rows = numbers == number
            count, noise_nm = int(rows.sum()), training.context_noise_nm
            batch = self._drawn(number, self._source(number, False), count, noise_nm, generator)
            if bool(own[rows].any()):
                parts.append((number, batch.take(torch.nonzero(own[rows]).flatten())))
        return parts

    def _drawn(
        self,
        number: int,
        source: WindowSource,
        windows: int,
        context_noise_nm: float,
        generator: torch.Generator,
    ) -> Batch:
        return draw_batch(
            source,
            self.data[number].molecule.resolution,
            windows,
            self.settings.model.window_frames,
            self.settings.tasks,
            context_noise_nm,
            generator,
        )

    @torch.no_grad()
    def _validate(self) -> float | None:
        """Return the loss of the averaged weights on held-out windows, with fixed draws."""
        training = self.settings.training
        tasks = self.settings.tasks
        held_out = [n for n, part in enumerate(self.data) if part.validation.serves(tasks)]
        parts = []
        for number in held_out:
            generator = torch_generator(derive_seed(self.seed, "surrogate-validation", 0, number))
            count = -(-training.validation_windows // len(held_out))
            source = self._source(number, held_out=True)
            parts.append((number, self._drawn(number, source, count, 0.0, generator)))
        losses = [
            self._losses(self.averaged, part, held_out=True)
            for part in _cut(parts, min(training.batch, self.micro_batch))
        ]
        return float(torch.cat(losses).mean()) if losses else None

    @torch.no_grad()
    def _update_average(self) -> None:
        # In the first steps a long memory would hold on to the untrained weights.
        decay = min(self.settings.training.average_decay, (1 + self.step) / (10 + self.step))
        pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
        for averaged, current in pairs:
            averaged.lerp_(current, 1 - decay)

    def _require_finite(self, losses: Tensor, batch: Batch, source: WindowSource) -> None:
        bad = ~torch.isfinite(losses)
        if bool(bad.any()):
            window = source.describe(batch.frames[int(bad.int().argmax())])
            raise WorkError(
                f"the loss is not finite in step {self.step} at {window}; look at those frames, or "
                f"lower training.learning_rate from {self.settings.highest_learning_rate:g}"
            )


def _cut(parts: list[Part], windows: int) -> list[list[Part]]:
    """Cut a batch into such with at most so many windows."""
    pieces: list[list[Part]] = [[]]
    room = windows
    for number, batch in parts:
        begin = 0
        while begin < len(batch.t):
            if room == 0:
                pieces.append([])
                room = windows
            taken = batch.take(slice(begin, begin + room))
            pieces[-1].append((number, taken))
            begin, room = begin + len(taken.t), room - len(taken.t)
    return [piece for piece in pieces if piece]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
