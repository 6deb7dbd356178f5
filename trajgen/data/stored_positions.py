"""Positions of all frames of a dataset, which stay in its files until they are asked for.

Models that draw a few frames a step can so learn from more frames than fit into memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trajgen.data.shards import ShardEntry
from trajgen.data.store import Dataset
from trajgen.data.timeline import Stretches
from trajgen.errors import InputError

#: Frames that are read at once by those who go through all.
CHUNK_FRAMES = 16_384


@dataclass(frozen=True)
class StoredPositions:
    """Positions in shards that are mapped into memory; frames count through the shards.

    Attributes:
        shards: positions in each shard.
        names: names of the shards, for messages.
        sites: the sites that are read, of those that are stored; None for all.
    """

    shards: tuple[Float[Tensor, "_ stored_sites 3"], ...]
    names: tuple[str, ...]
    sites: Int64[Tensor, " sites"] | None = None

    @classmethod
    def of_beads(cls, dataset: Dataset) -> "StoredPositions":
        """Return the positions of the beads of a dataset."""
        return cls(
            tuple(_mapped(dataset, entry, "positions_nm") for entry in dataset.entries),
            tuple(entry.label.name for entry in dataset.entries),
        )

    @classmethod
    def of_atoms(cls, dataset: Dataset, sites: Int64[Tensor, " sites"]) -> "StoredPositions":
        """Return the positions of some atoms of a dataset.

        Raises:
            InputError: the dataset is of beads only.
        """
        if dataset.header.atoms is None:
            raise InputError(f"dataset {dataset.path} is of beads only; it holds no atoms")
        return cls(
            tuple(_mapped(dataset, entry, "atom_positions_nm") for entry in dataset.entries),
            tuple(entry.label.name for entry in dataset.entries),
            sites,
        )

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self._ends[-1]) if len(self.shards) else 0

    @property
    def n_sites(self) -> int:
        """The number of sites of a frame that is read."""
        return self.shards[0].shape[1] if self.sites is None else len(self.sites)

    def read(self, frames: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape sites 3"]:
        """Read frames, in any order and as often as they are named."""
        flat = frames.flatten()
        shard = self.shard_of(flat)
        positions = torch.empty(len(flat), self.n_sites, 3)
        for number in shard.unique().tolist():
            rows = torch.nonzero(shard == number).flatten()
            stored = self.shards[number]
            found = stored[flat[rows] - (self._ends[number] - len(stored))]
            positions[rows] = found if self.sites is None else found[:, self.sites]
        return positions.view(*frames.shape, self.n_sites, 3)

    def chunks(
        self, frames: Stretches | None = None
    ) -> Iterator[tuple[Int64[Tensor, " some"], Float[Tensor, "some sites 3"]]]:
        """Yield frames and their positions, so many at a time that they fit into memory.

        Args:
            frames: the frames, None for all.
        """
        wanted = Stretches(np.zeros(1, np.int64), np.array([len(self)]))
        for some in (wanted if frames is None else frames).chunks(CHUNK_FRAMES):
            chosen = torch.from_numpy(some)
            yield chosen, self.read(chosen)

    def shard_of(self, frames: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """Return the number of the shard that each frame lies in."""
        return torch.bucketize(frames.contiguous(), self._ends, right=True)

    def describe(self, frame: int) -> str:
        """Name the shard of a frame and its place in it."""
        number = int(self.shard_of(torch.tensor(frame)))
        place = frame - int(self._ends[number]) + len(self.shards[number])
        return f"frame {place} of shard {self.names[number]}"

    @cached_property
    def _ends(self) -> Int64[Tensor, " shards"]:
        return torch.tensor([len(shard) for shard in self.shards], dtype=torch.long).cumsum(0)


def _mapped(dataset: Dataset, entry: ShardEntry, name: str) -> Float[Tensor, "frames sites 3"]:
    """Map the positions of a shard into memory; only what is used is read."""
    with dataset.open_shard(entry, framework="pt") as shard:
        positions: Tensor = shard.get_tensor(name)
        return positions
