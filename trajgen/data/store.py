"""The dataset on disk: a folder to which whole shards are appended and nothing is changed.

``dataset.yaml`` says what the molecule is, ``manifest.jsonl`` has a line a shard, and
``shards/NAME.safetensors`` holds the arrays, read by memory map. A shard is written under a
temporary name, synced and renamed; then its manifest line is appended and synced. So after a
crash every manifest line has its shard, and a shard without a line is an orphan that readers
ignore and the next writer removes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trajgen.data.mapping import map_frames
from trajgen.data.records import AtomFrames, BeadFrames, join_chunks, segments_apart
from trajgen.data.shards import ShardEntry, ShardLabel
from trajgen.data.timeline import Timeline
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError
from trajgen.files import (
    append_line,
    drop_cut_line,
    read_lines,
    sha256_of,
    sync_folder,
    system_errors,
    values_of,
    whole_file,
    whole_folder,
)
from trajgen.settings import read_yaml

LAYOUT_VERSION = 1
UNITS = {"length": "nm", "time": "ps", "energy": "kJ/mol", "force": "kJ/mol/nm"}
#: How a damaged dataset is mended.
_RESTORE = "restore it from a copy"


@dataclass(frozen=True)
class DatasetHeader:
    """What a dataset is of.

    Attributes:
        beads: the coarse-grained molecule.
        atoms: the solute's atoms, None where only beads are known.
        bead_atoms: the atom that each bead sits on, None where only beads are known.
    """

    beads: BeadTopology
    atoms: AtomTopology | None = None
    bead_atoms: tuple[int, ...] | None = None


class Dataset:
    """An append-only dataset of one molecule.

    Readers take ``Dataset.open(path)``; the one writer takes ``Dataset.open(path, writer=True)``,
    which first removes what a crash left behind.
    """

    def __init__(self, path: Path, header: DatasetHeader, entries: tuple[ShardEntry, ...]) -> None:
        self.path = path
        self.header = header
        self.entries = entries

    @classmethod
    def create(cls, path: Path, header: DatasetHeader) -> "Dataset":
        """Make an empty dataset.

        Raises:
            InputError: ``path`` exists already.
        """
        with whole_folder(path) as folder:
            (folder / "shards").mkdir()
            text = yaml.safe_dump(_header_to_dict(header), sort_keys=False)
            (folder / "dataset.yaml").write_text(text, encoding="utf-8")
            (folder / "manifest.jsonl").touch()
        return cls(path, header, ())

    @classmethod
    def open(cls, path: Path, writer: bool = False) -> "Dataset":
        """Open a dataset for reading, or as its one writer.

        Raises:
            InputError: it is no dataset, of another layout, damaged, or a shard is missing.
        """
        if not (path / "dataset.yaml").is_file():
            raise InputError(f"{path} is no dataset: it has no dataset.yaml; see trajgen import")
        header = _header_from_dict(read_yaml(path / "dataset.yaml"), path)
        if writer:
            drop_cut_line(path / "manifest.jsonl")
        entries = _read_manifest(path / "manifest.jsonl")
        for entry in entries:
            if not (path / entry.file).is_file():
                raise InputError(f"dataset {path} lacks {entry.file}, which its manifest names")
        if writer:
            known = {path / entry.file for entry in entries}
            for file in (path / "shards").iterdir():
                if file not in known:
                    file.unlink()
        return cls(path, header, entries)

    @property
    def n_frames(self) -> int:
        """The number of frames in all shards."""
        return sum(entry.frames for entry in self.entries)

    @property
    def oracle_ps(self) -> float:
        """All-atom time spent on all shards, ps."""
        return sum(entry.label.oracle_ps for entry in self.entries)

    def digest(self) -> str:
        """Return a hash of header and content: equal digests mean equal frames."""
        digest = hashlib.sha256((self.path / "dataset.yaml").read_bytes())
        for entry in self.entries:
            digest.update(entry.to_line().encode())
        return digest.hexdigest()

    def damaged_files(self) -> list[str]:
        """Return the shards whose content is not what the manifest says; reads all of them."""
        return [
            entry.file
            for entry in self.entries
            if sha256_of(self.path / entry.file) != entry.sha256
        ]

    def has(self, name: str) -> bool:
        """Say whether a shard of this name is in the dataset."""
        return any(entry.label.name == name for entry in self.entries)

    def append_atoms(
        self,
        label: ShardLabel,
        atoms: AtomFrames,
        parents: np.ndarray | None = None,
    ) -> None:
        """Append all-atom frames: they are mapped to beads, and both are stored.

        Args:
            label: ``label.force_map`` names the force map, None leaves forces out of the beads.
            atoms: the solute, in the atom order of the header.
            parents: for each frame the number of the chosen frame (of its round) that it grew from.

        Raises:
            InputError: the atoms are not those of the dataset, or the shard is there already.
        """
        if self.header.atoms is None or self.header.bead_atoms is None:
            raise InputError(f"dataset {self.path} is of beads only; all-atom frames do not fit")
        if atoms.topology != self.header.atoms:
            raise InputError(f"the frames of shard {label.name} are not of this dataset's atoms")
        beads = map_frames(
            atoms,
            self.header.beads,
            self.header.bead_atoms,
            label.force_map,
            label.constraint_groups,
        )
        arrays = {"atom_positions_nm": atoms.positions_nm}
        if atoms.forces is not None:
            arrays["atom_forces"] = atoms.forces
        self._append(label, beads, arrays, parents)

    def append_beads(
        self, label: ShardLabel, beads: BeadFrames, parents: np.ndarray | None = None
    ) -> None:
        """Append frames of which only the beads are known.

        Raises:
            InputError: the beads are not those of the dataset, or the shard is there already.
        """
        self.header.beads.require_same(beads.topology, f"dataset {self.path}", "the new shard")
        self._append(label, replace(beads, topology=self.header.beads), {}, parents)

    def read_beads(self, entry: ShardEntry) -> BeadFrames:
        """Read the beads of one shard."""
        with self.open_shard(entry) as shard:
            optional = {
                name: shard.get_tensor(name) if name in shard.keys() else None  # noqa: SIM118
                for name in ("forces", "weights", "force_variance")
            }
            return BeadFrames(
                topology=self.header.beads,
                positions_nm=shard.get_tensor("positions_nm"),
                segments=shard.get_tensor("segments"),
                time_step_ps=entry.label.save_interval_ps,
                **optional,
            )

    def read_timeline(self) -> Timeline:
        """Read when the frames of all shards are, without the frames."""
        labels = [entry.label for entry in self.entries]
        return Timeline.of(
            (self._read_segments(entry) for entry in self.entries),
            [label.save_interval_ps for label in labels],
            [label.continues for label in labels],
        )

    def _read_segments(self, entry: ShardEntry) -> np.ndarray:
        with self.open_shard(entry) as shard:
            segments: np.ndarray = shard.get_tensor("segments")
            return segments

    def read_weights(self, entry: ShardEntry) -> np.ndarray | None:
        """Read the weights of one shard's frames alone, None where it has none."""
        with self.open_shard(entry) as shard:
            return shard.get_tensor("weights") if "weights" in shard.keys() else None  # noqa: SIM118

    def has_forces(self, entry: ShardEntry) -> bool:
        """Say whether the beads of one shard have forces, without reading them."""
        with self.open_shard(entry) as shard:
            return "forces" in shard.keys()  # noqa: SIM118

    def read_all_beads(self) -> BeadFrames:
        """Read and join the beads of all shards, in the order of the manifest."""
        entries = self._some_entries()
        parts = [self.read_beads(entry) for entry in entries]
        segments = segments_apart(
            [part.segments for part in parts], [entry.label.continues for entry in entries]
        )
        return join_chunks(
            [replace(part, segments=own) for part, own in zip(parts, segments, strict=True)]
        )

    def read_atoms(
        self, entry: ShardEntry, frames: Sequence[int] | None = None, forces: bool = True
    ) -> AtomFrames:
        """Read the atoms of one shard, or only some of its frames, with or without their forces.

        Raises:
            InputError: the dataset is of beads only.
        """
        if self.header.atoms is None:
            raise InputError(f"dataset {self.path} is of beads only; it holds no atoms")
        with self.open_shard(entry) as shard:
            names = shard.keys()
            wanted = slice(None) if frames is None else list(frames)

            def part(name: str) -> np.ndarray:
                if frames is None:
                    return shard.get_tensor(name)
                rows = shard.get_slice(name)
                return np.concatenate([rows[f : f + 1] for f in frames])

            return AtomFrames(
                topology=self.header.atoms,
                positions_nm=part("atom_positions_nm"),
                segments=shard.get_tensor("segments")[wanted],
                time_step_ps=entry.label.save_interval_ps if frames is None else None,
                forces=part("atom_forces") if forces and "atom_forces" in names else None,
                weights=shard.get_tensor("weights")[wanted] if "weights" in names else None,
            )

    def _some_entries(self) -> tuple[ShardEntry, ...]:
        if not self.entries:
            raise InputError(f"dataset {self.path} is empty; append frames first")
        return self.entries

    def _append(
        self,
        label: ShardLabel,
        beads: BeadFrames,
        more: dict[str, np.ndarray],
        parents: np.ndarray | None,
    ) -> None:
        if self.has(label.name):
            raise InputError(f"dataset {self.path} has a shard '{label.name}' already")
        if not label.name.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"shard name '{label.name}' may hold letters, digits, - and _ only")
        label.require_interval(beads.time_step_ps)
        arrays = {
            "positions_nm": beads.positions_nm,
            "segments": beads.segments,
            "forces": beads.forces,
            "weights": beads.weights,
            "force_variance": beads.force_variance,
            "parents": parents,
            **more,
        }
        present = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
        file = f"shards/{label.name}.safetensors"
        with whole_file(self.path / file) as temporary, system_errors(self.path / file):
            save_file(present, temporary)
        entry = ShardEntry(label, file, sha256_of(self.path / file), beads.n_frames)
        append_line(self.path / "manifest.jsonl", entry.to_line())
        sync_folder(self.path)
        self.entries = (*self.entries, entry)

    def open_shard(self, entry: ShardEntry, framework: str = "numpy") -> Any:
        """Open the file of a shard, as arrays of NumPy or as tensors (``pt``).

        Raises:
            InputError: it is missing or damaged.
        """
        try:
            return safe_open(self.path / entry.file, framework=framework)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"shard {self.path / entry.file} is damaged ({error}); restore it from a copy"
            ) from error


