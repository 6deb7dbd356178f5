"""What a path holds, in a few plain values: a dataset, a checkpoint or a trajectory."""

from pathlib import Path
from typing import Any

import numpy as np

from trajgen.checkpoint import read_card
from trajgen.data.mapping import bead_topology
from trajgen.data.sources import open_samples
from trajgen.data.store import Dataset
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.files import sha256_of


def summarise(path: Path, topology: Path | None = None) -> dict[str, Any]:
    """Return plain values that describe what lies at ``path``.

    Raises:
        InputError: nothing is there, or nothing that is known.
    """
    if (path / "dataset.yaml").is_file():
        return summarise_dataset(Dataset.open(path))
    if (path / "card.json").is_file():
        return summarise_checkpoint(path)
    if path.is_file():
        return summarise_trajectory(path, topology)
    if path.is_dir():
        raise InputError(f"{path} is neither a dataset nor a checkpoint")
    raise InputError(f"{path} is missing; name a dataset, a checkpoint or a trajectory")


def summarise_dataset(dataset: Dataset) -> dict[str, Any]:
    """Return the molecule, the amount and the origin of a dataset's frames.

    Frames are not read into memory: a dataset may be larger than that.
    """
    entries = dataset.entries
    labels = [entry.label for entry in entries]
    return {
        "kind": "dataset",
        "damaged_files": dataset.damaged_files(),
        **_molecule(dataset.header.beads),
        "atoms": dataset.header.atoms.n_atoms if dataset.header.atoms is not None else None,
        "frames": dataset.n_frames,
        "segments": dataset.read_timeline().n_segments,
        "shards": len(labels),
        "frames_with_forces": sum(entry.frames for entry in entries if dataset.has_forces(entry)),
        "weighted": any(dataset.read_weights(entry) is not None for entry in entries),
        "sources": _distinct(label.source for label in labels),
        "rounds": _distinct(label.round for label in labels),
        "sampling": _distinct(label.sampling for label in labels),
        "hamiltonians": _distinct(label.hamiltonian for label in labels),
        "temperatures_K": _distinct(label.temperature_K for label in labels),
        "save_intervals_ps": _distinct(label.save_interval_ps for label in labels),
        "force_maps": _distinct(label.force_map for label in labels),
        "oracle_ps": dataset.oracle_ps,
        "digest": dataset.digest(),
    }


def summarise_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's card, and whether its weights are the ones that the card names."""
    card = read_card(path)
    intact = sha256_of(path / "model.safetensors") == card.get("model_sha256")
    return {"intact": intact, **card}


def summarise_trajectory(path: Path, topology: Path | None) -> dict[str, Any]:
    """Return the molecule, the amount and the spacing of a trajectory's frames."""
    samples = open_samples([path], topology)
    frames = 0
    segments: set[int] = set()
    steps_ps: set[float | None] = set()
    for chunk in samples.chunks():
        frames += chunk.n_frames
        segments.update(np.unique(chunk.segments).tolist())
        steps_ps.add(chunk.time_step_ps)
    return {
        "kind": "trajectory",
        **_molecule(bead_topology(samples.topology)),
        "frames": frames,
        "segments": len(segments),
        "time_step_ps": steps_ps.pop() if len(steps_ps) == 1 else None,
        "left_out": samples.left_out,
    }


def _molecule(beads: BeadTopology) -> dict[str, Any]:
    return {"sequence": beads.sequence, "beads": beads.n_beads}


def _distinct(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
