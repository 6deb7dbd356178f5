"""All that a step of training changes, in a form that a file holds and a resumed run reads back."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class TrainingState:
    """Weights, their running average, the best average so far, optimizer moments, and the curve.

    Attributes:
        network: the weights that are trained.
        average: a copy with exponentially averaged weights, which is what is validated and kept.
        step: finished steps.
        minutes: wall time spent, over all resumed runs.
        curve: a row ``{"step", "train", "validation", "gap"}`` for each evaluation: losses of the
            forces, (kJ/mol/nm)², and the mean energy gap of ensemble matching, kT.
        best_step: the step of the average that is kept, None before the first.
        train_sum: sum of the batch losses since the last evaluation.
        gap_sum: sum of the energy gaps since then, kT; None without ensemble matching.
        train_count: their number.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, decay: float) -> None:
        self.network, self.optimizer, self.decay = network, optimizer, decay
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.best = _copied(self.average)
        self.step = 0
        self.minutes = 0.0
        self.curve: list[dict[str, Any]] = []
        self.best_step: int | None = None
        self.train_sum, self.train_count = 0.0, 0
        self.gap_sum: float | None = None

    def finish_step(self, loss: float, gap: float | None = None) -> None:
        """Count a step and move the average; early averages are short, so that they catch up."""
        self.step += 1
        if gap is not None:
            self.gap_sum = gap + (self.gap_sum or 0.0)
        self.train_sum, self.train_count = self.train_sum + loss, self.train_count + 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, current in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                average.lerp_(current.detach(), 1 - decay)

    def finish_evaluation(self, validation: float | None, keep_latest: bool) -> None:
        """Append a row to the curve, and keep the average where it is the best.

        Without validation frames the latest average is kept, and where it is asked for.
        """
        train = self.train_sum / self.train_count if self.train_count else None
        gap = self.gap_sum / self.train_count if self.gap_sum is not None else None
        self.train_sum, self.train_count, self.gap_sum = 0.0, 0, None
        lowest = self.best_validation
        self.curve.append({"step": self.step, "train": train, "validation": validation, "gap": gap})
        if keep_latest or validation is None or lowest is None or validation < lowest:
            self.best, self.best_step = _copied(self.average), self.step

    @property
    def best_validation(self) -> float | None:
        """The lowest validation loss, None where there is none."""
        losses = [row["validation"] for row in self.curve if row["validation"] is not None]
        return min(losses, default=None)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under flat names."""
        parts = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
        }
        flat = {f"{part}.{k}": v for part, values in parts.items() for k, v in values.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            flat |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        return flat

    def numbers(self) -> dict[str, Any]:
        """Return all that is no tensor."""
        return {
            "step": self.step,
            "minutes": self.minutes,
            "curve": self.curve,
            "best_step": self.best_step,
            "train_sum": self.train_sum,
            "train_count": self.train_count,
            "gap_sum": self.gap_sum,
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Read back what ``tensors`` and ``numbers`` gave."""
        self.network.load_state_dict(_part(tensors, "network"))
        self.average.load_state_dict(_part(tensors, "average"))
        self.best = _part(tensors, "best")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer").items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        for name, value in numbers.items():
            setattr(self, name, value)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = name + "."
    return {key[len(prefix) :]: v for key, v in tensors.items() if key.startswith(prefix)}
