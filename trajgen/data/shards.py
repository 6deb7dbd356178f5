"""The shards of a dataset: where their frames come from, and their lines of the manifest."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trajgen.errors import InputError


@dataclass(frozen=True)
class ShardLabel:
    """Where the frames of a shard come from.

    Attributes:
        name: deterministic name (round, step, task); letters, digits, ``-`` and ``_``.
        source: ``sample``, ``oracle`` or ``import``.
        round: round of the loop, 0 outside it.
        seed: the seed of the run that made the frames, None where unknown.
        oracle_ps: all-atom time spent on it, equilibration included.
        hamiltonian: force field and solvent, such as ``amber14/protein.ff14SB+gbn2``.
        temperature_K: temperature of the run.
        save_interval_ps: time between frames, None where frames are not consecutive.
        constraint_groups: atoms that rigid constraints tie together.
        force_map: name of the map that made the bead forces, None without forces.
        label_kind: instantaneous forces, or mean forces at fixed beads.
        sampling: equilibrium, reweighted (use the weights) or seeded (populations mean nothing).
        continues: the segment of the lowest id is that of the highest id in the shard before.
    """

    name: str
    source: Literal["sample", "oracle", "import"]
    hamiltonian: str
    temperature_K: float
    save_interval_ps: float | None
    round: int = 0
    seed: int | None = None
    oracle_ps: float = 0.0
    constraint_groups: tuple[tuple[int, ...], ...] = ()
    force_map: str | None = None
    label_kind: Literal["instantaneous", "mean-force"] = "instantaneous"
    sampling: Literal["equilibrium", "reweighted", "seeded"] = "equilibrium"
    continues: bool = False

    def require_interval(self, time_step_ps: float | None) -> None:
        """Raise InputError where frames that know their interval have another than this one."""
        wanted_ps = self.save_interval_ps
        if not time_step_ps or not wanted_ps or math.isclose(time_step_ps, wanted_ps, rel_tol=1e-6):
            return
        raise InputError(
            f"shard '{self.name}' is labelled with save_interval_ps {wanted_ps:g}, but its frames "
            f"are {time_step_ps:g} ps apart; give the label their interval"
        )


@dataclass(frozen=True)
class ShardEntry:
    """A line of the manifest: the label, and what the shard's file is."""

    label: ShardLabel
    file: str
    sha256: str
    frames: int

    def to_line(self) -> str:
        """Return the JSON line of the manifest."""
        label = asdict(self.label)
        if not self.label.continues:
            del label["continues"]  # younger than other fields; old datasets keep their digest
        return json.dumps(
            {"file": self.file, "sha256": self.sha256, "frames": self.frames, **label}
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ShardEntry":
        """Read what ``to_line`` wrote.

        Raises:
            KeyError, TypeError or ValueError: the values are others.
        """
        rest = dict(values)
        file, sha256, frames = rest.pop("file"), rest.pop("sha256"), rest.pop("frames")
        if not isinstance(file, str) or not isinstance(frames, int):
            raise TypeError(f"file is {file!r} and frames is {frames!r}")
        groups = tuple(tuple(group) for group in rest.pop("constraint_groups"))
        return cls(ShardLabel(constraint_groups=groups, **rest), file, sha256, frames)
