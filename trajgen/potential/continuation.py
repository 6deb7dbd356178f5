"""Training that goes on from a fitted potential after its dataset has grown.

Weights trained on new frames alone forget the old ones. So every batch holds both kinds (rehearsal:
Robins, Connect. Sci. 7, 123 (1995)). What is new follows from the card of the old potential, which
names the shards that it was trained on. Labels are made anew from the stored raw forces, so priors
may be kept or fitted again.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from trajgen.checkpoint import read_card
from trajgen.data.splits import split_by_segment
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.potential.force_labels import LabelledFrames
from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.settings import Settings


class ContinuationSettings(Settings):
    """Choices of a training that goes on from a fitted potential; without one they do nothing.

    Attributes:
        new_share: share of new frames in every batch; 1 leaves the old ones out and forgets them.
        priors: keep those of the old potential, whose rest its network has learnt, or refit them to
            the grown dataset. Frames of active learning are seeded and tell nothing of populations,
            so a refit changes something where plain sampling was added.
    """

    new_share: float = Field(default=0.5, gt=0, le=1)
    priors: Literal["keep", "refit"] = "keep"


@dataclass(frozen=True)
class Stage:
    """Shards that came into training together, and what their split follows from.

    Attributes:
        seed: seed of the split into training and validation frames.
        validation_fraction: share of frames held out.
        shards: name and sha256 of each shard.
    """

    seed: int
    validation_fraction: float
    shards: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what the card says of the stage."""
        return {**asdict(self), "shards": [list(shard) for shard in self.shards]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Stage":
        """Read what ``to_dict`` wrote."""
        shards = tuple((name, digest) for name, digest in values["shards"])
        return cls(values["seed"], values["validation_fraction"], shards)


@dataclass(frozen=True)
class Start:
    """A fitted potential to go on from.

    Attributes:
        path: its checkpoint.
        sha256: hash of its weights.
        potential: the potential, ready to be trained on.
        prior_notes: which of its prior terms are defaults.
        stages: what it was trained on.
    """

    path: Path
    sha256: str
    potential: Potential
    prior_notes: tuple[str, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Split:
    """Indices of labelled frames by kind; without a start every frame is new.

    Attributes:
        train_old: frames to train on of the shards that the start knows.
        train_new: frames to train on of other shards.
        validation_old: frames that the start held out; they stay held out.
        validation_new: frames held out of other shards.
    """

    train_old: Int64[np.ndarray, " train_old"]
    train_new: Int64[np.ndarray, " train_new"]
    validation_old: Int64[np.ndarray, " validation_old"]
    validation_new: Int64[np.ndarray, " validation_new"]

    @property
    def train(self) -> Int64[np.ndarray, " train"]:
        """All frames to train on, the old ones first."""
        return np.concatenate([self.train_old, self.train_new])

    @property
    def validation(self) -> Int64[np.ndarray, " validation"]:
        """All frames held out, the old ones first."""
        return np.concatenate([self.validation_old, self.validation_new])


def read_start(path: Path, wanted: PotentialSettings) -> Start:
    """Read a potential to go on from.

    Raises:
        InputError: it is no potential, of another molecule, temperature or other settings, or its
            card does not name the shards that it was trained on.
    """
    potential = Potential.read(path)
    fresh = Potential(wanted.model_copy(update={"committee": 0}))
    fresh.topology.require_same(potential.topology, "the dataset", f"potential {path}")
    for name in ("temperature_K", "priors", "network", "committee"):
        old, new = getattr(potential.settings, name), getattr(wanted, name)
        if old != new:
            raise InputError(
                f"potential {path} has {name} {old}, this fit {new}; training goes on with the "
                "same settings only: give those, or fit anew without --continue-from"
            )
    card = read_card(path)
    if "trained_on" not in card:
        raise InputError(
            f"the card of potential {path} does not name the shards that it was trained on; "
            "fit it anew without --continue-from"
        )
    stages = tuple(Stage.from_dict(values) for values in card["trained_on"])
    return Start(path, card["model_sha256"], potential, tuple(card["prior_notes"]), stages)


def find_stages(
    dataset: Dataset, start: Start | None, seed: int, validation_fraction: float
) -> tuple[Stage, ...]:
    """Return the stages of the start, and one more of the shards that it does not know, if any.

    Raises:
        InputError: the dataset lacks a shard that the start was trained on.
    """
    before = () if start is None else start.stages
    here = [(entry.label.name, entry.sha256) for entry in dataset.entries]
    known = {shard for stage in before for shard in stage.shards}
    if start is not None and (missing := known - set(here)):
        raise InputError(
            f"dataset {dataset.path} lacks {len(missing)} of the {len(known)} shards that "
            f"{start.path} was trained on, such as '{min(missing)[0]}'; give the dataset that it "
            "was fitted to, grown by new shards, or fit anew without --continue-from"
        )
    new = tuple(shard for shard in here if shard not in known)
    return (*before, Stage(seed, validation_fraction, new)) if new else before


def split_frames(
    dataset: Dataset, labelled: LabelledFrames, stages: tuple[Stage, ...], n_old_stages: int
) -> Split:
    """Split the frames of each stage as it was, or would have been, split when it came in."""
    here = [(entry.label.name, entry.sha256) for entry in dataset.entries]
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("train_old", "train_new", "validation_old", "validation_new")
    }
    for number, stage in enumerate(stages):
        places = [place for place, shard in enumerate(here) if shard in stage.shards]
        frames = np.flatnonzero(np.isin(labelled.shards, places))
        if not len(frames):
            continue
        in_train, in_validation = (
            np.ones(len(frames), dtype=bool),
            np.zeros(len(frames), dtype=bool),
        )
        if len(frames) > 1:  # a single frame cannot be split, and is trained on
            in_train, in_validation = split_by_segment(
                labelled.frames.segments[frames], stage.validation_fraction, stage.seed
            )
        kind = "old" if number < n_old_stages else "new"
        parts[f"train_{kind}"].append(frames[in_train])
        parts[f"validation_{kind}"].append(frames[in_validation])
    nothing = np.zeros(0, dtype=np.int64)
    return Split(**{name: np.concatenate([nothing, *found]) for name, found in parts.items()})