def _header_to_dict(header: DatasetHeader) -> dict[str, Any]:
    return {
        "layout_version": LAYOUT_VERSION,
        "units": UNITS,
        "mapping": {
            "kind": "alpha-carbon",
            "bead_atoms": list(header.bead_atoms) if header.bead_atoms is not None else None,
        },
        "beads": header.beads.to_dict(),
        "atoms": header.atoms.to_dict() if header.atoms is not None else None,
    }


def _header_from_dict(values: dict[str, Any], path: Path) -> DatasetHeader:
    if values.get("layout_version") != LAYOUT_VERSION:
        raise InputError(
            f"dataset {path} has layout version {values.get('layout_version')}; "
            f"this program reads {LAYOUT_VERSION}"
        )
    if values.get("units") != UNITS:
        raise InputError(f"dataset {path} has units {values.get('units')}; wanted are {UNITS}")
    with values_of(str(path / "dataset.yaml"), _RESTORE):
        bead_atoms = values["mapping"]["bead_atoms"]
        atoms = values["atoms"]
        return DatasetHeader(
            beads=BeadTopology.from_dict(values["beads"]),
            atoms=AtomTopology.from_dict(atoms) if atoms is not None else None,
            bead_atoms=tuple(bead_atoms) if bead_atoms is not None else None,
        )


def _read_manifest(file: Path) -> tuple[ShardEntry, ...]:
    entries = []
    for number, row in enumerate(read_lines(file), start=1):
        with values_of(f"{file}, line {number},", _RESTORE):
            entries.append(ShardEntry.from_dict(row))
    return tuple(entries)
