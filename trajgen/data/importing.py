"""Data of others as a dataset: bead arrays, or atom trajectories in chunks.

A trajectory of any length is read and written chunk by chunk, a shard a chunk of at most
``SHARD_FRAMES`` frames. A segment may go on in the next shard of its file. The dataset appears
under its name when all of it is there.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from trajgen.data.cards import refuse_other_clock
from trajgen.data.file_clock import FileClock
from trajgen.data.mapping import Groups, map_frames
from trajgen.data.readers import (
    load_array,
    read_bead_arrays,
    read_segments,
    read_weights,
)
from trajgen.data.records import AtomFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.structures import Solute, read_solute
from trajgen.data.topology import AtomTopology
from trajgen.data.trajectories import even_step, has_times, iterate_trajectory
from trajgen.errors import InputError
from trajgen.files import whole_folder
from trajgen.progress import SILENT, Progress
from trajgen.settings import Settings
from trajgen.units import force_factor

logger = logging.getLogger(__name__)

#: A shard of a trajectory holds at most this many frames.
SHARD_FRAMES = 10_000
#: Consecutive C-alpha atoms further apart than this are no neighbours in a chain, nm.
LONGEST_BOND_NM = 0.6


class ImportSettings(Settings):
    """What the files to import do not say themselves.

    Attributes:
        temperature_K: temperature of the run.
        hamiltonian: force field and solvent of the run.
        time_step_ps: time between frames; none where they are not consecutive.
        sequence: one-letter codes, for bead arrays.
        length_unit: unit of bead coordinates, and of length in forces.
        energy_unit: unit of energy in forces.
        resolution: ``ca`` stores the beads, ``heavy`` the solute's atoms as well.
        constraints: what the run held rigid: ``h-bonds`` (right also where nothing was) or none.
        force_map: how atom forces become bead forces.
        trust_times: whether the times in a trajectory file must agree with ``time_step_ps``; false
            imports a file whose times are wrong.
    """

    temperature_K: float = Field(gt=0)
    hamiltonian: str = "unknown"
    time_step_ps: float | None = Field(default=None, gt=0)
    sequence: str | None = None
    length_unit: Literal["nm", "angstrom"] | None = None
    energy_unit: Literal["kJ/mol", "kcal/mol"] | None = None
    resolution: Literal["ca", "heavy"] = "ca"
    constraints: Literal["h-bonds", "none"] = "h-bonds"
    force_map: Literal["aggregate", "slice"] = "aggregate"
    trust_times: bool = True


@dataclass(frozen=True)
class FrameArrays:
    """``.npy`` files with a value for each frame, counted through all sources in order.

    Attributes:
        forces: (frames, beads, 3), or (frames, atoms, 3) for atom trajectories.
        weights: statistical weight of each frame.
        segments: whole number of the run that each frame belongs to.
    """

    forces: Path | None = None
    weights: Path | None = None
    segments: Path | None = None


def import_arrays(
    coords: Path, out: Path, settings: ImportSettings, arrays: FrameArrays | None = None
) -> Dataset:
    """Make a dataset of C-alpha bead arrays, one shard.

    Raises:
        InputError: ``out`` exists, or what was given does not fit (see ``read_bead_arrays``).
    """
    arrays = arrays or FrameArrays()
    if settings.resolution == "heavy":
        raise InputError(
            "resolution is heavy, but bead coordinates hold no atoms; leave out --resolution, or "
            "import the trajectory of the atoms"
        )
    if settings.sequence is None:
        raise InputError("the residues of the beads are not known; add --sequence LETTERS")
    if settings.length_unit is None:
        raise InputError("the unit of the coordinates is not known; add --length-unit angstrom|nm")
    with _new_folder(out) as folder:
        frames = read_bead_arrays(
            coords,
            settings.sequence,
            settings.length_unit,
            settings.energy_unit,
            arrays.forces,
            arrays.weights,
            arrays.segments,
            settings.time_step_ps,
        )
        dataset = Dataset.create(folder, DatasetHeader(beads=frames.topology))
        dataset.append_beads(_label(settings, arrays, "given"), frames)
    return Dataset.open(out)


def import_trajectory(
    sources: Sequence[Path],
    topology: Path,
    out: Path,
    settings: ImportSettings,
    arrays: FrameArrays | None = None,
    progress: Progress = SILENT,
) -> Dataset:
    """Make a dataset of atom trajectories; each file is a segment, or several.

    Raises:
        InputError: ``out`` exists, a file cannot be read, what was given does not fit, the times in
            a file are uneven or not ``time_step_ps`` apart, or its frames have no time of real
            chains.
    """
    arrays = arrays or FrameArrays()
    if not sources:
        raise InputError("there is no trajectory to import; name at least one file")
    if settings.sequence is not None:
        raise InputError(
            f"sequence is {settings.sequence}, but the residues of a trajectory are those of its "
            "topology; leave out --sequence"
        )
    if arrays.forces is not None and (settings.length_unit is None or settings.energy_unit is None):
        raise InputError(
            "the unit of the forces is not known; add --length-unit angstrom|nm and "
            "--energy-unit kJ/mol|kcal/mol"
        )
    if settings.time_step_ps is not None:
        for source in sources:
            refuse_other_clock(source, settings.time_step_ps)
    with _new_folder(out) as folder:
        solute = read_solute(topology)
        values = _FrameValues(arrays, solute, settings)
        heavy = settings.resolution == "heavy"
        header = DatasetHeader(
            beads=solute.beads,
            atoms=solute.topology if heavy else None,
            bead_atoms=solute.bead_atoms if heavy else None,
        )
        dataset = Dataset.create(folder, header)
        groups: Groups = ()
        if settings.constraints == "h-bonds":
            positions, _ = next(iterate_trajectory(sources[0], topology, solute, chunk=1))
            groups = hydrogen_groups(solute.topology, positions[0])
        label = _label(settings, arrays, settings.force_map, groups)
        with progress.task("import", len(sources)) as task:
            for number, source in enumerate(sources):
                named = replace(label, name=f"{label.name}-{number:03d}")
                clock = FileClock(source, settings.time_step_ps if settings.trust_times else None)
                _append_file(dataset, source, topology, solute, values, clock, named)
                task.advance(status=f"{dataset.n_frames} frames")
        values.require_used_up()
    return Dataset.open(out)


def hydrogen_groups(
    atoms: AtomTopology, positions_nm: Float32[np.ndarray, "atoms 3"]
) -> tuple[tuple[int, ...], ...]:
    """Return each heavy atom with its hydrogens: what constrained bonds to hydrogen tie together.

    A hydrogen belongs to the nearest heavy atom of its residue, whatever its name is.
    """
    elements = np.array(atoms.elements)
    residues = np.array(atoms.atom_residues)
    groups: dict[int, list[int]] = {}
    for hydrogen in np.flatnonzero(elements == "H"):
        heavy = np.flatnonzero((residues == residues[hydrogen]) & (elements != "H"))
        if len(heavy) == 0:
            continue
        distances = np.linalg.norm(positions_nm[heavy] - positions_nm[hydrogen], axis=1)
        groups.setdefault(int(heavy[distances.argmin()]), []).append(int(hydrogen))
    return tuple((heavy, *hydrogens) for heavy, hydrogens in sorted(groups.items()))


class _FrameValues:
    """Hands out what stands in the per-frame arrays for the next frames."""

    def __init__(self, arrays: FrameArrays, solute: Solute, settings: ImportSettings) -> None:
        self._used = 0
        self._forces = None
        self._atoms = np.arange(solute.topology.n_atoms)
        if arrays.forces is not None:
            self._forces = load_array(arrays.forces)
            wanted = (solute.topology.n_atoms, solute.file_atoms)
            if self._forces.ndim != 3 or self._forces.shape[1] not in wanted:
                raise InputError(
                    f"{arrays.forces} has shape {self._forces.shape}; wanted is (frames, atoms, 3) "
                    f"with {wanted[1]} atoms as in the topology, or the {wanted[0]} of the solute"
                )
            if self._forces.shape[1] == solute.file_atoms:
                self._atoms = solute.indices
            self._factor = force_factor(settings.energy_unit or "", settings.length_unit or "")
        self._weights = read_weights(arrays.weights)
        self._segments = None
        if arrays.segments is not None:
            length = len(load_array(arrays.segments))
            self._segments = read_segments(arrays.segments, length, settings.time_step_ps)
        given = {"forces": self._forces, "weights": self._weights, "segments": self._segments}
        self._lengths = {name: len(array) for name, array in given.items() if array is not None}

    def next(self, frames: int) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """Return forces (kJ/mol/nm), weights and segments of the next frames."""
        rows = slice(self._used, self._used + frames)
        self._used += frames
        for name, length in self._lengths.items():
            if length < self._used:
                raise InputError(
                    f"--{name} has {length} frames, but the trajectory has at least {self._used}; "
                    "wanted is one entry for each frame of all files in order"
                )
        forces = None
        if self._forces is not None:
            forces = (self._forces[rows][:, self._atoms] * self._factor).astype(np.float32)
        weights = None if self._weights is None else self._weights[rows]
        segments = None if self._segments is None else self._segments[rows]
        return forces, weights, segments

    def require_used_up(self) -> None:
        """Raise InputError where an array is longer than the trajectory."""
        for name, length in self._lengths.items():
            if length > self._used:
                raise InputError(
                    f"--{name} has {length} frames, but the trajectory has {self._used}; "
                    "wanted is one entry for each frame of all files in order"
                )


def _append_file(
    dataset: Dataset,
    source: Path,
    topology: Path,
    solute: Solute,
    values: _FrameValues,
    clock: FileClock,
    label: ShardLabel,
) -> None:
    """Append one file, a shard a chunk; ``label`` is that of all of them but for its name."""
    highest: int | None = None  # segment of the chunk before
    for chunk, (positions, times) in enumerate(
        iterate_trajectory(source, topology, solute, SHARD_FRAMES)
    ):
        if chunk == 0 and label.save_interval_ps is None:
            _say_no_time_step(source, times)
        forces, weights, segments = values.next(len(positions))
        if segments is None:
            segments = np.zeros(len(positions), dtype=np.int64)
        clock.check(times, segments)
        try:
            frames = AtomFrames(
                solute.topology, positions, segments, label.save_interval_ps, forces, weights
            )
            _require_whole_chains(frames, solute)
        except InputError as error:
            where = f", from frame {chunk * SHARD_FRAMES} on" if chunk else ""
            raise InputError(f"{source}{where}: {error}") from error
        # Readers take the segments of a shard in the order of their ids: only these two can meet.
        continues = highest == int(segments.min())
        highest = int(segments.max())
        named = replace(label, name=f"{label.name}-{chunk:03d}", continues=continues)
        if dataset.header.atoms is not None:
            dataset.append_atoms(named, frames)
        else:
            dataset.append_beads(
                named,
                map_frames(
                    frames,
                    solute.beads,
                    solute.bead_atoms,
                    label.force_map,
                    label.constraint_groups,
                ),
            )


def _label(
    settings: ImportSettings, arrays: FrameArrays, force_map: str, groups: Groups = ()
) -> ShardLabel:
    return ShardLabel(
        name="import",
        source="import",
        hamiltonian=settings.hamiltonian,
        temperature_K=settings.temperature_K,
        save_interval_ps=settings.time_step_ps,
        constraint_groups=tuple(tuple(group) for group in groups),
        force_map=force_map if arrays.forces is not None else None,
        sampling="reweighted" if arrays.weights is not None else "equilibrium",
    )


def _require_whole_chains(frames: AtomFrames, solute: Solute) -> None:
    """Refuse chain breaks, and molecules that are still broken at a periodic wall."""
    alpha = frames.positions_nm[:, list(solute.bead_atoms)]
    for i, j in solute.beads.bonds:
        distances = np.linalg.norm(alpha[:, j] - alpha[:, i], axis=1)
        far = int(distances.argmax())
        if distances[far] > LONGEST_BOND_NM:
            first, second = (
                f"{solute.beads.residues[k]}{solute.beads.residue_numbers[k]}" for k in (i, j)
            )
            raise InputError(
                f"the C-alpha atoms of {first} and {second} are {distances[far]:.2f} nm apart in "
                f"frame {far}: a chain break (add the missing residues or name them another "
                "chain), or a molecule that is not whole (unwrap the trajectory)"
            )


def _say_no_time_step(source: Path, times_ps: np.ndarray) -> None:
    step = even_step(times_ps) if has_times(source) else None
    hint = f" (the file says {step:g} ps)" if step is not None else ""
    logger.info(
        "%s: without --time-step-ps its frames have no order in time%s; trajgen train needs one",
        source,
        hint,
    )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    with whole_folder(out) as folder:
        folder.rmdir()  # the store makes it itself
        yield folder
